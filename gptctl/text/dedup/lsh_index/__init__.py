"""Duplicate documents by datasketch's MinHashLSH index, in memory or in Redis."""
