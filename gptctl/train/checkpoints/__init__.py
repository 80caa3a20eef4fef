"""Checkpoints: RUN/checkpoints/step-000500/ appears complete or not at all, and is verified before it is used.

    config.json, tokenizer.json    with these the folder is a model folder, as load_model opens it
    model.safetensors              the weights
    optimizer.safetensors          tensors named INDEX.PARAMETER.KEY, e.g. 0.blocks.1.attention.key.weight.exp_avg
    shard-00001-...safetensors     instead of these two, one file per rank where the model is sharded
    state.json                     the run's progress: step, next sample, best loss, thread count and so on
    manifest.json                  size and checksum of each file

RUN/checkpoints/best holds the weights of the best evaluation, without an optimizer. Both layouts can be loaded by any
number of ranks with any strategy.
"""
