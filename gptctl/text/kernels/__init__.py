"""Loops over the bytes of many documents, compiled by numba: what Arrow's and numpy's own operations cannot express.

Functions take the data and offsets of an Arrow string column and numpy arrays for their results. They trust that the
text is valid UTF-8, which Arrow has verified. Compiled code is kept beside the source, or in the user's cache folder.
"""
