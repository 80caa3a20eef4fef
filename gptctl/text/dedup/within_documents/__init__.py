"""Repeated lines, paragraphs and passages: their keys, finding repeats in all documents, and removing them."""
