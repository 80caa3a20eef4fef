"""The content of one output's part of the report, whatever its stage: state, figures, charts, tables and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from gptctl.core.config import Values
from gptctl.core.formatting import format_number
from gptctl.core.summary import Counts, Table
from gptctl.io import diagnose
from gptctl.io.dataset import shards
from gptctl.io.files import read_if_exists
from gptctl.io.lineage import Output
from gptctl.io.object_storage.address import is_uri, join
from gptctl.text.tokenizer import Tokenizer

SAMPLES = 3
SAMPLE_CHARACTERS = 400


@dataclass(frozen=True)
class Sample:
    """A text from the data or from the model, and a line about it."""

    about: str
    text: str


@dataclass
class Section:
    """One output on the page. `remarks` are pairs of level (damage, unfinished or note) and text."""

    output: Output
    remarks: list[tuple[str, str]] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    matrix: Values | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def settings(self) -> str:
        """Return the text of config.toml."""
        return (read_if_exists(join(self.output.folder, "config.toml")) or b"").decode("utf-8", "replace")

    @property
    def state(self) -> str:
        """Return the state: done, running, killed, or the status in run.json."""
        record = self.output.record
        if self.output.manifest is not None:
            return "done"
        if any(text.startswith("is being made") for _, text in self.remarks):
            return "running"
        return "killed" if record.get("status") in diagnose.NOT_ENDED else str(record.get("status") or "unfinished")


def metrics_of(output: Output) -> Values:
    """Return the metrics of a complete output. An unfinished output has none."""
    found = (output.record.get("summary") or {}).get("metrics") or {}
    return found or (output.manifest.metrics if output.manifest else {})


def counts_of(output: Output) -> Counts:
    """Return how many documents an output read, kept, dropped and quarantined."""
    return output.manifest.counts if output.manifest else Counts()


def show_figures(section: Section, metrics: Values, names: Sequence[str]) -> None:
    """Add the named metrics that are present and are single values."""
    for name in names:
        value = metrics.get(name)
        if value is not None and not isinstance(value, dict | list):
            section.figures.append((name.replace("_", " "), format_number(value)))


def show_rows(section: Section, about: str, column: str) -> None:
    """Add the first rows of the output's shards as samples."""
    output = section.output
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
            section.samples.append(Sample(f"{about}: {row['id']}" if row.get("id") else about, text))
