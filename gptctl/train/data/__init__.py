"""Training data: data sources, which give batches for sample indices.

data_source.py is the contract, mixture.py mixes sources. Pretraining reads token_windows.py or packed_documents.py, and
finetuning conversations.py or labelled_texts.py. permutation.py is the random order.
"""
