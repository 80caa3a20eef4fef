"""Reading and writing data: files, input formats, datasets, object storage.

input/ reads what the user gives, with the formats in formats/. dataset/ is what commands write: shards, manifests, and
streams through pipes. object_storage/ holds outputs and inputs that are URIs. files.py opens files wherever they are.
lineage.py follows an output back to the raw files, and diagnose.py checks it.
"""
