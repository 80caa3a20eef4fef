"""What a training run needs, in closed form: no GPU, no torch, no data. Used by --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gptctl.model.config import ModelConfig
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.planning.gpu_specs import EFFICIENCY, EFFICIENT_LINK, GPU_SPECS, Accelerator
from gptctl.train.recipe import Recipe
from gptctl.train.schedule import samples_after

FLOAT_BYTES = 4  # parameters and gradients are kept in single precision
STATE_BYTES = {"fp32": 4, "bf16": 2}  # of a number that an optimizer keeps, by training.optimizer_state_dtype
# Copies of constants from modules that import torch; a test compares them.
BUCKET_BYTES = 25 * 2**20  # collectives.BUCKET_BYTES
BUCKETS_IN_FLIGHT = 2  # collectives.BUCKETS_IN_FLIGHT
WHOLE_LOGITS = 2**21  # above this many, logits are computed in chunks: cross_entropy.MIN_FUSED_LOGITS
CHUNK_ROWS, CUDA_CHUNK_ROWS = 256, 4096  # those of cross_entropy
LOGIT_COPIES = 3  # of a chunk: logits, log-probabilities or the gradient, and those of the chunk before
MEMORY_SHARE = 0.85  # share of a device's memory that a run may take; buffers and fragmentation take the rest
MIN_EVAL_BATCH = 32  # sequences per forward pass of an evaluation, if they fit: it keeps nothing for a backward pass


@dataclass(frozen=True)
class Layout:
    """How ranks share a model, on how many nodes, and in which number formats."""

    dims: ParallelDims = field(default_factory=ParallelDims)
    strategy: str = "single"  # only shown, never tested
    nodes: int = 1
    bf16: bool = False  # matrix products
    bf16_master: bool = False  # the model, of which optimizers update a copy in fp32
    on_gpu: bool = False


def estimate(
    model: ModelConfig,
    recipe: Recipe,
    layout: Layout | None = None,
    micro_batch_size: int = 0,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Return the size of a run: parameters, and tokens, FLOPs, memory and communication of each step.

    FLOPs: 6 per token and weight that is multiplied with, forward and backward (Kaplan et al. 2020, "Scaling Laws",
    2.1), plus 12 * layers * hidden_size * seq_len per token for attention, halved because of the causal mask; a layer
    with a sliding window attends to its window. With an `accelerator` the result also has seconds_per_step, the total
    hours, and whether memory suffices.
    """
    layout = layout or Layout()
    tokens = recipe.batch_size * recipe.seq_len
    share = -(-recipe.batch_size // layout.dims.dp_size)
    micro = min(micro_batch_size or share, share)
    micro_batches = -(-share // micro)
    flops = tokens * flops_per_token(model, recipe.seq_len)
    memory = memory_parts(model, recipe, layout, micro)
    traffic = bytes_sent(model, layout, micro_batches, share * recipe.seq_len)
    found: dict[str, Any] = {
        "parameters": model.parameters(),
        "active_parameters": model.active_parameters(),
        "ranks": layout.dims.world_size,
        "parallel": layout.strategy if layout.dims.world_size > 1 else "single",
        "steps": recipe.steps,
        "micro_batch_size": micro,
        "micro_batches": micro_batches,
        "tokens_per_step": tokens,
        "tokens": samples_after(recipe, recipe.steps) * recipe.seq_len,
        "flops_per_step": flops,
        "memory_bytes_per_rank": sum(memory.values()),
        "memory": memory,
        "bytes_communicated": traffic,
    }
    if accelerator:
        found |= on_hardware(found, layout, accelerator)
    return found


def choose_layout(
    model: ModelConfig, recipe: Recipe, layouts: Sequence[Layout], micro_batch_size: int, memory: float
) -> tuple[Layout, int]:
    """Return the layout and the micro-batch size for devices with so many bytes of memory.

    The layout is the first that fits with the smallest micro-batch, else the last. A `micro_batch_size` of 0 takes the
    largest that fits of a rank's whole share of a batch, its half, its quarter and so on.
    """

    def fits(layout: Layout, micro: int) -> bool:
        return sum(memory_parts(model, recipe, layout, micro).values()) <= MEMORY_SHARE * memory

    layout = next((layout for layout in layouts if fits(layout, micro_batch_size or 1)), layouts[-1])
    micro = micro_batch_size or -(-recipe.batch_size // layout.dims.dp_size)
    while not micro_batch_size and micro > 1 and not fits(layout, micro):
        micro = -(-micro // 2)
    return layout, micro


def choose_eval_batch(model: ModelConfig, recipe: Recipe, layout: Layout, micro: int, memory: float) -> int:
    """Return the sequences per forward pass of an evaluation: the micro-batch or MIN_EVAL_BATCH, or fewer if need be.

    An evaluation holds the weights, the optimizer's state and the activations of one block.
    """
    parts = memory_parts(model, recipe, layout, micro)
    held = parts["weights"] + parts["rounded weights"] + parts["optimizer"] + parts["gathered"]
    per_token = block_bytes(model, recipe, layout) + 2 * stream_bytes(layout) * model.hidden_size

    def fits(size: int) -> bool:
        tokens = size * recipe.seq_len
        logits = logit_bytes(model, layout, tokens)
        return held + tokens * per_token + logits <= MEMORY_SHARE * memory

    size = max(MIN_EVAL_BATCH, micro)
    while size > 1 and not fits(size):
        size = -(-size // 2)
    return size


def flops_per_token(model: ModelConfig, seq_len: int) -> int:
    """Count the floating-point operations of one token, forward and backward pass."""
    weights = model.matrix_parameters() + model.vocab_size * model.hidden_size
    attended = sum(min(model.layer_window(layer) or seq_len, seq_len) for layer in range(model.layers))
    return 6 * weights + 6 * model.query_size * attended


def memory_parts(model: ModelConfig, recipe: Recipe, layout: Layout, micro: int) -> dict[str, int]:
    """Count the bytes that one rank holds at the peak, part by part."""
    parameters = parameters_per_rank(model, layout.dims)
    gathered = 0
    if layout.dims.dp_shard > 1 or (layout.bf16_master and layout.dims.tp > 1):
        # The full parameters of one block and of the next one, which is prefetched, and the block's gradients before
        # they are reduced and scattered. The root (embeddings, head, last norm) stays gathered from the forward to the
        # backward pass.
        block = model.count_matrix_parameters(model.experts) // model.layers // layout.dims.tp
        tables = vocabulary_parameters(model)
        root = model.other_parameters() - tables + tables // layout.dims.tp
        root_bytes = 2 if layout.bf16_master else FLOAT_BYTES
        gathered = 2 * block * (2 if layout.bf16 else FLOAT_BYTES) + FLOAT_BYTES * block + 2 * root_bytes * root
    state = STATE_BYTES[recipe.optimizer_state_dtype] * optimizer_floats(model, recipe)
    rounded = 2 * parameters if layout.bf16_master and layout.dims.is_replicated else 0
    activations = activation_bytes(model, recipe, layout, micro * recipe.seq_len)
    copies = autocast_bytes(model, layout, micro * recipe.seq_len)
    return {
        "weights": FLOAT_BYTES * parameters,
        "gradients": FLOAT_BYTES * parameters,
        "rounded weights": rounded,
        "optimizer": state * parameters // model.parameters(),
        "gathered": gathered,
        "buckets": bucket_bytes(model, layout, parameters) if layout.dims.world_size > 1 else 0,
        "activations": activations,
        "copies in bf16": copies,
        "optimizer step": max(0, muon_step_bytes(model, recipe, layout) - activations - copies),
    }


def autocast_bytes(model: ModelConfig, layout: Layout, tokens: int) -> int:
    """Count the bytes of the bfloat16 copies of matrices that autocast makes, and keeps until the backward pass.

    Blocks that fsdp gathers are in bfloat16 already.
    """
    if not layout.bf16 or layout.bf16_master:
        return 0
    blocks = 0 if layout.dims.dp_shard > 1 else model.count_matrix_parameters(model.experts) // layout.dims.tp
    return 2 * (blocks + vocabulary_rows(model, layout) * model.hidden_size)


def bucket_bytes(model: ModelConfig, layout: Layout, parameters: int) -> int:
    """Count the bytes of the buckets of gradients in flight, one of which may end with the largest tensor."""
    hidden = model.hidden_size * model.intermediate_size * max(1, model.experts)
    largest = FLOAT_BYTES * max(vocabulary_rows(model, layout) * model.hidden_size, hidden)
    return min(BUCKETS_IN_FLIGHT * BUCKET_BYTES + largest, FLOAT_BYTES * parameters)


def muon_step_bytes(model: ModelConfig, recipe: Recipe, layout: Layout) -> int:
    """Count the bytes that Muon's step takes for the matrices of one shape, which it updates together.

    These are their directions and updates on every rank that holds them, and on the rank that orthogonalizes a matrix
    three more copies of it.
    """
    if recipe.optimizer != "muon":
        return 0
    square = 4 if model.resolved_kv_heads == model.heads else 2  # query, output, and key and value if they are as large
    wide = (2 if model.is_gated else 1) * model.intermediate_size * max(1, model.experts)
    group = FLOAT_BYTES * model.layers * model.hidden_size * max(square * model.query_size, wide)
    held = 2 * group if layout.dims.is_replicated else 2 * group // layout.dims.world_size
    return held + 3 * group // layout.dims.world_size


def parameters_per_rank(model: ModelConfig, dims: ParallelDims) -> int:
    """Count the parameters that one rank holds.

    Rows are sharded over dp_shard. So are the rows of experts, or else whole experts, over no more ranks than there are
    experts. Tensor parallelism splits the other matrices of a block first, and the rows of embedding and head.
    """
    dense = model.count_matrix_parameters(0)
    experts = model.count_matrix_parameters(model.experts) - dense
    split = dense + vocabulary_parameters(model)
    others = model.parameters() - experts - split + -(-split // dims.tp)
    divides_rows = model.intermediate_size % dims.dp_shard == model.hidden_size % dims.dp_shard == 0
    expert_ranks = dims.dp_shard if divides_rows else max(1, min(dims.dp_shard, model.experts))
    return -(-others // dims.dp_shard) + -(-experts // expert_ranks)


def vocabulary_parameters(model: ModelConfig) -> int:
    """Count the parameters of the embedding of tokens and of an untied head."""
    return model.vocab_size * model.hidden_size * (1 if model.tie_embeddings else 2)


def vocabulary_rows(model: ModelConfig, layout: Layout) -> int:
    """Count the rows of embedding and head that a rank computes with: its part of them with tensor parallelism."""
    return -(-model.padded_vocab_size // layout.dims.tp)


def chunks_logits(model: ModelConfig, layout: Layout, tokens: int) -> bool:
    """Return whether logits are computed in chunks: if they are many, and always with tensor parallelism."""
    return layout.dims.tp > 1 or tokens * model.padded_vocab_size >= WHOLE_LOGITS


def optimizer_floats(model: ModelConfig, recipe: Recipe) -> int:
    """Count the numbers that an optimizer keeps: two per parameter for Adam, one per hidden matrix entry for Muon."""
    # Adam trains routers and the gates of shared experts beside Muon.
    gates = model.experts + bool(model.experts and model.shared_expert_intermediate_size)
    routers = model.layers * gates * model.hidden_size
    muon = model.count_matrix_parameters(model.experts) - routers if recipe.optimizer == "muon" else 0
    return 2 * model.parameters() - muon


def activation_bytes(model: ModelConfig, recipe: Recipe, layout: Layout, tokens: int) -> int:
    """Count the bytes that one forward pass of `tokens` tokens keeps for the backward pass.

    The gradient of the head's matrix is kept apart while logits are computed chunk by chunk.
    """
    stream = stream_bytes(layout)
    per_block = block_bytes(model, recipe, layout)
    blocks = model.layers * per_block
    if recipe.checkpoint_activations:
        blocks = model.layers * stream * model.hidden_size + per_block
    rows = vocabulary_rows(model, layout) if chunks_logits(model, layout, tokens) else 0
    head = FLOAT_BYTES * rows * model.hidden_size  # the gradient of its chunks
    return tokens * (blocks + 2 * stream * model.hidden_size) + logit_bytes(model, layout, tokens) + head


def stream_bytes(layout: Layout) -> int:
    """Count the bytes of an entry of the residual stream."""
    return 2 if layout.bf16_master else FLOAT_BYTES


def logit_bytes(model: ModelConfig, layout: Layout, tokens: int) -> int:
    """Count the bytes of the logits that exist at the same time, and of their gradient.

    These are all logits if they are few, else LOGIT_COPIES of a chunk. On a GPU, what is computed in single
    precision between products in bfloat16 is compiled, and never stored, except with tensor parallelism.
    """
    columns = vocabulary_rows(model, layout)
    if not chunks_logits(model, layout, tokens):
        return 2 * FLOAT_BYTES * tokens * columns
    rows = min(tokens, CUDA_CHUNK_ROWS if layout.on_gpu else CHUNK_ROWS)
    is_compiled = layout.on_gpu and layout.bf16 and layout.dims.tp == 1
    return LOGIT_COPIES * (2 if is_compiled else FLOAT_BYTES) * rows * columns


def block_bytes(model: ModelConfig, recipe: Recipe, layout: Layout) -> int:
    """Count the bytes per token that a block keeps for the backward pass.

    These are the inputs of both norms (in single precision, except with bf16-master), the inputs of both sublayers, q,
    k, v, the attention's output, and the feed-forward hidden layer before and after its activation function (of each
    expert that a token is routed to). Attention weights are recomputed. In bf16, which is for GPUs, blocks are
    compiled: they keep the output of the attention sublayer in place of the second norm's input, and gate, up and their
    product of SwiGLU.
    """
    narrow = 2 if layout.bf16 else FLOAT_BYTES
    tp = layout.dims.tp
    keys, queries = model.resolved_kv_heads * model.resolved_head_dim, model.query_size
    # relu's gradient needs only its output.
    kept = (3 if layout.bf16 else 4) if model.is_gated else 1 if model.activation == "relu" else 2
    hidden = model.intermediate_size * kept
    if model.experts:
        hidden = model.experts_per_token * (hidden + 2 * model.hidden_size)
        hidden += kept * model.shared_expert_intermediate_size
    inside = 2 * (queries + keys) + (queries + keys if model.qk_norm else 0) + hidden
    if model.attention_dropout and not layout.bf16:  # the CPU has no fused kernel: weights, mask and product are kept
        inside += 3 * model.heads * recipe.seq_len
    dropout = 2 * model.hidden_size if model.dropout else 0
    norms = stream_bytes(layout) + (narrow if layout.bf16 else stream_bytes(layout))
    if model.norm_position == "pre_and_output":
        norms *= 2
    return norms * model.hidden_size + narrow * (2 * model.hidden_size + inside // tp + dropout)


def bytes_sent(model: ModelConfig, layout: Layout, micro_batches: int, tokens: int) -> int:
    """Count the bytes that one rank sends in a step.

    A ring of N ranks sends 2 (N - 1) / N times the size of an all-reduce, and half of that for an all-gather or a
    reduce-scatter (Patarasuk and Yuan 2009). With dp_shard each micro-batch gathers all parameters twice and
    reduce-scatters their gradients once; dp_replicate sums the gradients that a rank holds. Tensor parallelism sums
    the hidden states after both sublayers of a block, forward and backward, the embeddings, and the gradient of the
    head's input (Shoeybi et al. 2019, "Megatron-LM", 3).
    """
    dims = layout.dims
    shards, copies = dims.dp_shard, dims.dp_replicate
    parameters = FLOAT_BYTES * parameters_per_rank(model, dims) * shards
    narrow = parameters // 2 if layout.bf16 else parameters
    sent = micro_batches * (2 * narrow + parameters) * (shards - 1) // shards
    sent += 2 * (copies - 1) * parameters // shards // copies
    hidden = tokens * model.hidden_size * (2 if layout.bf16 else FLOAT_BYTES)
    return sent + (4 * model.layers + 2) * 2 * (dims.tp - 1) * hidden // dims.tp


def on_hardware(found: dict[str, Any], layout: Layout, accelerator: Accelerator) -> dict[str, Any]:
    """Return time and fit on an accelerator: computation, and the communication that does not overlap with it."""
    gpu, dims = GPU_SPECS[accelerator], layout.dims
    computing = found["flops_per_step"] / dims.world_size / (gpu.flops * EFFICIENCY)
    speed = gpu.network if layout.nodes > 1 else gpu.link
    sending = found["bytes_communicated"] / (speed * EFFICIENT_LINK)
    # Gathering shards overlaps with computation. The all-reduces of ddp and tp do not.
    overlaps = dims.dp_shard > 1 and dims.tp == 1
    seconds = max(computing, sending) if overlaps else computing + sending
    return {
        "accelerator": accelerator,
        "assumed_efficiency": EFFICIENCY,
        "assumed_link": "between machines" if layout.nodes > 1 else "inside a machine",
        "assumed_bytes_per_second": speed * EFFICIENT_LINK,
        "seconds_per_step": seconds,
        "hours": seconds * found["steps"] / 3600,
        "tokens_per_second": found["tokens_per_step"] / seconds,
        "fits": found["memory_bytes_per_rank"] <= MEMORY_SHARE * gpu.memory,
    }
