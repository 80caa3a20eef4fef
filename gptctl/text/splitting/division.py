"""The division of all documents: the split of each unit, and cuts in the order of the documents that are alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.io.dataset import stream
from gptctl.io.input.blocks import ShardTask
from gptctl.pipeline.sorted_runs import SortedRuns, of_task
from gptctl.text.dedup import conflicts
from gptctl.text.dedup.sorted_arrays import is_in_sorted, run_starts
from gptctl.text.dedup.whole_documents.workspace import Workspace
from gptctl.text.splitting.assignment import Cuts, UnitAssignment, find_cuts
from gptctl.text.splitting.order import Numbers, SplitOrder
from gptctl.text.splitting.quotas import Quotas, apportion
from gptctl.text.splitting.units import Units

MAX_LABELS = 10_000  # a table of this size is still readable by a program; more are no labels


@dataclass(frozen=True)
class Division:
    """`split` is that of each document in `units`; `cuts` decide about all others.

    `duplicates` are the units that are duplicates, without those of groups. `late` documents are in an earlier split
    than their time says, because they are copies of earlier ones.
    """

    units: Units
    duplicates: Units
    split: NDArray[np.uint8]
    cuts: Cuts
    late: int = 0

    def attach(self, tasks: Iterable[ShardTask]) -> Iterator[ShardTask]:
        """Yield the tasks with the decisions about their documents as a note."""
        docs, cuts = self.units.docs, self.cuts.to_bytes()
        rows = np.searchsorted(docs, self.duplicates.docs)  # all duplicates are in units
        cluster, is_conflicting = self.units.cluster.copy(), np.zeros(len(docs), np.bool_)
        cluster[rows], is_conflicting[rows] = self.duplicates.cluster, self.duplicates.conflicting()
        for task in tasks:
            low, high = of_task(task.index)
            start, stop = np.searchsorted(docs, np.array([low, high], np.uint64)).tolist()
            columns = {
                "row": (docs[start:stop] - np.uint64(low)).astype(np.int64),
                "split": self.split[start:stop],
                "cluster": cluster[start:stop],
                "conflict": pa.array(is_conflicting[start:stop]),
            }
            note = pa.table(columns).replace_schema_metadata({"cuts": cuts})
            yield replace(task, payload=stream.to_bytes(note))

    def metrics(self) -> dict[str, object]:
        """Return the numbers of clusters of duplicates, of units, and of clusters with different labels."""
        found: dict[str, object] = {
            "duplicates": self.duplicates.counts(),
            "units": self.units.counts(),
            "conflicts": conflicts.count(self.duplicates.number, self.duplicates.conflicting()),
        }
        return found | ({"late_copies": self.late} if self.late else {})


@dataclass
class Divider:
    """Divides the documents of a workspace. `val` and `test` are shares; the disk is read in `parts` parts."""

    workspace: Workspace
    units: Units
    duplicates: Units
    order: SplitOrder
    val: float
    test: float
    parts: int
    total: Counter[int] = field(default_factory=Counter)  # documents of each stratum
    alone: Counter[int] = field(default_factory=Counter)  # those of them that are in no unit

    def run(self) -> Division:
        """Return the division. Raises DataError (3) if there are too many labels."""
        runs = SortedRuns(self.workspace.folder / "order")
        for number in self.workspace.documents.numbers():
            self._write_positions(runs, number)
        labels = np.array(sorted(self.total), np.uint64)
        if self.order.by_time:
            return self._divide_by_time(runs, labels)
        total = np.array([self.total[label] for label in labels.tolist()], np.int64)
        alone = np.array([self.alone[label] for label in labels.tolist()], np.int64)
        shares = (1 - self.val - self.test, self.val, self.test)
        assignment = UnitAssignment(Quotas.of(total, self.val, self.test), shares)
        split = decide_units(self.units, np.searchsorted(labels, self._strata()), assignment, self.order)
        val, test = assignment.still_needed(alone)
        return Division(self.units, self.duplicates, split, find_cuts(runs, labels, val, test, self.parts))

    def _divide_by_time(self, runs: SortedRuns, labels: Numbers) -> Division:
        """Divide by cuts alone; each unit has one position, that of its earliest document."""
        total = np.array([self.total.total()])
        cuts = find_cuts(runs, labels, apportion(total, self.val), apportion(total, self.test), self.parts)
        split = cuts.split_of(self._strata(), *self._unit_positions)
        own = cuts.split_of(self._strata(), ~self.units.place, self.order.mix(self.units.cluster))
        return Division(self.units, self.duplicates, split, cuts, late=int((own > split).sum()))

    def _write_positions(self, runs: SortedRuns, number: int) -> None:
        """Write the positions of a task's documents that cuts decide about, and count those of each stratum."""
        table = self.workspace.documents.open(number)
        columns = ("doc", "high", "low", "label", "place", "missing")
        doc, high, low, label, place, missing = (table[name].to_numpy() for name in columns)
        stratum = self.order.strata(label)
        position, tie = (values.copy() for values in self.order.positions(high, low, place))
        is_alone = ~is_in_sorted(doc, self.units.docs)
        here = missing == 0
        if self.order.by_time:
            start, stop = np.searchsorted(self.units.docs, np.array(of_task(number), np.uint64)).tolist()
            unit_position, unit_tie = self._unit_positions
            position[~is_alone], tie[~is_alone] = unit_position[start:stop], unit_tie[start:stop]
        count(self.total, stratum[here])
        count(self.alone, stratum[here & is_alone])
        if len(self.total) > MAX_LABELS:
            raise DataError(
                f"--stratify: the column has more than {MAX_LABELS:,} different values, so it does not hold labels",
                "to keep equal values together instead: --by group:COLUMN",
            )
        chosen = here if self.order.by_time else here & is_alone
        runs.write(number, {"position": position[chosen], "tie": tie[chosen], "label": stratum[chosen]})

    def _strata(self) -> Numbers:
        """Return the stratum of each document in a unit."""
        return self.order.strata(self.units.label)

    @cached_property
    def _unit_positions(self) -> tuple[Numbers, Numbers]:
        """Return the position of each document in a unit by time: that of the earliest document of its unit."""
        earliest = np.full(int(self.units.number.max(initial=-1)) + 1, 2**64 - 1, np.uint64)
        np.minimum.at(earliest, self.units.number, self.units.place)
        return ~earliest[self.units.number], self.order.mix(self.units.cluster)


def count(into: Counter[int], strata: Numbers) -> None:
    """Count the documents of each stratum."""
    values, counts = np.unique(strata, return_counts=True)
    into.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def decide_units(
    units: Units, stratum: NDArray[np.int64], assignment: UnitAssignment, order: SplitOrder
) -> NDArray[np.uint8]:
    """Decide units, the largest first and equal ones in the order of a hash; return the split of each document."""
    by_unit = np.lexsort((stratum, units.number))
    number, stratum = units.number[by_unit], stratum[by_unit]
    starts = np.flatnonzero(run_starts(number.astype(np.uint64)) | run_starts(stratum.astype(np.uint64)))
    labels, counts = stratum[starts].tolist(), np.diff(np.append(starts, len(number))).tolist()
    sizes = units.sizes()
    bounds = np.searchsorted(number[starts], np.arange(len(sizes) + 1)).tolist()
    cluster = np.zeros(len(sizes), np.uint64)
    cluster[units.number] = units.cluster
    split = np.zeros(len(sizes), np.uint8)
    for unit in np.lexsort((order.mix(cluster), -sizes)).tolist():
        first, last = bounds[unit], bounds[unit + 1]
        split[unit] = assignment.decide(labels[first:last], counts[first:last])
    return split[units.number]
