"""From rows to everything that is said about them: metrics, baselines, another system beside them, leakage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gptctl.core.errors import DataError
from gptctl.evals import leakage
from gptctl.evals.leakage import Hits
from gptctl.evals.scoring import baselines, classification, scorer
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import compare, regressions
from gptctl.evals.stats.gates import Check
from gptctl.io.input.predictions import Predictions, read_predictions

WHOLE = "predictions"  # the split of rows that name none


@dataclass(frozen=True)
class Examples:
    """Rows of one kind and one split. `facts`: labels (in the order of probs), report (what a reader must know).

    `texts` are what was asked, where that is known, and `train` the texts and labels that a baseline learns from.
    """

    split: str
    kind: str
    rows: Rows
    facts: Values = field(default_factory=dict)
    texts: tuple[str, ...] | None = None
    train: tuple[Sequence[str], Sequence[str]] | None = None


def of_predictions(path: str, metrics: Sequence[str]) -> list[Examples]:
    """Read predictions, check them, and put them into their splits. Raises UsageError (2) or DataError (3)."""
    where = "standard input" if path == "-" else path
    return of_rows(read_predictions(path), metrics, where)


def of_rows(found: Predictions, metrics: Sequence[str], where: str) -> list[Examples]:
    """Check rows and put them into their splits, in the order of their first rows."""
    known = found.facts.get("rows")
    kind = scorer.kind_of(found.rows, metrics, where)
    if known == "texts" and set(metrics) == set(classification.DEFAULTS):
        kind = "texts"
    scorer.check(found.rows, kind, where)
    parts: dict[str, Rows] = {}
    for row in found.rows:
        parts.setdefault(str(row.get("split") or WHOLE), []).append(row)
    facts = found.facts.get("splits", {})
    return [Examples(split, kind, rows, facts.get(split, {}), texts_of(rows)) for split, rows in parts.items()]


def texts_of(rows: Rows) -> tuple[str, ...] | None:
    """Return the texts that rows carry, where all do."""
    texts = [row.get("text") for row in rows]
    return tuple(text for text in texts if isinstance(text, str)) if all(isinstance(t, str) for t in texts) else None


def options_for(options: Options, part: Examples) -> Options:
    """Fit the options to one part: the default metrics are those of its kind, the label set is the model's."""
    known = tuple(part.facts["labels"]) if part.facts.get("labels") else None
    default = set(options.metrics) == set(classification.DEFAULTS)
    return replace(
        options, metrics=() if default else options.metrics, labels=options.labels or known, probability_labels=known
    )


def report(part: Examples, options: Options) -> Values:
    """Return the metrics of one part, and what they depend on."""
    about: Values = part.facts.get("report", {})
    return scorer.score(part.rows, part.kind, options_for(options, part)) | about


def with_baselines(part: Examples, names: Sequence[str]) -> Examples:
    """Put the baselines' guesses into the rows. Raises DataError (3) where they have nothing to learn from."""
    if part.kind != "labels" or part.texts is None or part.train is None:
        raise DataError(
            "baselines need texts with one label each, and a training split to learn from",
            "gptctl eval MODEL DATA, with a folder DATA that has train and test files",
        )
    return replace(part, rows=baselines.with_guesses(part.rows, part.texts, names, part.train))


def beside(part: Examples, names: Sequence[str], options: Options) -> Values:
    """Return the scores of the baselines whose guesses are in the rows."""
    return baselines.beside(part.rows, names, replace(options_for(options, part), metrics=options.metrics))


def compared(parts: Sequence[Examples], part: Examples, others: Rows, name: str, options: Options) -> Values:
    """Compare one part with another system's rows, matched by id. Raises DataError (3) where they don't match."""
    theirs = others
    if all("split" in row for row in others) and all("split" in row for row in part.rows):
        theirs = [row for row in others if str(row["split"]) == part.split]
    elif len(parts) > 1:
        own = {str(row["id"]) for row in part.rows}
        theirs = [row for row in others if str(row["id"]) in own]
    scorer.check(theirs, part.kind, name)
    aligned = compare.align(part.rows, theirs, name)
    return compare.compare(part.rows, aligned, part.kind, options_for(options, part))


def leaked(part: Examples, hits: Hits, documents: int, options: Options) -> Values:
    """Describe what was found in the training data, and measure what was not."""
    clean = leakage.clean_rows(part.rows, hits)
    values: Values = {"n": len(clean)}
    if clean:
        found = scorer.measure(clean, part.kind, options_for(options, part))
        values |= {name: found.value(name) for name in found.names()}
    return leakage.describe(part.rows, hits, documents) | {"clean": values}


def no_regress(
    result: Values, part: Examples | None, old: Values | Rows, alpha: float, options: Options
) -> list[Check]:
    """Check that nothing is significantly worse than in an earlier result, or in earlier rows."""
    if isinstance(old, dict):
        return regressions.from_figures(result, old, list(result["intervals"]), alpha)
    assert part is not None
    comparison = compared([part], part, old, "the earlier predictions", options)
    return regressions.from_rows(comparison, [name for name in comparison if name not in ("n", "mcnemar")], alpha)


def by_split(splits: dict[str, Values]) -> Values:
    """Put the last split's figures (test's) at the top, and all of them below "splits"."""
    last = list(splits)[-1]
    return splits[last] | {"split": last} | ({"splits": splits} if len(splits) > 1 else {})
