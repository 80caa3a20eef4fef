"""gptctl: one command-line tool from raw text to an evaluated GPT."""

__version__ = "0.1.0"
