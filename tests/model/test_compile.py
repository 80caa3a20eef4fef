"""Compiled blocks: whole graphs, and so few versions that torch keeps all of them, for every shape that a run has."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from gptctl.model.gpt import GPT, find_document_starts
from tests.model.test_gpt import make, some_tokens

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
# Batch size, whether it is trained on, and whether activations are recomputed: full and ragged micro-batches, a single
# sequence, and the same in evaluation.
SHAPES = [(4, True, False), (3, True, False), (1, True, False), (2, True, True), (4, False, False), (3, False, False)]
OTHERS = [(5, True, False), (6, True, True), (7, False, False), (1, False, False), (1, True, True), (4, True, False)]


def run(model: GPT, batch_size: int, trains: bool, checkpoints: bool, documents: bool) -> None:
    """Compute a loss, and its gradients if it is trained on."""
    model.train(trains)
    tokens = some_tokens(model, batch_size, 24)
    starts = find_document_starts(tokens[:, :-1], 7) if documents else None
    with torch.set_grad_enabled(trains), torch.autocast("cpu", torch.bfloat16):
        loss = model(
            tokens[:, :-1], targets=tokens[:, 1:], document_starts=starts, checkpoint_activations=checkpoints
        ).cross_entropy
    if trains:
        loss.backward()


@pytest.mark.slow
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern", "test-gpt3", "test-moe"])
def test_blocks_are_whole_graphs_that_are_not_compiled_again(preset: str, documents: bool) -> None:
    """No graph breaks; at most torch's limit of 8 versions; after one of each kind, other batch sizes add none."""
    model = make(preset)
    torch._dynamo.reset()
    counters.clear()
    model.compile_parts(backend="eager")  # what is traced, and when, does not depend on what the code is turned into
    for shape in (*SHAPES, (1, False, False)):
        run(model, *shape, documents)
    assert not counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] <= torch._dynamo.config.recompile_limit
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shape in OTHERS:
            run(model, *shape, documents)


@pytest.mark.slow
@pytest.mark.parametrize("documents", [False, True])
def test_block_masks_do_not_compile_blocks_again(monkeypatch: pytest.MonkeyPatch, documents: bool) -> None:
    """Each batch has a mask of its own, made outside of the blocks: whole graphs, and other documents add none.

    Without gradients, because torch has FlexAttention's backward pass on CUDA alone.
    """
    monkeypatch.setattr(GPT, "uses_block_masks", lambda self, device: True)
    model = make("test-gpt3")
    torch._dynamo.reset()
    counters.clear()
    model.compile_parts(backend="eager")
    for batch_size in (4, 3, 1):
        run(model, batch_size, False, False, documents)
    assert not counters["graph_break"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch_size in (4, 5, 1, 2):
            run(model, batch_size, False, False, documents)
