"""Ways to run the same shard tasks: run(function, items, workers) yields the answers in the order of the items."""
