"""The filter `classifier`: scores, labels, and a model that changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.text.filters import DocumentBatch
from gptctl.text.filters.classifier import Config, fingerprints, measure
from gptctl.text.word_models import training
from gptctl.text.word_models.ngram_model import NgramModel
from tests.text.word_models import labelled

TEXTS = [row["text"] for row in labelled()[:60]]


def make(folder: Path, names: tuple[str, ...], seed: int = 0) -> str:
    """Write a small model whose labels have these names."""
    folder.mkdir(exist_ok=True)
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    numbers = [number % len(names) for number in range(len(TEXTS))]
    model = training.train_ngram_model(table, numbers, names, seed, lambda _: None)
    NgramModel(names, model.ngrams, model.weights, model.bias).save(folder, {})
    return str(folder)


def scores(config: Config) -> list[float]:
    """Return the scores of the texts, as the column and as the figures have them."""
    result = measure(DocumentBatch(pa.array([*TEXTS, "", None], pa.large_string())), config)
    column = result.columns[config.score_column]
    assert np.array_equal(np.array(column, np.float64), result.figures[:, 0])
    found: list[float] = column.to_pylist()
    return found


@pytest.mark.parametrize(("names", "good"), [(("neg", "pos"), "pos"), (("0", "1"), "1"), (("cc", "HQ"), "HQ")])
def test_the_good_label_is_the_score(tmp_path: Path, names: tuple[str, ...], good: str) -> None:
    model = make(tmp_path, names)
    assert scores(Config(model=model)) == scores(Config(model=model, label=good))
    bad = next(name for name in names if name != good)
    both = np.add(scores(Config(model=model)), scores(Config(model=model, label=bad)))
    assert both == pytest.approx(1)


@pytest.mark.parametrize("names", [("news", "web"), ("good", "true"), ("a", "b", "c")])
def test_labels_that_do_not_tell_must_be_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    model = make(tmp_path, names)
    with pytest.raises(UsageError, match=f"labels are: {', '.join(names)}"):
        fingerprints(Config(model=model))
    assert fingerprints(Config(model=model, label=names[0]))
    with pytest.raises(UsageError, match="no label 'x'") as raised:
        fingerprints(Config(model=model, label="x"))
    assert ", ".join(names) in raised.value.hint


def test_a_model_that_changes_is_read_again(tmp_path: Path) -> None:
    config = Config(model=make(tmp_path, ("bad", "good")))
    before, hashed = scores(config), fingerprints(config)
    make(tmp_path, ("bad", "good"), seed=1)
    assert scores(config) != before
    assert fingerprints(config) != hashed


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model"):
        fingerprints(Config(model=str(tmp_path / "absent")))
    with pytest.raises(DataError, match="not a classifier"):
        fingerprints(Config(model=str(tmp_path)))


def test_columns_of_the_documents_are_no_columns_of_scores() -> None:
    with pytest.raises(ValueError, match="choose another name"):
        Config(score_column="text")
