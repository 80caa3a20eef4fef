"""Open the model that a path names: a run of `gptctl finetune --task filter`, or a file of fastText."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import xxhash

from gptctl.core.errors import DataError, UsageError
from gptctl.core.written_files import FileState, file_state
from gptctl.io.files import content_hash
from gptctl.io.hub import client
from gptctl.io.hub.data_files import named
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.recognize import recognize
from gptctl.text.word_models import ngram_model
from gptctl.text.word_models.fasttext_file import is_fasttext
from gptctl.text.word_models.fasttext_model import load_fasttext
from gptctl.text.word_models.ngram_model import Probabilities, load_ngram_model

# Labels that mean a good text, in lower case, as they are in published data and models.
POSITIVE = frozenset(("1", "true", "yes", "y", "pos", "positive", "good", "high", "hq", "keep", "clean"))
MOST_NAMED = 20
HINT = "name a file of fastText, or train one: gptctl finetune none LABELLED --task filter -o quality"


class WordModel(Protocol):
    """A model that gives each text a probability for each of its labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""

    def probabilities(self, text: pa.LargeStringArray, /) -> Probabilities:
        """Return the probability of each label for each text (texts, labels)."""

    def weights_of(self, text: str, label: int, /) -> dict[str, float]:
        """Return what each part of a text adds to the log odds of a label, or nothing if the model has no weights."""


def model_files(path: str) -> tuple[Path, ...]:
    """Return the files of a model.

    Raises UsageError (2) if the path does not exist, DataError (3) if it holds something else.
    """
    place = of_hub(HubUri.parse(path)) if is_hub(path) else Path(path)
    if not place.exists():
        raise UsageError(f"no such model: {path}", HINT)
    for folder in (place, place / "model"):
        if (folder / ngram_model.SETTINGS).is_file():
            files = folder / ngram_model.SETTINGS, folder / ngram_model.WEIGHTS
            if not files[1].is_file():
                raise DataError(f"{files[1]} is missing", "copy the folder again, or train again")
            return files
    if place.is_file() and is_fasttext(place):
        return (place,)
    verb = "is" if place.is_file() else "holds"
    raise DataError(f"{path} {verb} {recognize(path)}, not a classifier", HINT)


def of_hub(place: HubUri) -> Path:
    """Return the path that a model of the hub has in the hub's cache, after its files were downloaded."""
    place = client.pin(place)
    if client.file_at(place):
        return client.fetch(place)
    for folder in (place, place.at(f"{place.path}/model".strip("/"))):
        files = [folder.at(f"{folder.path}/{name}".strip("/")) for name in (ngram_model.SETTINGS, ngram_model.WEIGHTS)]
        if paths := [client.fetch(file) for file in files if client.file_at(file)]:
            return paths[0].parent
    hint = f"name a file of it: {named(client.files_below(place.at('')))}"
    raise UsageError(f"{place} names no classifier", hint)


def model_fingerprint(path: str) -> str:
    """Return a hash of a model's files. Raises what `model_files` raises."""
    return xxhash.xxh3_128_hexdigest("".join(content_hash(str(file)) for file in model_files(path)).encode())


def open_word_model(path: str) -> WordModel:
    """Read a model, once per process unless its files change.

    Raises what `model_files` raises, and DataError (3) if the model is damaged.
    """
    files = model_files(path)
    return _read(files, tuple(map(file_state, files)))


@lru_cache(4)
def _read(files: tuple[Path, ...], states: tuple[FileState, ...]) -> WordModel:
    return load_ngram_model(files[0].parent) if len(files) > 1 else load_fasttext(files[0])


def label_position(labels: Sequence[str], wanted: str | None, path: str) -> int:
    """Return the position of the label whose probability is the score.

    By default, it is the only label that means a good text. Raises UsageError (2) for an unknown label, and if the
    labels do not tell which one is good.
    """
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    known = ", ".join(labels[:MOST_NAMED]) + more
    if wanted is not None:
        if wanted not in labels:
            raise UsageError(f"{path} has no label '{wanted}'", f"its labels are: {known}")
        return labels.index(wanted)
    good = [number for number, label in enumerate(labels) if label.lower() in POSITIVE]
    if len(good) != 1:
        raise UsageError(
            f"which label of {path} means a good text is not clear; its labels are: {known}",
            f"name it: --set classifier.label={labels[-1]}",
        )
    return good[0]
