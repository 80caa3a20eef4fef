"""What generation and scoring exchange with a GPU: nothing that a step of the model does not need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gptctl.infer.classify import label_probabilities
from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.request import Request
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.score import score_requests
from gptctl.infer.speculative import DraftModel, PromptLookup
from gptctl.model.classifier import Classifier
from tests.fake_cuda import CUDA, fake_cuda, on_fake_cuda
from tests.model.test_devices import bf16
from tests.model.test_gpt import FAMILIES, make

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
EVERYTHING = SamplingParams(max_tokens=3, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2, logprobs=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_generation(name: str) -> None:
    """Prefill, cached steps and sampling make no tensor on the CPU, and each step waits for the device once.

    Nothing is sent to the device while rows go on, but random numbers for each 64 tokens.
    """
    model = bf16(name, layers=2)
    with fake_cuda() as (transfers, cpu_tensors):
        engine = Engine(Decoder(on_fake_cuda(model)))
        assert len(list(engine.stream(PROMPTS, EVERYTHING))) == 9
        assert transfers.downloads == 3
        uploads = transfers.uploads
        assert len(list(engine.stream(PROMPTS, replace(EVERYTHING, max_tokens=20)))) == 60
        assert (transfers.downloads, transfers.uploads) == (3 + 20, 2 * uploads)
    assert cpu_tensors.found == []


def test_steps_are_recorded_once() -> None:
    """A graph for each size of batch and each power of two of slots, however many steps and batches."""
    params = SamplingParams(max_tokens=150, temperature=0)
    model = make("test-gpt2", layers=1, max_seq_len=256)
    with fake_cuda():
        engine = Engine(Decoder(on_fake_cuda(model)))
        for seed in range(2):
            list(engine.stream(PROMPTS, replace(params, seed=seed)))
            list(engine.stream(PROMPTS[:1], params))
        assert torch.cuda.CUDAGraph.call_count == 4  # type: ignore[attr-defined]


def test_generation_while_a_model_is_trained() -> None:
    """The model itself, greedily."""
    model, params = bf16("test-gpt2"), SamplingParams(max_tokens=3, temperature=0)
    with fake_cuda() as (transfers, cpu_tensors):
        assert len(list(Engine(on_fake_cuda(model)).stream(PROMPTS, params))) == 9
    assert (cpu_tensors.found, transfers.downloads) == ([], 3)


def test_a_step_that_cannot_be_recorded_is_launched() -> None:
    """With a warning, and every token is there."""
    params = SamplingParams(max_tokens=6, temperature=0)
    model = make("test-gpt2", layers=1)
    with fake_cuda():
        engine = Engine.on_device(on_fake_cuda(model), CUDA)
        torch.cuda.graph.side_effect = RuntimeError("operation not permitted")  # type: ignore[attr-defined]
        with pytest.warns(UserWarning, match="no CUDA graph of a step: operation not permitted"):
            assert len(list(engine.stream(PROMPTS, params))) == 18
        assert not torch.cuda.CUDAGraph.return_value.replay.called  # type: ignore[attr-defined]


@pytest.mark.parametrize("drafted", [False, True])
def test_drafts(drafted: bool) -> None:
    """Tokens of the draft model and the model are sampled on the device, with a wait for each of them in a pass."""
    model = make("test-gpt3", layers=1)
    with fake_cuda() as (_, cpu_tensors):
        decoder = Decoder(on_fake_cuda(model))
        drafter = DraftModel(decoder) if drafted else PromptLookup()
        assert len(list(Engine(decoder, drafter, 3).stream(PROMPTS, EVERYTHING))) == 9
    assert cpu_tensors.found == []


def test_scoring_reads_once_a_batch() -> None:
    """Two requests in a batch: three batches, three waits."""
    model, requests = make("test-modern"), [Request(np.arange(n), n // 2) for n in (9, 4, 30, 22, 7)]
    with fake_cuda() as (transfers, cpu_tensors):
        found = score_requests(on_fake_cuda(model), requests, 2, CUDA)
    assert (cpu_tensors.found, transfers.downloads, found.nll.shape) == ([], 3, (5,))


def test_classification_reads_once_a_batch() -> None:
    """Two texts in a batch."""
    model, texts = Classifier(make("test-modern"), 3), [[np.arange(n)] for n in (9, 4, 30)]
    with fake_cuda() as (transfers, cpu_tensors):
        found = label_probabilities(on_fake_cuda(model), texts, 2, CUDA)
    assert (cpu_tensors.found, transfers.downloads, found.shape) == ([], 2, (3, 3))
