"""What a training run needs, in closed form: no GPU, no torch, no data. For --dry-run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gptctl.model.config import ModelConfig
from gptctl.train.planning.gpu_specs import ACCELERATORS, EFFICIENCY, EFFICIENT_LINK, Accelerator
from gptctl.train.recipe import Recipe
from gptctl.train.schedule import samples_after

FLOAT_BYTES = 4  # parameters, gradients and optimizer state are kept in single precision
# Written down again, because these modules import torch; a test compares them.
BUCKET_BYTES = 2 * 25 * 2**20  # two buckets of gradients under way at once: collectives.BUCKET_BYTES
WHOLE_LOGITS = 2**21  # more of them are made in chunks: cross_entropy.PAYS
CHUNK_ROWS = 256  # cross_entropy.ROWS
ROOM_SHARE = 0.85  # of a device's memory that a model may take; buffers and fragments take the rest


@dataclass(frozen=True)
class Layout:
    """How `ranks` processes share a model: a file in strategies/, and over what."""

    ranks: int = 1
    parallel: str = "ddp"
    tensor_parallel: int = 1
    nodes: int = 1
    shard_within_node: bool = False
    bf16: bool = False

    @property
    def groups(self) -> int:
        """How many groups of ranks read different samples."""
        return self.ranks // self.tensor_parallel if self.parallel == "tp" else self.ranks

    @property
    def row_shards(self) -> int:
        """Over how many ranks the rows of each parameter are spread."""
        if self.parallel == "ddp":
            return 1
        return self.groups // (self.nodes if self.parallel == "fsdp" and self.shard_within_node else 1)

    @property
    def matrix_shards(self) -> int:
        """Into how many parts a block's matrices are cut before their rows are spread."""
        return self.tensor_parallel if self.parallel == "tp" else 1


