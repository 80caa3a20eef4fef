"""Training, from the options of a run to its checkpoints.

train(job)              chooses the strategy, which calls train_rank() once per rank (loop.py)
  train_rank(...)       sets up (setup.py), then runs the loop
    run_loop(...)       alternates steps, evaluations and checkpoints until a budget is used up
      train_step(...)   one update (step.py); a faulty one is handled in fault_handling.py
      evaluate(...)     metrics on the val split (evaluation.py)

The learning rate: --lr sets training.lr (tasks/), which job.recipe holds (recipe.py). Each parameter group of an
optimizer keeps it as peak_lr (optimizers/). update_parameters() in step.py multiplies it by lr_factor() of schedule.py.
"""
