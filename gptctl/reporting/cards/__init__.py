"""Cards for the Hugging Face hub: a README.md with metadata, for a model and for a dataset."""
