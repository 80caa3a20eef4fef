"""What data commands write and read again: datasets and streams.

shards.py writes the Arrow files and manifest.py the list of them. schema.py has the columns, stream.py the form in a
pipe, and tokens.py maps shards of tokens for training.
"""
