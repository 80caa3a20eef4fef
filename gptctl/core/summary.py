"""The result of a stage, with counts that add up: documents in = kept + dropped by reason + quarantined by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gptctl.core.errors import GptctlError
from gptctl.core.formatting import format_bytes, format_count, format_duration, format_number
from gptctl.core.visible import escape_html

LOW_SHARE = 0.05  # of the documents; where a stage keeps less, something is probably wrong
# Why documents that were read are quarantined: they lack a value that the command needs.
LACKING = ("no label", "no group", "no time")
Status = Literal["done", "up to date", "planned", "explained", "failed"]


class StoredCounts(BaseModel):
    """Counts as they are stored in a file. Anything else raises ValidationError, which is a ValueError."""

    model_config = ConfigDict(strict=True)

    documents_in: int = Field(alias="in", ge=0)
    kept: int = Field(ge=0)
    dropped: dict[str, int]
    quarantined: dict[str, int]
    bytes_in: int = Field(ge=0)
    bytes_kept: int = Field(ge=0)
    dropped_bytes: dict[str, int]
    encodings: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)


@dataclass
class Counts:
    """The number of documents read, kept, dropped and quarantined, with the bytes of their text.

    `encodings` counts those that were read from another encoding than UTF-8, which was detected. `skipped` counts
    the records that are no documents, such as images in a web archive; they are not among the documents read.
    """

    documents_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_kept: int = 0
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add the counts of another part of the same work."""
        self.documents_in += other.documents_in
        self.kept += other.kept
        self.dropped += other.dropped
        self.quarantined += other.quarantined
        self.bytes_in += other.bytes_in
        self.bytes_kept += other.bytes_kept
        self.dropped_bytes += other.dropped_bytes
        self.encodings += other.encodings
        self.skipped += other.skipped

    def balanced(self) -> bool:
        """Return whether every document is accounted for."""
        return self.documents_in == self.kept + self.dropped.total() + self.quarantined.total()

    def little_kept(self) -> str:
        """Return a warning if nothing or less than 5 % of the documents was kept, else an empty string."""
        if not self.documents_in or self.kept >= LOW_SHARE * self.documents_in:
            return ""
        reasons = self.dropped + self.quarantined
        reason, most = reasons.most_common(1)[0]
        documents, were = format_count(self.documents_in, "document"), "was" if self.kept == 1 else "were"
        share = f"only {self.kept:,} of {documents} ({self.kept / self.documents_in:.1%}) {were} kept"
        kept = share if self.kept else f"NOTHING WAS KEPT of {documents}"
        is_key = ", a key that --set changes" if "." in reason else ""
        return f"{kept}; most often because of {reason} ({most:,}){is_key}"

    def to_json(self) -> dict[str, Any]:
        """Return the counts as manifests and --json contain them.

        Encodings and skipped records are only in them if there are any.
        """
        found = {
            "in": self.documents_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "quarantined": dict(sorted(self.quarantined.items())),
            "bytes_in": self.bytes_in,
            "bytes_kept": self.bytes_kept,
            "dropped_bytes": dict(sorted(self.dropped_bytes.items())),
        }
        optional = {"encodings": self.encodings, "skipped": self.skipped}
        return found | {name: dict(sorted(counter.items())) for name, counter in optional.items() if counter}

    @classmethod
    def from_json(cls, value: Any) -> Counts:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        stored = StoredCounts.model_validate(value)
        return cls(
            stored.documents_in, stored.kept, Counter(stored.dropped), Counter(stored.quarantined),
            stored.bytes_in, stored.bytes_kept, Counter(stored.dropped_bytes), Counter(stored.encodings),
            Counter(stored.skipped),
        )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A small table for people. It is printed on standard error."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_html(self) -> str:
        """Return an HTML table with all text escaped."""
        head = "".join(f"<th>{escape_html(name)}</th>" for name in self.columns)
        rows = ("".join(f"<td>{escape_html(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{cells}</tr>" for cells in rows)
        return f"<table><caption>{escape_html(self.title)}</caption><tr>{head}</tr>{body}</table>"


@dataclass(frozen=True)
class Summary:
    """The result of a stage. `--json` prints it."""

    stage: str
    status: Status = "done"
    outputs: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    plan: dict[str, Any] | None = None
    lines: tuple[str, ...] = ()  # for people, before the tables
    tables: tuple[Table, ...] = ()
    failure: GptctlError | None = None  # the error that ends the command after its result is shown
    next: str = ""
    warnings: tuple[str, ...] = ()

    def followed_by(self, command: str) -> Summary:
        """Return the summary with the command to run next, or with a warning if hardly any document was kept."""
        if warning := self.counts.little_kept():
            return replace(self, warnings=(*self.warnings, warning))
        return replace(self, next=command)

    @property
    def final_status(self) -> Status:
        """Return the status: "failed" if an error ends the command, even though the result was written."""
        return "failed" if self.failure else self.status

    def _repr_html_(self) -> str:
        """Return the tables for a notebook, with all text escaped."""
        where = escape_html(f" in {', '.join(self.outputs)}") if self.outputs else ""
        title = f"<p><b>{escape_html(self.stage)}</b>: {self.final_status}{where} ({format_duration(self.seconds)})</p>"
        warnings = "".join(f"<p><b>warning</b>: {escape_html(warning)}</p>" for warning in self.warnings)
        return title + "".join(table.to_html() for table in self.tables) + warnings

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary of text, numbers, lists and dictionaries: what `--json` prints."""
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Return the result as the one strict JSON document that `--json` prints."""
        document: dict[str, Any] = {
            "schema": 1,
            "stage": self.stage,
            "status": self.final_status,
            "outputs": list(self.outputs),
            "counts": self.counts.to_json(),
            "metrics": self.metrics,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }
        if self.failure:
            document["error"] = self.failure.message
        if self.plan is not None:
            document["plan"] = self.plan
        return document


def source_table(sources: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of what a run read of each of its sources, from the metric or event `sources`."""
    rows = [
        (
            str(source["name"]), f"{source['tokens']:,}", format_number(source["epochs"]),
            format_number(source.get("val_loss")),
        )
        for source in sources
    ]  # fmt: skip
    return Table("sources", ("source", "tokens", "epochs", "val loss"), tuple(rows))


def quarantine_name(reason: str) -> str:
    """Return what people read about documents that are quarantined for a reason."""
    return reason if reason in LACKING else f"unreadable: {reason}"


def funnel(title: str, counts: Counts) -> Table:
    """Return a table of documents and bytes: how much was read, dropped for each reason, and kept."""

    def row(label: str, documents: int, size: int | None) -> tuple[str, str, str, str]:
        share = f"{documents / counts.documents_in:.1%}" if counts.documents_in else ""
        return label, f"{documents:,}", share, format_bytes(size) if size is not None else ""

    rows = [row("in", counts.documents_in, counts.bytes_in)]
    rows += [row(f"  read as {name}", n, None) for name, n in counts.encodings.most_common()]
    rows += [(f"  not read: {kind}", f"{n:,}", "", "") for kind, n in counts.skipped.most_common()]
    rows += [row(f"- {reason}", n, counts.dropped_bytes[reason]) for reason, n in counts.dropped.most_common()]
    rows += [row(f"- {quarantine_name(reason)}", n, None) for reason, n in counts.quarantined.most_common()]
    rows.append(row("kept", counts.kept, counts.bytes_kept))
    return Table(title, ("", "documents", "share", "text"), tuple(rows))
