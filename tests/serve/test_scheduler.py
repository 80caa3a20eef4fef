"""The scheduler: places are freed within one step, long prompts let streams go on, and failures end what they concern."""

from __future__ import annotations

from typing import Any

import pytest

from gptctl.infer import continuous
from gptctl.infer.decoder import Decoder
from gptctl.infer.generator import TextGenerator
from gptctl.infer.row_sampling import RowParams, Scored
from gptctl.infer.sampling import NOT_FINITE, SamplingParams
from gptctl.serve import scheduler as scheduling
from gptctl.serve.scheduler import Failed, Job, Piece, PromptRead, Scheduler


@pytest.fixture
def scheduler(generator: TextGenerator) -> Scheduler:
    """Two places."""
    assert isinstance(generator.engine.model, Decoder)
    return Scheduler(generator.engine.model, generator.tokenizer, generator.stop_ids, max_batch=2, max_queue=3)


def job(prompt: list[int], tokens: int = 20, **more: Any) -> tuple[Job, list[Any]]:
    """A job, and what it is told."""
    events: list[Any] = []
    params = RowParams(SamplingParams(max_tokens=tokens, temperature=0), logit_bias={0: -100.0})
    return Job(prompt, params, events.append, **more), events


def test_a_client_that_goes_away_frees_its_place_within_one_step(scheduler: Scheduler) -> None:
    """While it waits, while its prompt is read, and while it generates; the others go on as before."""
    running, _ = job([5, 9])
    other, events = job([7])
    next_one, next_events = job([3], samples=1)
    last, last_events = job([4])
    assert scheduler.submit([running, other, next_one])
    assert not scheduler.submit([last])  # the queue is full
    scheduler.step()
    assert scheduler.submit([last]) and len(scheduler.batch.rows) == 2 and not next_events
    running.cancelled = last.cancelled = True
    scheduler.step()
    assert [sample.job for sample in scheduler.samples()] == [other, next_one]
    while scheduler.step():
        pass
    assert isinstance(events[-1], Piece) and events[-1].finish_reason == next_events[-1].finish_reason == "length"
    assert not last_events and scheduler.is_idle and scheduler.metrics.cancelled == 2


def test_streams_go_on_while_a_long_prompt_is_read(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of the running sample between two pieces."""
    monkeypatch.setattr(continuous, "PIECE_TOKENS", 8)
    monkeypatch.setattr(scheduling, "PIECE_TOKENS", 8)
    short, _ = job([7], 60)
    long, events = job([5] * 80)
    scheduler.submit([short])
    scheduler.step()
    scheduler.submit([long])
    lengths = []
    while not any(isinstance(event, PromptRead) for event in events):
        scheduler.step()
        lengths.append(len(scheduler.samples()[0].row.text))
    assert len(lengths) == 10 and lengths == list(range(lengths[0], lengths[0] + 10))
    long.cancelled = short.cancelled = True
    scheduler.step()
    assert scheduler.is_idle


def test_a_failure_ends_what_it_concerns(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt whose logits are not finite, alone; everything that runs, if a step fails. Then the server goes on."""
    good, events = job([7], 5)
    bad, bad_events = job([9], 5)
    scheduler.submit([good, bad])
    scheduler.step()
    scheduler.take(scheduler.samples()[1:], [Scored(NOT_FINITE)])
    while scheduler.step():
        pass
    assert isinstance(bad_events[-1], Failed) and "not finite" in bad_events[-1].error.message
    assert events[-1].finish_reason == "length"

    again, again_events = job([7], 5)
    scheduler.submit([again])
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.batch.model, "logits", lambda hidden: 1 / 0)
        scheduler.step()
    assert isinstance(again_events[-1], Failed) and scheduler.is_idle
    large, large_events = job([7], 5)
    scheduler.submit([large])
    with monkeypatch.context() as patch:
        patch.setattr(continuous, "KVCache", lambda *_: bytearray(2**62))
        scheduler.step()
    assert isinstance(large_events[-1], Failed) and large_events[-1].error.exit_code == 4 and scheduler.is_idle
    last, last_events = job([7], 5)
    scheduler.submit([last])
    while scheduler.step():
        pass
    assert [event.text for event in last_events[1:]] == [event.text for event in events[1:]]
