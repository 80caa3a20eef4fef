"""What data commands write and read again: datasets and streams.

shards.py and manifest.py are the two kinds of files, schema.py is the columns, stream.py is the same data in a pipe,
and tokens.py maps shards of tokens for training.
"""
