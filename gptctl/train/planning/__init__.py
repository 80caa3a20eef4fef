"""What is known about a training run before it starts: memory, time, layout, and the best model for a budget.

estimate.py computes it in closed form, with the numbers in gpu_specs.py. simulate_step.py checks it by one step without
memory. plan_run.py combines both. plan_table.py and preset_table.py show the results. compute_optimal.py chooses a
model and a recipe for a time, a size or a number of tokens.
"""
