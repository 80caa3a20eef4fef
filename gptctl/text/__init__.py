"""Cleaning, filters, deduplication and tokenization: functions over batches of text, as Arrow tables and numpy arrays.

Most functions take and return data in memory. The tasks of cleaning, deduplication and tokenization also read and write
files, and some functions read a file that a setting names, such as a chat template or a list of domains.
"""
