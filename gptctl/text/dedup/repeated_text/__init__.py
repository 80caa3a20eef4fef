"""Lines, paragraphs and passages that occurred earlier in any document: find them and cut them out."""
