"""Training data: data sources, which give a batch for any sample index.

data_source.py is the contract, and mixture.py mixes sources. token_windows.py and packed_documents.py are for language
models, conversations.py for chat models, and labelled_texts.py for classifiers. permutation.py is the random order, and
batch_reader.py reads ahead while a GPU trains.
"""
