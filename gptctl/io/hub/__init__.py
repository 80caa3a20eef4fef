"""Repositories of the Hugging Face hub as inputs: hf://datasets/OWNER/NAME and hf://OWNER/MODEL.

uri.py parses such a URI, client.py makes all requests, through huggingface_hub, data_files.py finds the data of a
repository and its splits, models.py downloads a model, and pin.py resolves the revisions that a command line names.
Nothing of huggingface_hub is imported unless a command is given such a URI.
"""
