"""The section of a training run: curves from its events, figures and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptctl.core.config import Values
from gptctl.core.summary import source_table
from gptctl.reporting import svg_charts
from gptctl.reporting.events import Event, points, read_events
from gptctl.reporting.sections.section import Sample, Section, metrics_of, show_figures
from gptctl.reporting.svg_charts import Series

FIGURES = (
    *("steps", "step", "tokens", "parameters", "trained_parameters", "train_loss", "loss", "val_loss", "best_val_loss"),
    *("val_accuracy", "val_f1", "best_val_f1", "tokens_per_second", "train_seconds"),
)


def show_training(section: Section) -> None:
    """Show the figures, curves and samples of a run, up to its last event."""
    events = read_events(section.output.folder)
    metrics = metrics_of(section.output)
    if not metrics:
        records = [event for event in events if event.get("event") in ("step", "eval", "sources")]
        metrics = {name: value for event in records for name, value in event.items()}
    show_figures(section, metrics, FIGURES)
    loss = [
        Series("train loss", points(events, "step", "loss"), 1),
        Series("val loss", points(events, "eval", "val_loss"), 2, dots=True),
    ]
    section.charts.append(
        svg_charts.lines("Loss", loss, "step", "nats per token" if section.output.stage == "pretrain" else "nats")
    )
    scores = [
        Series(name.removeprefix("val_"), points(events, "eval", name), colour, dots=True)
        for colour, name in enumerate(("val_accuracy", "val_f1"), 3)
    ]
    section.charts.append(svg_charts.lines("Validation scores", scores, "step", "0 to 1"))
    section.charts.append(
        svg_charts.lines("Learning rate", [Series("learning rate", points(events, "step", "lr"), 4)], "step", "", True)
    )
    show_sources(section, events, metrics)
    speed = [Series("tokens per second", points(events, "step", "tokens_per_second"), 3)]
    section.charts.append(svg_charts.lines("Throughput", speed, "step", "tokens/s", True))
    section.samples += samples_of(events)
    for event in events:
        if event.get("event") in ("fault", "rollback"):
            what = event.get("reason") or "training continues from here"
            section.remarks.append(("note", f"{event['event']} at step {event.get('step')}: {what}"))


def show_sources(section: Section, events: Sequence[Event], metrics: Values) -> None:
    """Show what was read of each source, and its val loss, if the run has several."""
    sources = metrics.get("sources") or []
    if len(sources) < 2:
        return
    section.tables.append(source_table(sources))
    losses = [
        Series(source["name"], points(events, "eval", f"val_loss/{source['name']}"), 1 + number % 4, dots=True)
        for number, source in enumerate(sources)
    ]
    section.charts.append(svg_charts.lines("Val loss of each source", losses, "step", "nats per token"))


def samples_of(events: Sequence[Event]) -> Iterator[Sample]:
    """Yield the first, the middle and the last sample that the model wrote during training."""
    found = [event for event in events if event.get("event") == "sample"]
    for event in {id(found[place]): found[place] for place in (0, len(found) // 2, -1)}.values() if found else ():
        yield Sample(f"written after step {event.get('step')}", str(event.get("text", "")))
