"""Tasks: what pretraining and each kind of finetuning make of their data, as the parts of a TrainJob."""
