"""Shard tasks: run them on an executor, keep their results, and finish the dataset.

shard_pipeline.py runs the tasks of a command, and dataset_output.py, task_results.py and finalize.py make its output.
open_output.py opens OUT. shuffle.py, sorted_runs.py, document_cache.py and scratch.py pass data between tasks.
data_splits.py reads the splits of DATA for finetune and eval.
"""
