"""The section of a training run: curves from its events, figures and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptctl.core.config import Values
from gptctl.core.formatting import format_duration, format_number
from gptctl.core.summary import source_table
from gptctl.reporting import svg_charts
from gptctl.reporting.curves import Curve, by_progress, unit_of
from gptctl.reporting.events import Event, points, read_events
from gptctl.reporting.sections.section import Sample, Section, metrics_of, show_figures
from gptctl.reporting.svg_charts import Series

FIGURES = (
    *("steps", "step", "tokens", "parameters", "trained_parameters", "train_loss", "loss", "val_loss", "best_val_loss"),
    *("val_accuracy", "val_f1", "best_val_f1", "tokens_per_second"),
)
TOKENS_PER_PARAMETER = 20  # compute-optimal (Hoffmann et al. 2022, table 3)


def show_training(section: Section) -> None:
    """Show the figures, curves and samples of a run, up to its last event."""
    events, unit = read_events(section.output.folder), unit_of(section.output)
    metrics = metrics_of(section.output)
    if not metrics:
        records = [event for event in events if event.get("event") in ("step", "eval", "sources")]
        metrics = {name: value for event in records for name, value in event.items()}
    show_figures(section, metrics, FIGURES, {"tokens": unit, "tokens_per_second": f"{unit} per second"})
    if isinstance(seconds := metrics.get("train_seconds"), int | float):
        section.figures.append(("training time", format_duration(seconds)))
    if metrics_of(section.output):
        show_length(section, metrics)
    loss_unit = "nats per token" if section.output.stage == "pretrain" else "nats"
    loss = [
        Curve("train loss", events, "step", "loss", 1),
        Curve("val loss", events, "eval", "val_loss", 2, dots=True),
    ]
    section.charts.append(by_progress("Loss", f"loss-{section.number}", loss, unit, loss_unit))
    scores = [
        Series(name.removeprefix("val_"), points(events, "eval", name), colour, dots=True)
        for colour, name in enumerate(("val_accuracy", "val_f1"), 3)
    ]
    rate = [Series("learning rate", points(events, "step", "lr"), 4)]
    speed = [Series(f"{unit} per second", points(events, "step", "tokens_per_second"), 3)]
    section.charts += [
        svg_charts.lines("Validation scores", scores, "step", "0 to 1", whole_x=True),
        svg_charts.lines("Learning rate", rate, "step", "", from_zero=True, whole_x=True),
        svg_charts.lines("Throughput", speed, "step", f"{unit}/s", from_zero=True, whole_x=True),
    ]
    show_sources(section, events, metrics)
    section.samples += samples_of(events)
    for event in events:
        if event.get("event") in ("fault", "rollback"):
            what = event.get("reason") or "training continues from here"
            section.remarks.append(("note", f"{event['event']} at step {event.get('step')}: {what}"))


def show_length(section: Section, metrics: Values) -> None:
    """Show how much of its data a finished language model was trained on, and say if that was little."""
    sources = [one for one in metrics.get("sources") or [] if one.get("epochs")]
    if unit_of(section.output) != "tokens" or not sources:
        return
    tokens = sum(one["tokens"] for one in sources)
    epochs = tokens / sum(one["tokens"] / one["epochs"] for one in sources)
    section.figures.append(("epochs", format_number(epochs)))
    per_parameter = tokens / metrics["parameters"] if metrics.get("parameters") else 0.0
    if section.output.stage != "pretrain" or not per_parameter:
        return
    section.figures.append(("tokens per parameter", format_number(per_parameter)))
    if epochs < 1 and per_parameter < TOKENS_PER_PARAMETER:
        text = (
            f"trained on {tokens:,} tokens: {epochs:.1%} of the training data, {per_parameter:.2g} for each parameter "
            f"(compute-optimal are about {TOKENS_PER_PARAMETER}); a longer run may lower the loss"
        )
        section.remarks.append(("note", text))


def show_sources(section: Section, events: Sequence[Event], metrics: Values) -> None:
    """Show what was read of each source, and its val loss, if the run has several."""
    sources = metrics.get("sources") or []
    if len(sources) < 2:
        return
    section.tables.append(source_table(sources))
    losses = [
        Curve(source["name"], events, "eval", f"val_loss/{source['name']}", 1 + number % 4, dots=True)
        for number, source in enumerate(sources)
    ]
    name = f"sources-{section.number}"
    section.charts.append(by_progress("Val loss of each source", name, losses, "tokens", "nats per token"))


def samples_of(events: Sequence[Event]) -> Iterator[Sample]:
    """Yield the first, the middle and the last sample that the model wrote during training."""
    found = [event for event in events if event.get("event") == "sample"]
    for event in {id(found[place]): found[place] for place in (0, len(found) // 2, -1)}.values() if found else ():
        yield Sample(f"written after step {event.get('step')}", str(event.get("text", "")))
