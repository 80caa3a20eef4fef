"""Division of documents into train, val and test, so that no near-duplicate is on two sides.

facts.py reads what the division of a document depends on, units.py finds the documents that stay together, quotas.py
and assignment.py decide which split each unit belongs to, and divide.py writes the splits.
"""
