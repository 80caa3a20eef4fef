"""lm-evaluation-harness scores a served model over HTTP as gptctl scores it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("tenacity", reason="the extra test is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.generator import TextGenerator
from gptctl.infer.request import Request
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.score import score_requests
from gptctl.serve.app import make_app
from gptctl.serve.guard import Access
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler
from tests.infer.test_text_stream import byte_level
from tests.model.test_gpt import make
from tests.serve.conftest import CONTEXT, on_socket

PAIRS = [("the größer", " and the"), ("naïve", " 漢字 and größer"), ("", "the end"), ("and" + " and" * 19, " the")]


@pytest.mark.slow
@pytest.mark.parametrize("concurrent", [1, 4])
def test_local_completions(concurrent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model local-completions, one request at a time and several: log-probabilities to 1e-4, and greedy tokens."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from transformers import PreTrainedTokenizerFast

    tokenizer = byte_level()
    model = make("test-modern", vocab_size=tokenizer.vocab_size, max_seq_len=CONTEXT)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token=tokenizer.end_of_text)
    theirs.save_pretrained(tmp_path)
    requests = []
    for context, continuation in PAIRS:
        before = tokenizer.encode(context) or [tokenizer.end_of_text_id]
        after = tokenizer.encode(continuation)
        requests.append(Request(np.array([*before, *after]), len(after)))
    expected = score_requests(model, requests, 4, torch.device("cpu"))

    decoder = Decoder(model)
    served = ServedModel(TextGenerator(Engine(decoder), tokenizer, tokenizer.stop_ids({})), "tiny", SamplingParams())
    scheduler = Scheduler(decoder, tokenizer, served.stop_ids, 4, 8)
    with on_socket(make_app(served, scheduler, Access()), scheduler) as port:
        harness = LocalCompletionsAPI(
            model="tiny", base_url=f"http://127.0.0.1:{port}/v1/completions", tokenizer=str(tmp_path),
            max_length=CONTEXT, batch_size=2, num_concurrent=concurrent, max_retries=1,
        )  # fmt: skip
        found = harness.loglikelihood([SimpleNamespace(args=pair) for pair in PAIRS])
    assert [score for score, _ in found] == pytest.approx((-expected.nll).tolist(), abs=1e-4)
    assert [is_greedy for _, is_greedy in found] == expected.is_greedy.tolist()
