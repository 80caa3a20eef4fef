"""Models as Hugging Face's transformers writes them: its names of tensors and of settings, there and back."""
