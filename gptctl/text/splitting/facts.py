"""What the split of a document depends on besides its text: its label, its group or its time, each as a number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.io.labels import ABSENT, DEFAULT_COLUMN, NO_LABEL, label_hashes, labels_in

MICROSECONDS = 10**6
HALF = 2**63  # times are shifted by it, so that they are above 0 and sort as unsigned numbers


@dataclass(frozen=True)
class SplitFacts:
    """Reads the numbers of a table's documents, in a worker.

    `stratify` is the column of labels by which documents are stratified, or None. `kind` and `column` are those of
    --by. Labels that serve no stratification are read too, from the column "label" if there is one, to find duplicates
    with different labels.
    """

    stratify: str | None
    kind: str
    column: str

    @property
    def label_column(self) -> str:
        """Return the column that holds labels, which need not exist."""
        return self.stratify or DEFAULT_COLUMN

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that must exist."""
        return tuple(name for name in (self.stratify, self.column) if name)

    def __call__(self, table: pa.Table) -> dict[str, NDArray[np.uint64]]:
        """Return `label`, `place` (a group or a time) and `missing` (whether one that is needed is absent) of each row.

        A label, a group or a time that a document does not have is 0.
        """
        label = label_hashes(self.labels(table))
        place = np.zeros(len(table), np.uint64)
        missing = label == ABSENT if self.stratify else np.zeros(len(table), np.bool_)
        if self.kind == "group":
            place = label_hashes(labels_in(table, self.column))
        elif self.kind == "time":
            place = times(table, self.column)
        if self.column:
            missing = missing | (place == ABSENT)
        return {"label": label, "place": place, "missing": missing.astype(np.uint64)}

    def labels(self, table: pa.Table) -> list[str | None]:
        """Return the labels of a table's rows."""
        return labels_in(table, self.label_column)

    def reasons(self, facts: dict[str, NDArray[np.uint64]]) -> list[str]:
        """Return for each row what it lacks, or an empty text."""
        no_label = facts["label"] == ABSENT
        return [
            "" if not missing else NO_LABEL if self.stratify and unlabelled else f"no {self.kind}"
            for missing, unlabelled in zip(facts["missing"].tolist(), no_label.tolist(), strict=True)
        ]


def times(table: pa.Table, column: str) -> NDArray[np.uint64]:
    """Return the times of a column as numbers that sort like them, and 0 for a row without a readable one."""
    if column not in table.column_names:
        return np.zeros(len(table), np.uint64)
    values = table[column]
    if pa.types.is_timestamp(values.type):  # Python's datetime has no nanoseconds
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    return np.array([time_number(value) for value in values.to_pylist()], np.uint64)


def time_number(value: Any) -> int:
    """Return a time as a number: microseconds of a date or an ISO 8601 text, or millionths of a number's unit.

    A date without a zone is read as UTC. What is no time is 0.
    """
    try:
        if isinstance(value, str):
            value = value.strip()
            value = float(value) if is_number(value) else datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        number = HALF + round(value * MICROSECONDS)
    except (ValueError, TypeError, OverflowError):
        return ABSENT
    return number if 0 < number < 2**64 else ABSENT


def is_number(text: str) -> bool:
    """Return whether a text is a number. A year of four digits is one too."""
    try:
        float(text)
    except ValueError:
        return False
    return True
