"""Deduplication: of whole documents, exactly or by MinHash, and of repeated text within documents."""
