"""Duplicate documents: signatures, candidate pairs that share a key, exact verification, clusters, what is removed."""
