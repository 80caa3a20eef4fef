"""What the report shows of one output, by its stage: figures, charts, tables, samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gptctl.core.errors import GptctlError
from gptctl.core.formatting import format_bytes, format_interval, format_number
from gptctl.core.summary import Counts, Table
from gptctl.io import diagnose
from gptctl.io.dataset import shards
from gptctl.io.files import read_if_exists
from gptctl.io.input.find import find_files
from gptctl.io.lineage import Output
from gptctl.io.object_storage.address import is_uri, join
from gptctl.reporting import charts
from gptctl.reporting.charts import Series
from gptctl.reporting.events import Event, points, read_events
from gptctl.text.tokenizer import Tokenizer

SAMPLES = 3
SAMPLE_CHARACTERS = 400
MAX_CLASSES = 30  # in a confusion matrix
TRAINING = (
    *("steps", "step", "tokens", "parameters", "trained_parameters", "train_loss", "loss", "val_loss", "best_val_loss"),
    *("val_accuracy", "val_f1", "best_val_f1", "tokens_per_second", "train_seconds"),
)
Values = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A piece of text that was met, and what it shows."""

    about: str
    text: str


@dataclass
class Section:
    """One output on the page. `remarks` are (level, text): damage, unfinished, note."""

    output: Output
    remarks: list[tuple[str, str]] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    matrix: Values | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def settings(self) -> str:
        """Return config.toml."""
        return (read_if_exists(join(self.output.folder, "config.toml")) or b"").decode("utf-8", "replace")

    @property
    def state(self) -> str:
        """Return whether the output is complete."""
        record, ended = self.output.record, self.output.manifest is not None
        if ended:
            return "done"
        if any(text.startswith("is being made") for _, text in self.remarks):
            return "running"
        return "killed" if record.get("status") in diagnose.NOT_ENDED else str(record.get("status") or "unfinished")


def section(output: Output) -> Section:
    """Find out what there is to show. What cannot be read is a remark, never an error."""
    made = Section(output, [(f.level, f.what) for f in diagnose.check_state(output)])
    for origin in output.origins:
        if origin.state in ("gone", "changed"):
            what = "is gone" if origin.state == "gone" else "has changed since"
            made.remarks.append(("note", f"{origin.role}: {origin.path} {what}"))
    try:
        SHOWN.get(output.stage, show_others)(made)
    except (GptctlError, OSError, KeyError, TypeError, ValueError) as error:
        made.remarks.append(
            ("damage", f"not all of it can be shown: {' '.join(str(error).split()) or type(error).__name__}")
        )
    return made


def metrics_of(output: Output) -> Values:
    """Return the figures of a complete output; nothing of an unfinished one."""
    found = (output.record.get("summary") or {}).get("metrics") or {}
    return found or (output.manifest.metrics if output.manifest else {})


def counts_of(output: Output) -> Counts:
    """Return the documents that went in and what became of them."""
    return output.manifest.counts if output.manifest else Counts()


def show_clean(made: Section) -> None:
    """Show what was dropped and why, with examples of it."""
    counts = counts_of(made.output)
    show_counts(made, counts)
    folder = made.output.folder
    for row in quarantined(folder):
        made.samples.append(
            Sample(f"unreadable: {row.get('reason', '')} ({row.get('file', '')})", str(row.get("excerpt", "")))
        )
    seen: dict[str, int] = {}
    for row in rows_below(join(folder, "rejects")):
        reason = str(row.get("reason", ""))
        seen[reason] = seen.get(reason, 0) + 1
        if seen[reason] <= SAMPLES:
            made.samples.append(Sample(f"dropped: {reason}", str(row.get("text", ""))))
        if counts.dropped and all(seen.get(name, 0) >= min(n, SAMPLES) for name, n in counts.dropped.items()):
            break  # reading the others, which may be millions, shows nothing more
    if counts.dropped and not seen:
        made.remarks.append(("note", "clean --keep-rejects keeps examples of what is dropped"))
    show_rows(made, "kept", "text")


