"""What `gptctl clean` does with a document: extract text, filter, look for evaluation data, edit.

clean_task.py runs these steps on a shard task. filter_chain.py applies the filters of gptctl/text/filters, with rule.py
and document_batch.py, and explanation.py shows their figures. html.py extracts the text of web pages, in a child
process of gptctl/text/bounded_call.py. contamination.py finds evaluation texts.
"""
