"""Loops over the bytes of many documents, compiled by numba, for what Arrow and numpy cannot do.

A kernel takes the data and offsets of an Arrow string column, and numpy arrays that it fills with its results. It
assumes that the text is valid UTF-8, which Arrow has checked. Compiled code is stored beside the source or in the
user's cache folder.
"""
