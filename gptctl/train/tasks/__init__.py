"""Tasks: what pretraining and each kind of finetuning make of their data, as the parts of a TrainJob.

pretraining.py and its options belong to pretrain. chat.py, classify.py and lm.py are what `finetune --task` names.
These are not plug-ins, unlike the evaluation tasks in gptctl/evals/tasks.
"""
