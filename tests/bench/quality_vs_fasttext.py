"""Train and score a quality filter beside fastText: five folds of labelled texts, in turn, on one thread.

    pip install --target FOLDER --no-deps fasttext-numpy2-wheel
    PYTHONPATH=FOLDER OMP_NUM_THREADS=1 python -m tests.bench.quality_vs_fasttext movie_reviews.jsonl.gz

FILE has JSON lines with text, label and fold; a fold is a number, and those that are equal modulo 5 are held out
together. fastText trains with pairs of words and 25 epochs, at its best learning rate of --lr. Times are processor
seconds, with the splitting into words. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow as pa

from gptctl.text.word_models.training import train_ngram_model

FOLDS, EPOCHS, TRIES = 5, 25, 5
Rows = Sequence[dict[str, Any]]
Result = tuple[list[str], float, float]  # the predictions, and the seconds of training and scoring


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the processor seconds that it took."""
    started = time.process_time()
    return function(), time.process_time() - started


def run_gptctl(train: Rows, test: Rows) -> Result:
    """Train and score with gptctl."""
    names = sorted({row["label"] for row in train})
    table, unseen = (
        pa.table({"text": pa.array([row["text"] for row in rows], pa.large_string())}) for rows in (train, test)
    )
    labels = [names.index(row["label"]) for row in train]
    model, training = timed(lambda: train_ngram_model(table, labels, names, 0, lambda _: None))
    found, scoring = timed(lambda: model.probabilities(unseen["text"].combine_chunks()))
    return [names[number] for number in found.argmax(axis=1)], training, scoring


def run_fasttext(train: Rows, test: Rows, lr: float) -> Result:
    """Train and score with fastText, which reads a file with a text per line.

    Some builds fail now and then, with a message about NaN; they are tried again.
    """
    import fasttext

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"__label__{row['label']} {line_of(row)}\n" for row in train)
        file.flush()
        settings = {"wordNgrams": 2, "epoch": EPOCHS, "lr": lr, "thread": 1, "verbose": 0}
        for attempt in range(TRIES):
            try:
                model, training = timed(lambda: fasttext.train_supervised(file.name, **settings))
                break
            except RuntimeError:
                if attempt == TRIES - 1:
                    raise
    lines = [line_of(row) for row in test]
    found, scoring = timed(lambda: [model.predict(line)[0][0] for line in lines])
    return [label.removeprefix("__label__") for label in found], training, scoring


def line_of(row: dict[str, Any]) -> str:
    """Return a text as one line."""
    return str(row["text"]).replace("\n", " ")


def compare(rows: Rows, rates: Sequence[float]) -> dict[str, Any]:
    """Run both on each fold, in turn, and return accuracies and medians of seconds."""
    results: dict[str, list[tuple[float, float, float]]] = {}
    for fold in range(FOLDS):
        train = [row for row in rows if int(row["fold"]) % FOLDS != fold]
        test = [row for row in rows if int(row["fold"]) % FOLDS == fold]
        random.Random(fold).shuffle(train)
        runs: dict[str, Callable[[], Result]] = {"gptctl": lambda: run_gptctl(train, test)}  # noqa: B023 (called here)
        for lr in rates:
            runs[f"fasttext lr={lr:g}"] = lambda lr=lr: run_fasttext(train, test, lr)  # type: ignore[misc]  # noqa: B023
        for name, run in runs.items():
            predicted, training, scoring = run()
            right = sum(label == row["label"] for label, row in zip(predicted, test, strict=True)) / len(test)
            results.setdefault(name, []).append((right, len(train) / training, len(test) / scoring))
            sys.stdout.write(
                f"fold {fold}  {name:18}  accuracy {right:.4f}  train {training:.2f} s  score {scoring:.3f} s\n"
            )
            sys.stdout.flush()
    summary = {
        name: {"accuracy": round(fmean(r[0] for r in found), 4), "trained_per_s": round(median(r[1] for r in found), 1),
               "scored_per_s": round(median(r[2] for r in found), 1)}
        for name, found in results.items()
    }  # fmt: skip
    ours = summary.pop("gptctl")
    best = max(summary, key=lambda name: summary[name]["accuracy"])
    return {
        "gptctl": ours,
        "fasttext": summary[best] | {"settings": best},
        "train_ratio": round(ours["trained_per_s"] / summary[best]["trained_per_s"], 2),
        "score_ratio": round(ours["scored_per_s"] / summary[best]["scored_per_s"], 2),
        "accuracy_points": round(100 * (ours["accuracy"] - summary[best]["accuracy"]), 2),
    }


def main() -> None:
    """Compare on the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lr", type=float, nargs="+", default=[1.0])
    options = parser.parse_args()
    with (gzip.open if options.file.suffix == ".gz" else Path.open)(options.file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    run_gptctl(rows[::20], rows[1::20])  # compile
    sys.stdout.write(json.dumps(compare(rows, options.lr)) + "\n")


if __name__ == "__main__":
    main()
