"""The chunked head and cross-entropy: equal to the plain one, without ever holding all logits."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gptctl.model import cross_entropy, gpt
from gptctl.model.cross_entropy import CHUNK_ROWS, cross_entropy_sum, fused_cross_entropy_sum
from tests.model.test_gpt import make, some_tokens

N, C, V, PADDED = 2 * CHUNK_ROWS + 88, 48, 500, 512  # two whole chunks and a short one


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw hidden states, a head and targets, of which some do not count."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, C, generator=generator, requires_grad=True)
    weight = torch.randn(PADDED, C, generator=generator).mul_(0.3).requires_grad_()
    targets = torch.randint(V, (N,), generator=generator)
    targets[::7] = -1
    return hidden, weight, targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, smoothing: float) -> Tensor:
    """Do it with all logits at once."""
    logits = F.linear(hidden, weight)[:, :V]
    return cross_entropy_sum(
        softcap * torch.tanh(logits / softcap) if softcap else logits, targets, label_smoothing=smoothing
    )[0]


def chunked(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, smoothing: float) -> Tensor:
    """Do it in chunks."""
    return fused_cross_entropy_sum(hidden, weight, targets, V, softcap, smoothing)


def to_fuse(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, smoothing: float) -> Tensor:
    """Do it in chunks, by the operations that are compiled."""
    return fused_cross_entropy_sum(hidden, weight, targets, V, softcap, smoothing, compiled=True)


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the operations that are compiled without the compiler."""
    monkeypatch.setattr(cross_entropy, "compiled_chunk_loss", lambda: cross_entropy.chunk_loss_to_fuse)


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize("chunks", [chunked, to_fuse])
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_plain_loss(chunks: Any, softcap: float, smoothing: float) -> None:
    """In float32 the mean loss and its gradients agree to 1e-6; padding rows of the vocabulary get none."""
    results = []
    for function in (chunks, plain):
        hidden, weight, targets = inputs()
        mean = function(hidden, weight, targets, softcap, smoothing) / (targets >= 0).sum()
        results.append([mean.detach(), *torch.autograd.grad(mean, (hidden, weight))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    assert not results[0][2][V:].any()
    assert not results[0][1][::7].any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_is_as_eager_for_any_number_of_rows() -> None:
    """The same loss and gradients in bfloat16, with and without gradients; the compiler runs for two sizes at most."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    for rows in (N, N - 5, N - 80):
        results = []
        for function in (to_fuse, chunked):
            hidden, weight, targets = inputs()
            hidden = hidden.detach()[:rows].requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                total = function(hidden, weight, targets[:rows], 3.0, 0.1)
                with torch.no_grad():
                    value = function(hidden, weight, targets[:rows], 3.0, 0.0)
            results.append([total.detach(), value, *torch.autograd.grad(total, (hidden, weight))])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-2)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 4


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize("chunks", [chunked, to_fuse])
def test_in_bfloat16_it_is_no_worse_than_the_plain_loss(monkeypatch: pytest.MonkeyPatch, chunks: Any) -> None:
    """Under autocast: products in bfloat16, the rest in float32, sums over chunks in float32, block by block."""
    monkeypatch.setattr(cross_entropy, "CHUNK_COLUMNS", 200)  # 512 symbols: two whole blocks and a short one
    hidden, weight, targets = inputs()
    exact = torch.autograd.grad(plain(hidden, weight, targets, 0.0, 0.0), (hidden, weight))
    errors = []
    for function in (chunks, plain):
        with torch.autocast("cpu", torch.bfloat16):
            total = function(hidden, weight, targets, 0.0, 0.0)
        assert total.dtype == torch.float32
        assert total.item() == pytest.approx(plain(hidden, weight, targets, 0.0, 0.0).item(), rel=1e-3)
        found = torch.autograd.grad(total, (hidden, weight))
        assert {each.dtype for each in found} == {torch.float32}
        errors.append([((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True)])
    assert all(mine <= 1.02 * theirs < 0.01 for mine, theirs in zip(*errors, strict=True))


def test_all_logits_never_exist() -> None:
    """No tensor, forward or backward, is as large as the logits of all rows."""

    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        elements = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            sizes = [x.numel() for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
            self.elements = max(self.elements, *sizes, 0)
            return result

    found = []
    for function in (chunked, plain):
        hidden, weight, targets = inputs()
        with Largest() as largest:  # type: ignore[no-untyped-call]
            torch.autograd.grad(function(hidden, weight, targets, 3.0, 0.1), (hidden, weight))
        found.append(largest.elements)
    assert found == [CHUNK_ROWS * PADDED, N * PADDED]


def test_what_comes_in_from_above_counts_once() -> None:
    """A factor scales the gradients; a second backward pass, which would scale them again, is refused."""
    hidden, weight, targets = inputs()
    one = torch.autograd.grad(chunked(hidden, weight, targets, 0.0, 0.0), (hidden, weight))
    total = chunked(hidden, weight, targets, 0.0, 0.0)
    three = torch.autograd.grad(3 * total, (hidden, weight), retain_graph=True)
    for each, scaled in zip(one, three, strict=True):
        torch.testing.assert_close(3 * each, scaled)
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.grad(total, (hidden, weight))
    with torch.no_grad():
        assert torch.equal(chunked(hidden, weight, targets, 0.0, 0.0), total)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "logit_softcap": 5.0, "vocab_size": 500}])
def test_the_model_uses_it_for_many_logits(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loss and gradients on both sides of the bound, tied and untied."""
    model = make("test-gpt2", **changes)
    tokens = some_tokens(model, 8, 40)
    results = []
    for bound in (0, 10**9):
        monkeypatch.setattr(gpt, "MIN_FUSED_LOGITS", bound)
        loss = model(tokens[:, :-1], targets=tokens[:, 1:], label_smoothing=0.1)
        mean = loss.cross_entropy / loss.targets
        results.append([mean, *torch.autograd.grad(mean, list(model.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