def show_dedup(made: Section) -> None:
    """Show how many copies there were, and of what."""
    show_counts(made, counts_of(made.output))
    metrics = metrics_of(made.output)
    sizes = sorted(((int(size), n) for size, n in (metrics.get("clusters") or {}).items()))
    if sizes:
        rows = [(f"clusters of {size:,}", float(n), f"{n:,}", 2) for size, n in sizes[:12]]
        if sizes[12:]:
            rows.append(("larger ones", float(sum(n for _, n in sizes[12:])), f"{sum(n for _, n in sizes[12:]):,}", 2))
        made.charts.append(charts.bars("Clusters of duplicates by size", rows))
    for name in ("candidates", "false_positives"):
        if name in metrics:
            made.figures.append((name.replace("_", " "), f"{metrics[name]:,}"))
    for _, size, text in metrics.get("largest") or []:
        made.samples.append(Sample(f"cluster of {size:,} documents", f"{text}…"))
    show_rows(made, "kept", "text")


def show_tokenize(made: Section) -> None:
    """Show the size of the vocabulary and of the splits."""
    metrics = metrics_of(made.output)
    show_figures(made, metrics, ("vocab_size", "bytes_per_token", "tokens_per_word", "vocabulary_used", "tokenizer"))
    rows = [
        (split, f"{part['documents']:,}", f"{part['tokens']:,}", format_bytes(part["bytes"]))
        for split in ("train", "val", "test")
        if (part := metrics.get(split))
    ]
    if rows:
        made.tables.append(Table("Splits", ("split", "documents", "tokens", "text"), tuple(rows)))
    show_rows(made, "tokens, decoded", "tokens")


def show_training(made: Section) -> None:
    """Show the curves of a run, as far as it has come, and what it wrote."""
    events = read_events(made.output.folder)
    metrics = metrics_of(made.output)
    if not metrics:
        told = [event for event in events if event.get("event") in ("step", "eval")]
        metrics = {name: value for event in told for name, value in event.items()}
    show_figures(made, metrics, TRAINING)
    loss = [
        Series("train loss", points(events, "step", "loss"), 1),
        Series("val loss", points(events, "eval", "val_loss"), 2, dots=True),
    ]
    made.charts.append(
        charts.lines("Loss", loss, "step", "nats a token" if made.output.stage == "pretrain" else "nats")
    )
    scores = [
        Series(name.removeprefix("val_"), points(events, "eval", name), colour, dots=True)
        for colour, name in enumerate(("val_accuracy", "val_f1"), 3)
    ]
    made.charts.append(charts.lines("On the validation texts", scores, "step", "0 to 1"))
    made.charts.append(
        charts.lines("Learning rate", [Series("learning rate", points(events, "step", "lr"), 4)], "step", "", True)
    )
    speed = [Series("tokens a second", points(events, "step", "tokens_per_second"), 3)]
    made.charts.append(charts.lines("Throughput", speed, "step", "tokens/s", True))
    made.samples += samples_of(events)
    for event in events:
        if event.get("event") in ("fault", "rollback"):
            what = event.get("reason") or "training continues from here"
            made.remarks.append(("note", f"{event['event']} at step {event.get('step')}: {what}"))


