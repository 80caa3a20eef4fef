"""What a classifier must beat to have learned something: trained on the training split, in numpy, in seconds.

    majority   the commonest label, always
    nb         multinomial naive Bayes on which words and pairs of words occur (Wang and Manning 2012, "Baselines and
               Bigrams", whose MNB-bi counts each once a text), smoothing 1, with the labels' shares as the prior

Words are runs of letters and digits, or single other characters, in lower case. Measured: 82.0 % of TREC's 500 test
questions in 0.1 s, 88.0 % of fold 9 of the movie reviews in 4 s.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from gptctl.core import plugins
from gptctl.core.config import ReadingOptions
from gptctl.evals.scoring.confusion import Integers
from gptctl.evals.scoring.metric_results import METRICS, Rows, Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import compare
from gptctl.pipeline import labelled_data

Train: TypeAlias = Callable[[Sequence[str], Sequence[str]], Callable[[Sequence[str]], list[str]]]

WORD = re.compile(r"\w+|[^\w\s]")
COLUMN = "baseline_"  # begins the name of the column that holds a baseline's guesses
SMOOTHING = 1.0
TEXTS_AT_ONCE = 4096


def majority(texts: Sequence[str], labels: Sequence[str]) -> Callable[[Sequence[str]], list[str]]:
    """Learn the commonest label; of equally common ones the first in order."""
    counts = Counter(labels)
    common = min(counts, key=lambda label: (-counts[label], label))
    return lambda asked: [common] * len(asked)


def naive_bayes(texts: Sequence[str], labels: Sequence[str]) -> Callable[[Sequence[str]], list[str]]:
    """Learn how often each word and pair of words occurs under each label."""
    names = sorted(set(labels))
    place = {name: index for index, name in enumerate(names)}
    number: dict[str, int] = {}
    rows = [[number.setdefault(gram, len(number)) for gram in grams(text)] for text in texts]
    flat, row_of = flatten(rows)
    gold = np.array([place[label] for label in labels], np.int64)
    cells = gold[row_of] * len(number) + flat
    counts = np.bincount(cells, minlength=len(names) * len(number)).reshape(len(names), -1) + SMOOTHING  # (k, V)
    weights = np.log(counts / counts.sum(axis=1, keepdims=True)).T  # (V, k)
    prior = np.log(np.bincount(gold, minlength=len(names)) / len(gold))

    def predict(asked: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(asked), TEXTS_AT_ONCE):
            known = [[number[g] for g in grams(text) if g in number] for text in asked[start : start + TEXTS_AT_ONCE]]
            scores = np.tile(prior, (len(known), 1))
            flat, row_of = flatten(known)
            np.add.at(scores, row_of, weights[flat])
            found += [names[best] for best in scores.argmax(axis=1)]
        return found

    return predict


def grams(text: str) -> list[str]:
    """List the words of a text and the pairs of neighbours, each once."""
    words = WORD.findall(text.lower())
    return list(dict.fromkeys([*words, *(f"{one} {other}" for one, other in pairwise(words))]))


def flatten(rows: Iterable[Sequence[int]]) -> tuple[Integers, Integers]:
    """Give all numbers of all rows one after the other, and the row of each."""
    listed = list(rows)
    flat = np.array([item for row in listed for item in row], np.int64)
    return flat, np.repeat(np.arange(len(listed)), [len(row) for row in listed])


BASELINES: dict[str, Train] = {"majority": majority, "nb": naive_bayes}


def check(names: Iterable[str]) -> None:
    """Raise UsageError (2) for a name that no baseline has."""
    for name in names:
        if name not in BASELINES:
            raise plugins.unknown("baseline", name, list(BASELINES))


def training_texts(
    config: ReadingOptions, data: str, label_column: str, trained_on: Mapping[str, str]
) -> tuple[list[str], list[str]] | None:
    """Return the texts and labels of the training split of DATA; None if it has none, or nothing beside it.

    Data without named splits that the model was finetuned on has one: what was not held out.
    """
    splits = labelled_data.find_splits(data)
    if "train" in splits.named and len(splits.named) > 1:
        table, _ = labelled_data.read_documents(config, splits.named["train"])
    elif splits.whole is not None and splits.whole != "-" and trained_on:
        table, prints = labelled_data.read_documents(config, splits.whole)
        if not set(prints.values()) <= set(trained_on.values()):
            return None
        table = table.filter(pa.array([not held for held in labelled_data.held_out(table)], pa.bool_()))
    else:
        return None
    return table["text"].to_pylist(), labelled_data.labels_of(table, label_column, "train")


def with_guesses(
    rows: Rows, texts: Sequence[str], names: Sequence[str], train: tuple[Sequence[str], Sequence[str]]
) -> Rows:
    """Put beside each row what the baselines say of its text, in columns of their own, to be scored with the row."""
    guesses = {f"{COLUMN}{name}": BASELINES[name](*train)(texts) for name in names}
    return [{**row, **{name: column[place] for name, column in guesses.items()}} for place, row in enumerate(rows)]


def named_in(rows: Rows) -> list[str]:
    """List the baselines whose guesses are in all rows."""
    return [name for name in BASELINES if all(row.get(f"{COLUMN}{name}") is not None for row in rows)]


def beside(rows: Rows, names: Sequence[str], options: Options) -> dict[str, Values]:
    """Score the baselines' guesses beside what was predicted.

    Gives for each: its metrics, `lift` (how much higher the rows' own metrics are) and McNemar's test of the two.
    """
    own = [{"id": row["id"], "label": row["label"], "pred": row.get("pred")} for row in rows]
    metrics = [name for name in options.metrics if not hasattr(plugins.load(METRICS, name), "statistics")]
    options = replace(options, metrics=tuple(metrics), ci="none")
    found: dict[str, Values] = {}
    for name in names:
        theirs = [{**plain, "pred": row[f"{COLUMN}{name}"]} for plain, row in zip(own, rows, strict=True)]
        comparison = compare.compare(own, theirs, "labels", options)
        shown = [metric for metric in comparison if metric not in ("n", "mcnemar")]
        found[name] = {
            **{metric: comparison[metric]["other"] for metric in shown},
            "lift": {metric: comparison[metric]["difference"] for metric in shown},
            "mcnemar": comparison["mcnemar"],
        }
    return found
