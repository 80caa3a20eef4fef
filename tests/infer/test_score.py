"""How likely a model finds pieces of text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gptctl.core.errors import DataError
from gptctl.infer import score
from gptctl.infer.request import Request
from gptctl.infer.score import score_requests
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT

CPU = torch.device("cpu")


def model(**changes: int) -> GPT:
    torch.manual_seed(0)
    made = GPT(
        ModelConfig(
            layers=1, heads=2, hidden_size=16, intermediate_size=32, max_seq_len=16, vocab_size=40, tie_embeddings=False
        )
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def pieces(count: int = 9) -> list[Request]:
    generator = np.random.default_rng(1)
    lengths = generator.integers(2, 17, count)
    return [Request(generator.integers(0, 40, int(n)), int(generator.integers(1, n))) for n in lengths]


def test_the_last_tokens_are_scored() -> None:
    made = model()
    for piece in pieces():
        logits = made(torch.from_numpy(piece.tokens[None, :-1]))[0].double().log_softmax(-1)
        wanted = torch.from_numpy(piece.tokens[1:])
        each = logits.gather(1, wanted[:, None])[:, 0][-piece.num_targets :]
        found = score_requests(made, [piece], 1, CPU)
        assert found.nll[0] == pytest.approx(-each.sum().item(), abs=1e-5)
        assert found.is_greedy[0] == bool((logits.argmax(-1) == wanted)[-piece.num_targets :].all())


def test_neither_batch_nor_order_nor_chunks_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    made, given = model(), pieces(20)
    whole = score_requests(made, given, 20, CPU)
    for size in (1, 3):
        assert np.allclose(score_requests(made, given, size, CPU).nll, whole.nll, atol=1e-5)
    assert np.allclose(score_requests(made, given[::-1], 4, CPU).nll[::-1], whole.nll, atol=1e-5)
    monkeypatch.setattr(score, "CHUNK_LOGITS", 100)
    assert np.allclose(score_requests(made, given, 20, CPU).nll, whole.nll, atol=1e-5)


def test_nothing_to_score_is_nothing() -> None:
    found = score_requests(model(), [Request(np.array([1, 2]), 0)], 4, CPU)
    assert (found.nll.tolist(), found.is_greedy.tolist()) == ([0.0], [True])
    assert score_requests(model(), [], 4, CPU).nll.tolist() == []


def test_weights_that_are_no_numbers_are_an_error_not_a_score() -> None:
    made = model()
    assert made.head is not None
    torch.nn.init.constant_(made.head.weight, float("nan"))
    with pytest.raises(DataError, match="not a finite number"):
        score_requests(made, pieces(2), 2, CPU)
