"""Functions over batches of text: Arrow and numpy in, Arrow and numpy out. Files are opened for dedup's passes only,
and for what a setting names: a chat template, lists of domains."""
