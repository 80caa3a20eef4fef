"""Deduplication: drop duplicate documents, or cut repeated text out of documents.

whole_documents/ finds duplicates exactly and by MinHash, lsh_index/ with datasketch's index. repeated_text/ removes
lines, paragraphs and passages that occurred earlier in any document.
"""
