"""Running a model on evaluation data: load it, run a task on every document, cache the outputs."""
