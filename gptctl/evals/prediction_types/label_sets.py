"""Rows with any number of labels each: `label` and `pred` are lists of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring import averages, classification, confusion, metric_results
from gptctl.evals.scoring.averages import Averaging, Floats
from gptctl.evals.scoring.confusion import Integers, Sums
from gptctl.evals.scoring.metric_results import Measured, Part, Rows, Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats.resampling import ClassSums, Estimate, Units, add_by_group, from_rows, in_groups

DEFAULTS = ("precision", "recall", "f1", "subset_accuracy", "hamming_loss")


@dataclass(frozen=True, eq=False)
class LabelSets:
    """Which labels each row has and which were predicted, both bool (N, k).

    `strange` (N,): rows with a prediction that is none of the labels. It takes part in no class; the row is not right.
    """

    labels: tuple[str, ...]
    gold: npt.NDArray[np.bool_]
    pred: npt.NDArray[np.bool_]
    strange: npt.NDArray[np.bool_]

    def sums(self) -> Sums:
        """Return the counts of each row and class, (N, k)."""
        counts = (self.gold & self.pred, self.pred, self.gold)
        return Sums(self.labels, *(values.astype(np.int64) for values in counts))

    def right(self) -> npt.NDArray[np.bool_]:
        """Tell which rows have exactly the labels that were predicted (N,)."""
        return np.asarray((self.gold == self.pred).all(axis=1) & ~self.strange)


def matches(row: Values) -> bool:
    """Return whether a row has a list of labels and something that was predicted."""
    return isinstance(row.get("label"), list) and "pred" in row


def problem(row: Values) -> str | None:
    """Say what is wrong with a row, or None."""
    for column in ("label", "pred"):
        values = row.get(column)
        if values is None and column == "label":
            return "has no label"
        if values is not None and not isinstance(values, list):
            return f"has a {column} that is no list, in a file whose labels are lists"
        if any(value is None or isinstance(value, dict | list) for value in values or ()):
            return f"has a null or nested value in its list of {column}"
    return None


def measure(rows: Rows, options: Options) -> Measured:
    """Count each class over all rows. Raises DataError for a gold label outside the label set."""
    if options.averaging.average == "binary":
        raise UsageError("average 'binary' is for rows with one label", "use macro, micro, weighted or samples")
    modules = metric_results.chosen(options, "label_sets", DEFAULTS)
    sets = collect(rows, options.label_set)
    groups = metric_results.groups_of(rows)
    by_class = {name: module for name, module in modules.items() if hasattr(module, "fraction")}
    by_row = {name: module for name, module in modules.items() if hasattr(module, "statistics")}
    sums = sets.sums()
    total = Sums(sets.labels, sums.tp.sum(0), sums.predicted.sum(0), sums.support.sum(0))
    parts: list[Part] = []
    if by_class and options.averaging.average == "samples":
        parts.append(of_samples(by_class, sums, options.averaging, groups))
    elif by_class:
        parts.append(of_classes(by_class, sums, total, options.averaging, groups))
    if by_row:
        parts.append(metric_results.additive(by_row, sets, groups))
    head: Values = {"invalid": int(sets.strange.sum()), "average": options.averaging.average}
    tail: Values = {"averages": classification.other_averages(total, by_class, options.averaging)}
    for name, module in by_class.items():
        tail["averages"][name]["samples"] = averages.number(mean_of(sample_values(module, sums, options.averaging)))
    if options.per_class:
        tail["per_class"] = classification.per_class(total, options.averaging.zero_division)
    absent = [label for label, present in zip(sets.labels, total.present(), strict=True) if not present]
    warnings = classification.look_alikes(sets.labels)
    if options.averaging.average != "samples":
        warnings += classification.undefined(total, by_class, options.averaging)
    return Measured(len(rows), tuple(parts), head, tail | {"absent": absent}, sets.right(), tuple(warnings))


def collect(rows: Rows, labels: Sequence[str] | None) -> LabelSets:
    """Put the rows' lists into two tables of yes and no."""
    gold = [set(confusion.as_texts(row["label"])) for row in rows]
    pred = [set(confusion.as_texts(row["pred"] or [])) for row in rows]
    known = tuple(labels or sorted({str(label) for labels in (*gold, *pred) for label in labels}))
    place = {label: index for index, label in enumerate(known)}
    tables = [np.zeros((len(rows), len(known)), np.bool_) for _ in range(2)]
    strange = np.array([row["pred"] is None for row in rows], np.bool_)
    for number, (wanted, found) in enumerate(zip(gold, pred, strict=True)):
        for label in wanted:
            if label not in place:
                raise DataError(
                    f"row {number + 1}: label '{label}' is not in the label set ({', '.join(known[:10])})",
                    "correct the row, or add the label with --labels",
                )
            tables[0][number, place[label]] = True
        for label in found:
            if label in place:
                tables[1][number, place[label]] = True
            else:
                strange[number] = True
    return LabelSets(known, tables[0], tables[1], strange)


def of_classes(
    modules: dict[str, ModuleType], sums: Sums, total: Sums, averaging: Averaging, groups: Sequence[object] | None
) -> Part:
    """Measure metrics that average over classes; equal rows are one unit."""
    k = len(sums.labels)
    if groups is not None:
        units = in_groups(groups)
        added = [add_by_group(values, units) for values in (sums.tp, sums.predicted, sums.support)]
        payload = ClassSums(Sums(sums.labels, *added))
    else:
        units, stats = from_rows(np.concatenate((sums.tp, sums.predicted, sums.support), axis=1).astype(np.float64))
        whole: Integers = stats.values.astype(np.int64)
        payload = ClassSums(Sums(sums.labels, whole[:, :k], whole[:, k : 2 * k], whole[:, 2 * k :]))
    estimates = {name: classification.estimate_of(module, averaging) for name, module in modules.items()}
    values = {name: averages.number(estimate(total)) for name, estimate in estimates.items()}
    return Part(units, payload, values, estimates)


def of_samples(
    modules: dict[str, ModuleType], sums: Sums, averaging: Averaging, groups: Sequence[object] | None
) -> Part:
    """Measure metrics of each row by itself, and average over rows. A row that is 0/0 counts as zero_division."""
    columns = []
    for module in modules.values():
        values = sample_values(module, sums, averaging)
        columns.append(np.stack((np.nan_to_num(values), ~np.isnan(values)), axis=1))
    units: Units
    units, payload = from_rows(np.concatenate(columns, axis=1).astype(np.float64), groups)
    estimates = {name: ratio_at(2 * place) for place, name in enumerate(modules)}
    values_of = {name: mean_of(sample_values(module, sums, averaging)) for name, module in modules.items()}
    return Part(units, payload, {name: averages.number(value) for name, value in values_of.items()}, estimates)


def ratio_at(place: int) -> Estimate:
    """Return the quotient of two neighbouring totals as a function of the totals."""
    return lambda totals: averages.ratio(totals[..., place], totals[..., place + 1], "nan")


def sample_values(module: ModuleType, sums: Sums, averaging: Averaging) -> Floats:
    """Return a metric's value in each row, over all its classes together (N,)."""
    numerator, denominator = module.fraction(sums)
    return averages.ratio(numerator.sum(axis=-1), denominator.sum(axis=-1), averaging.zero_division)


def mean_of(values: Floats) -> float:
    """Return the mean of the values that exist, else NaN."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
