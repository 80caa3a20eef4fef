"""What --dry-run says about a training run before it starts: memory, time and layout.

estimate.py and gpu_specs.py compute, simulate_step.py runs one step without memory, plan_run.py puts both together.
plan_table.py and preset_table.py show the results.
"""
