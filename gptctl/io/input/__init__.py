"""Input: from what the user names to documents.

find.py finds files, inputs.py divides them into shard tasks (blocks.py), and read_task.py reads one. The files
documents_from_*.py make documents of what a format returns. predictions.py reads predictions for eval.
"""
