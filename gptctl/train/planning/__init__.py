"""What --dry-run says about a training run before it starts: memory, time and layout.

estimate.py computes it in closed form, with the numbers in gpu_specs.py. simulate_step.py checks it by one step without
memory. plan_run.py combines both. plan_table.py and preset_table.py show the results.
"""
