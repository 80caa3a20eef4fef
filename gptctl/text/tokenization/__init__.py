"""Tokenization: training and converting tokenizers, encoding documents, and dividing them into splits."""
