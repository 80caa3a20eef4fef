"""The loss curve: real numbers in it, the same bytes each time, and nothing twice after a resume or a rollback."""

from __future__ import annotations

from gptctl.reporting.events import lasting
from gptctl.reporting.matplotlib_plots import loss_curve


def step(number: int, loss: float) -> dict[str, object]:
    """Make a step event."""
    return {"event": "step", "step": number, "loss": loss, "lr": 1e-3}


EVENTS = [
    step(10, 3.0),
    step(20, 2.5),
    {"event": "eval", "step": 20, "val_loss": 2.6},
    step(30, 9.0),
    {"event": "rollback", "step": 20, "from_step": 34},
    step(30, 2.2),
    step(40, 2.1),
    {"event": "resumed", "step": 30},
    step(40, 2.1),
    {"event": "eval", "step": 40, "val_loss": 2.3},
]


def test_what_was_gone_back_behind_is_left_out() -> None:
    """Each step once, as it was when it lasted."""
    kept = [(event["step"], event["loss"]) for event in lasting(EVENTS) if event["event"] == "step"]
    assert kept == [(10, 3.0), (20, 2.5), (30, 2.2), (40, 2.1)]
    assert [event["step"] for event in lasting(EVENTS) if event["event"] == "eval"] == [20, 40]


def test_the_curve_is_a_picture_of_them_and_always_the_same() -> None:
    """SVG and PNG; another loss is another picture, a discarded one is not."""
    svg = loss_curve(EVENTS, "tiny, 1,000 parameters")
    assert svg == loss_curve(EVENTS, "tiny, 1,000 parameters")
    assert b"val loss" in svg
    assert b"learning rate" in svg
    assert loss_curve(EVENTS, "t", "png").startswith(b"\x89PNG")
    changed = [*EVENTS[:-2], step(40, 5.0), EVENTS[-1]]
    assert loss_curve(changed, "tiny, 1,000 parameters") != svg
    discarded = [*EVENTS[:3], step(30, 4.0), *EVENTS[4:]]
    assert loss_curve(discarded, "tiny, 1,000 parameters") == svg


def test_the_curve_is_by_tokens_and_training_time_where_they_are_known() -> None:
    timed = [event | {"tokens": 100 * event["step"], "train_seconds": 90.0 * event["step"]} for event in EVENTS]
    svg = loss_curve(timed, "tiny").decode()
    assert ">tokens</text>" in svg and ">training time (minutes)</text>" in svg and ">4,000</text>" in svg
    assert "<desc>Loss by step, tokens and training time; at the end loss 2.1, val_loss 2.3</desc>" in svg
    assert "training time (" not in loss_curve(EVENTS, "tiny").decode()
