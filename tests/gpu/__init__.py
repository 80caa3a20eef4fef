"""Checks for a machine with one CUDA GPU: `bash tests/gpu/check.sh right|fast`.

packages.py finds or installs what is missing. check.py defines what a check is and runs all of them. The other files are
groups of checks: training.py, ranks.py, decoding.py and memory.py belong to "right"; speed.py, generation.py and
variants.py to "fast".
"""
