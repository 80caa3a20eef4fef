"""Several processes in one run: start them, place them, let them communicate.

launch.py, nodes.py and follow.py start ranks on one machine or several. options.py and parallel_dims.py place them.
collectives.py, base_strategy.py, replicated_parameters.py and sharded_strategy.py are the parts of which
gptctl/train/strategies is made.
"""