def estimate(
    model: ModelConfig,
    recipe: Recipe,
    layout: Layout | int = 1,
    micro_batch_size: int = 0,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Return parameters, tokens_per_step, flops_per_step, memory_bytes_per_rank and bytes_communicated per step
    and rank.

    FLOPs: 6 per token and weight that is multiplied with, forward and backward (Kaplan et al. 2020, "Scaling Laws",
    2.1), plus 12 * layers * width * seq_len per token for attention, halved because of the causal mask; a banded layer
    sees its band. With an `accelerator` also seconds_per_step, total hours, and whether memory suffices.
    """
    if isinstance(layout, int):
        layout = Layout(layout)
    tokens = recipe.batch_size * recipe.seq_len
    share = -(-recipe.batch_size // layout.groups)
    micro = min(micro_batch_size or share, share)
    micro_batches = -(-share // micro)
    flops = tokens * flops_per_token(model, recipe.seq_len)
    memory = memory_parts(model, recipe, layout, micro)
    traffic = bytes_sent(model, layout, micro_batches, share * recipe.seq_len)
    found: dict[str, Any] = {
        "parameters": model.parameters(),
        "active_parameters": model.active_parameters(),
        "ranks": layout.ranks,
        "parallel": layout.parallel if layout.ranks > 1 else "single",
        "steps": recipe.steps,
        "micro_batch": micro,
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


def arrange(
    model: ModelConfig, recipe: Recipe, layout: Layout, micro_batch_size: int, memory: float
) -> tuple[Layout, int]:
    """Resolve what is left open for devices of so many bytes: parallel "auto", and a micro-batch of 0.

    ddp, which communicates least, where the model fits with one sequence at a time, else fsdp; the largest micro-batch
    that fits of a rank's whole share, its half, its quarter and so on.
    """

    def fits(layout: Layout, micro: int) -> bool:
        return sum(memory_parts(model, recipe, layout, micro).values()) <= ROOM_SHARE * memory

    if layout.parallel == "auto":
        layout = replace(layout, parallel="ddp")
        if layout.ranks > 1 and not fits(layout, micro_batch_size or 1):
            layout = replace(layout, parallel="fsdp")
    micro = micro_batch_size or -(-recipe.batch_size // layout.groups)
    while not micro_batch_size and micro > 1 and not fits(layout, micro):
        micro = -(-micro // 2)
    return layout, micro


def flops_per_token(model: ModelConfig, seq_len: int) -> int:
    """Count the floating-point operations of one token, forward and backward."""
    weights = model.matrix_parameters() + model.vocab_size * model.hidden_size
    attended = sum(min(model.layer_window(layer) or seq_len, seq_len) for layer in range(model.layers))
    return 6 * weights + 6 * model.hidden_size * attended


def memory_parts(model: ModelConfig, recipe: Recipe, layout: Layout, micro: int) -> dict[str, int]:
    """Count the bytes that one rank holds at its fullest, part by part."""
    parameters = held(model, model.parameters(), layout)
    gathered = 0
    if layout.row_shards > 1:
        # A block's whole parameters, those of the next one under way, and its gradients before they are spread;
        # the root (embeddings, head, last norm) stays whole from the forward to the backward pass.
        block = model.count_matrices(model.experts) // model.layers // layout.matrix_shards
        root = model.other_parameters()
        gathered = (2 * block) * (2 if layout.bf16 else FLOAT_BYTES) + FLOAT_BYTES * (block + 2 * root)
    state = optimizer_floats(model, recipe)
    return {
        "weights": FLOAT_BYTES * parameters,
        "gradients": FLOAT_BYTES * parameters,
        "optimizer": FLOAT_BYTES * (state * parameters // model.parameters()),
        "gathered": gathered,
        "buckets": min(BUCKET_BYTES, FLOAT_BYTES * parameters) if layout.ranks > 1 else 0,
        "activations": activation_bytes(model, recipe, layout, micro * recipe.seq_len),
    }


def held(model: ModelConfig, parameters: int, layout: Layout) -> int:
    """Count the parameters that one rank holds of all.

    Rows are spread, and stacked experts one by one, so no further than there are experts; tensor parallel cuts the
    other matrices of a block before.
    """
    dense = model.count_matrices(0)
    experts = model.count_matrices(model.experts) - dense
    others = parameters - experts - dense + dense // layout.matrix_shards
    return -(-others // layout.row_shards) + -(-experts // max(1, min(layout.row_shards, model.experts)))


def optimizer_floats(model: ModelConfig, recipe: Recipe) -> int:
    """Count the numbers an optimizer keeps: two per parameter for Adam, one per hidden matrix entry for Muon."""
    adam = 2 * model.parameters()
    return adam - model.count_matrices(model.experts) if recipe.optimizer == "muon" else adam


def activation_bytes(model: ModelConfig, recipe: Recipe, layout: Layout, tokens: int) -> int:
    """Count what one forward pass of `tokens` tokens keeps for the backward pass; attention weights are computed again.

    Per block and token: the inputs of both norms (in single precision), of both parts, q, k, v and the attention's
    output, and the feed-forward part's hidden layer before and after its non-linearity (of each expert that a token
    takes). Logits and their gradient are held once each where they are few, else chunk by chunk.
    """
    narrow = 2 if layout.bf16 else FLOAT_BYTES
    cut = layout.matrix_shards
    keys = model.resolved_kv_heads * model.head_dim
    hidden = model.intermediate_size * {"swiglu": 4, "relu": 1}.get(
        model.activation, 2
    )  # relu's result tells its slope
    if model.experts:
        hidden = model.experts_per_token * (hidden + 2 * model.hidden_size)
    inside = 2 * (model.hidden_size + keys) + (model.hidden_size + keys if model.qk_norm else 0) + hidden
    if model.attention_dropout and not layout.bf16:  # no fused kernel on the CPU: weights, mask and product are kept
        inside += 3 * model.heads * recipe.seq_len
    dropout = 2 * model.hidden_size if model.dropout else 0
    per_block = 2 * FLOAT_BYTES * model.hidden_size + narrow * (2 * model.hidden_size + inside // cut + dropout)
    blocks = model.layers * per_block
    if recipe.checkpoint_activations:
        blocks = model.layers * FLOAT_BYTES * model.hidden_size + per_block
    whole = tokens * model.padded_vocab_size
    logits = whole if whole < WHOLE_LOGITS else min(whole, CHUNK_ROWS * model.padded_vocab_size)
    head = 0 if whole < WHOLE_LOGITS else model.padded_vocab_size * model.hidden_size  # the gradient of its chunks
    return tokens * (blocks + 2 * FLOAT_BYTES * model.hidden_size) + FLOAT_BYTES * (2 * logits + head)


def bytes_sent(model: ModelConfig, layout: Layout, micro_batches: int, tokens: int) -> int:
    """Count the bytes that one rank sends in a step.

    A ring of N sends 2 (N - 1) / N times what it adds up, and half of that to gather or to spread it (Patarasuk and
    Yuan 2009). Fully sharded, each micro-batch gathers all parameters twice and spreads their gradients once. Tensor
    parallel adds up the hidden states after both parts of a block, forward and backward (Shoeybi et al. 2019,
    "Megatron-LM", 3).
    """
    everything = FLOAT_BYTES * model.parameters()
    if layout.parallel == "ddp":
        return 2 * (layout.ranks - 1) * everything // layout.ranks
    shards = layout.row_shards
    parameters = FLOAT_BYTES * held(model, model.parameters(), layout) * shards
    narrow = parameters // 2 if layout.bf16 else parameters
    sent = micro_batches * (2 * narrow + parameters) * (shards - 1) // shards
    if layout.parallel == "fsdp" and layout.shard_within_node and layout.nodes > 1:
        sent += 2 * (layout.nodes - 1) * parameters // shards // layout.nodes
    if layout.parallel == "tp":
        size = layout.tensor_parallel
        hidden = tokens * model.hidden_size * (2 if layout.bf16 else FLOAT_BYTES)
        sent += 4 * model.layers * 2 * (size - 1) * hidden // size
    return sent


def on_hardware(found: dict[str, Any], layout: Layout, accelerator: Accelerator) -> dict[str, Any]:
    """Return seconds and fit on so many of an accelerator: computing, then the part of sending that nothing hides."""
    facts = ACCELERATORS[accelerator]
    computing = found["flops_per_step"] / layout.ranks / (facts.flops * EFFICIENCY)
    speed = facts.network if layout.nodes > 1 else facts.link
    sending = found["bytes_communicated"] / (speed * EFFICIENT_LINK)
    # Fully sharded gathers run beside the computation; the sums of ddp and tp stand between its parts.
    seconds = max(computing, sending) if layout.parallel == "fsdp" else computing + sending
    return {
        "accelerator": accelerator,
        "assumed_efficiency": EFFICIENCY,
        "seconds_per_step": seconds,
        "hours": seconds * found["steps"] / 3600,
        "tokens_per_second": found["tokens_per_step"] / seconds,
        "fits": found["memory_bytes_per_rank"] <= ROOM_SHARE * facts.memory,
    }
