"""The content of one output's part of the report, whatever its stage: state, figures, charts, tables and samples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
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
from gptctl.reporting.matrix import Matrix
from gptctl.text.tokenizer import Tokenizer

SAMPLES = 3
SAMPLE_CHARACTERS = 400
HASH = re.compile("[0-9a-f]{16,}")
NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Sample:
    """A text from the data or from the model, and a line about it."""

    about: str
    text: str


@dataclass
class Section:
    """One output on the page. `remarks` are pairs of level (damage, unfinished or note) and text.

    `number` is the place of the section on the page, from 1. `hashes` are shown with the settings.
    """

    output: Output
    number: int
    remarks: list[tuple[str, str]] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    hashes: list[tuple[str, str]] = field(default_factory=list)
    matrix: Matrix | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return the stage, and the name of the folder if that says more."""
        name = Path(self.output.folder).name
        return self.output.stage if name == self.output.stage else f"{self.output.stage}: {name}"

    @property
    def started(self) -> str:
        """Return when the run started, to the minute."""
        return str(self.output.record.get("started") or "")[:16].replace("T", " ")

    @property
    def command(self) -> str:
        """Return the command, as a shell takes it."""
        return shlex.join(["gptctl", *self.output.record.get("argv", [])])

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


def show_figures(
    section: Section, metrics: Values, names: Sequence[str], labels: Mapping[str, str] = NO_LABELS
) -> None:
    """Add the named metrics that are present and are single values. `labels` are names for people.

    A hash is no figure: it goes to the hashes.
    """
    for name in names:
        value = metrics.get(name)
        if value is None or isinstance(value, dict | list):
            continue
        label = labels.get(name, name.replace("_", " "))
        is_hash = isinstance(value, str) and HASH.fullmatch(value)
        (section.hashes if is_hash else section.figures).append((label, format_number(value)))


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
