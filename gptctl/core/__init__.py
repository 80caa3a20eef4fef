"""What every other package uses, without torch and pyarrow: config, errors, files, run folders, plug-ins.

config/ makes flags and checked values from config models. errors.py has the exit codes. atomic.py creates files.
run_folder.py, run_lock.py and run_record.py are the output folder of a run, and summary.py its result. plugins.py finds
plug-ins. formatting.py writes numbers, redact.py hides passwords.
"""
