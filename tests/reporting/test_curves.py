"""Curves by step, tokens and time, and the charts of the page."""

from __future__ import annotations

from gptctl.reporting.curves import Curve, by_progress
from gptctl.reporting.svg_charts import Bin, Series, bars, lines, reliability, ticks


def step(number: int, loss: float) -> dict[str, object]:
    return {
        "event": "step",
        "step": number,
        "loss": loss,
        "lr": 1e-3,
        "tokens": 50 * number,
        "train_seconds": number / 4,
    }


EVENTS = [step(10, 3.0), step(20, 2.5), {"event": "eval", "step": 15, "val_loss": 2.6}, step(40, 2.2)]


def test_a_curve_is_by_step_by_tokens_and_by_time() -> None:
    """An evaluation between two logged steps is placed between them."""
    val = Curve("val loss", EVENTS, "eval", "val_loss", 2)
    assert [val.points(axis) for axis in ("step", "tokens", "train_seconds")] == [
        [(15, 2.6)], [(750.0, 2.6)], [(3.75, 2.6)],
    ]  # fmt: skip
    chart = by_progress("Loss", "loss-1", [Curve("train loss", EVENTS, "step", "loss", 1), val], "texts", "nats")
    for words in ("Loss by step", "Loss by texts", "Loss by time", "training time (seconds)", "2,000"):
        assert words in chart
    assert chart.count('type="radio"') == 3 and chart.count(" checked") == 1


def test_events_without_tokens_and_time_have_one_chart() -> None:
    plain = [{"event": "step", "step": number, "loss": 3.0, "lr": 1e-3} for number in (1, 2)]
    chart = by_progress("Loss", "loss-1", [Curve("train loss", plain, "step", "loss", 1)], "tokens", "nats")
    assert "Loss by step" in chart and "radio" not in chart


def test_a_single_point_shows_its_value_and_alone_is_no_chart() -> None:
    train, val = Series("train", [(0, 1.0), (100, 0.5)]), Series("val", [(100, 0.625)], 2, dots=True)
    chart = lines("Loss", [train, val], "step", "")
    assert ">0.625</text>" in chart and "val 0.625" in chart
    assert lines("Loss", [val], "step", "") == ""


def test_numbers_at_the_right_end_have_room() -> None:
    """A centred number of seven characters is about 46 units wide."""
    chart = lines("Loss", [Series("train", [(0, 1.0), (100_000, 0.5)])], "step", "")
    place = float(chart.split(">100,000</text>")[0].rsplit('x="', 1)[1].split('"')[0])
    assert place + 23 <= 400


def test_steps_are_whole_numbers() -> None:
    assert ticks(1, 2, whole=True) == [1, 2]


def test_no_line_joins_the_bins_of_a_reliability_diagram() -> None:
    chart = reliability("Calibration", [Bin(1, 0.2, 1.0, 0.2, 1.0), Bin(400, 0.5, 0.4, 0.35, 0.45)])
    assert "polyline" not in chart and chart.count("<circle") == 2
    radii = [float(part.split('"')[0]) for part in chart.split(' r="')[1:]]
    assert radii[0] < radii[1] / 2
    assert "1 with confidence 0.20: accuracy 1.00, 0.20 to 1.00" in chart


def test_the_longest_bar_is_as_wide_as_the_section() -> None:
    chart = bars("funnel", [("in", 400.0, "400", 4), ("kept", 100.0, "100 (25.0%)", 1)])
    assert 'class="full"' in chart
    assert [chart.count(f"width:{share}%") for share in ("100.00", "25.00")] == [1, 1]
