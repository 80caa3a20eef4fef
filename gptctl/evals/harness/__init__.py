"""lm-evaluation-harness: run its tasks on a model, and write DATA as a task of it."""