def samples_of(events: Sequence[Event]) -> Iterator[Sample]:
    """Return what the model wrote: at first, half way, and last."""
    found = [event for event in events if event.get("event") == "sample"]
    for event in {id(found[place]): found[place] for place in (0, len(found) // 2, -1)}.values() if found else ():
        yield Sample(f"written after step {event.get('step')}", str(event.get("text", "")))


def show_eval(made: Section) -> None:
    """Show every figure with its interval, the baselines beside it, and who was taken for whom."""
    metrics = metrics_of(made.output)
    intervals: dict[str, Any] = metrics.get("intervals") or {}
    level = (metrics.get("interval") or {}).get("level", 0.95)
    names = [name for name, value in metrics.items() if isinstance(value, float) and name not in ("context",)]
    show_figures(made, metrics, ("n", "invalid", "average", "split"))
    shown = [(name, metrics[name], *intervals[name]) for name in names if spans(intervals.get(name), metrics[name])]
    made.charts.append(charts.whiskers(f"Figures and their {level:.0%} intervals", shown))
    baselines: dict[str, Any] = metrics.get("baselines") or {}
    rows = [
        (
            name,
            format_number(metrics[name]),
            format_interval(intervals.get(name)),
            *(format_number(b.get(name)) for b in baselines.values()),
        )
        for name in names
    ]
    columns = ("", "model", f"{level:.0%} interval", *(f"baseline {name}" for name in baselines))
    if rows:
        made.tables.append(Table("Figures", columns, tuple(rows)))
    classes: dict[str, Any] = metrics.get("per_class") or {}
    if classes:
        made.tables.append(Table(
            "By class", ("class", "precision", "recall", "f1", "texts"),
            tuple((str(name), *(format_number(c.get(k)) for k in ("precision", "recall", "f1", "support")))
                  for name, c in classes.items()),
        ))  # fmt: skip
    confusion = metrics.get("confusion")
    if confusion and len(confusion["labels"]) <= MAX_CLASSES:
        made.matrix = confusion
    bins = [(b["confidence"], b["accuracy"]) for b in metrics.get("calibration") or [] if b.get("n")]
    if bins:
        ideal = Series("as sure as right", [(0.0, 0.0), (1.0, 1.0)], 4)
        made.charts.append(
            charts.lines("Calibration", [ideal, Series("model", bins, 1, dots=True)], "confidence", "accuracy")
        )
    made.remarks += [("note", text) for text in metrics.get("warnings") or []]


def show_generate(made: Section) -> None:
    """Show some of what was written."""
    show_figures(made, metrics_of(made.output), tuple(metrics_of(made.output)))
    show_rows(made, "written", "text")


def show_others(made: Section) -> None:
    """Show the figures of any other stage."""
    show_figures(made, metrics_of(made.output), tuple(metrics_of(made.output)))


def show_counts(made: Section, counts: Counts) -> None:
    """Draw what came in, what was dropped for which reason, and what is left."""
    if not counts.documents_in:
        return
    share = f"{counts.kept / counts.documents_in:.1%}"
    rows = [
        ("documents in", float(counts.documents_in), f"{counts.documents_in:,}, {format_bytes(counts.bytes_in)}", 4)
    ]
    for reason, n in counts.dropped.most_common():
        rows.append((f"dropped: {reason}", float(n), f"{n:,}, {format_bytes(counts.dropped_bytes[reason])}", 2))
    rows += [(f"unreadable: {reason}", float(n), f"{n:,}", 2) for reason, n in counts.quarantined.most_common()]
    rows.append(("kept", float(counts.kept), f"{counts.kept:,} ({share}), {format_bytes(counts.bytes_kept)}", 1))
    made.charts.append(charts.bars("Documents", rows))


def show_figures(made: Section, metrics: Values, names: Sequence[str]) -> None:
    """List the figures that there are."""
    for name in names:
        value = metrics.get(name)
        if value is not None and not isinstance(value, dict | list):
            made.figures.append((name.replace("_", " "), format_number(value)))


def show_rows(made: Section, about: str, column: str) -> None:
    """Show the first rows of the output's own shards."""
    output = made.output
    if output.manifest is None or not output.manifest.shards:
        return
    rows = shards.read_rows(output.folder, output.manifest, "", SAMPLES).to_pylist()
    tokenizer = Path(output.folder) / "tokenizer.json"
    decoder = None
    if column == "tokens" and not is_uri(output.folder) and tokenizer.exists():
        decoder = Tokenizer.from_json(tokenizer.read_text(encoding="utf-8"))
    for row in rows:
        text = decoder.decode(row[column][:SAMPLE_CHARACTERS]) if decoder else row.get(column)
        if isinstance(text, str):
            made.samples.append(Sample(f"{about}: {row['id']}" if row.get("id") else about, text))


def rows_below(folder: str) -> Iterator[Values]:
    """Read the rows of the Arrow files in a folder that may not be there."""
    import pyarrow.ipc as ipc

    if is_uri(folder) or not Path(folder).is_dir():
        return
    for file in find_files(folder):
        with ipc.open_file(str(file.path)) as reader:
            for place in range(reader.num_record_batches):
                yield from reader.get_batch(place).select(["text", "reason"]).to_pylist()


def quarantined(folder: str) -> list[Values]:
    """Read the first lines of quarantine.jsonl."""
    path = Path(folder) / "quarantine.jsonl"
    if is_uri(folder) or not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(SAMPLES), strict=False)]


def spans(found: Any, value: float) -> bool:
    """Return whether an interval can stand on an axis from 0 to 1."""
    return isinstance(found, list) and None not in found and 0 <= value <= 1


SHOWN: dict[str, Callable[[Section], None]] = {
    "clean": show_clean,
    "dedup": show_dedup,
    "tokenize": show_tokenize,
    "pretrain": show_training,
    "finetune": show_training,
    "eval": show_eval,
    "generate": show_generate,
}
