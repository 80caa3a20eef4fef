"""Sentence ends learnt from plain text: abbreviations are found, and the parameters are the same every time."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from gptctl.core.errors import DataError
from gptctl.text.punkt import sentence_splitter, train

DATA = Path(os.environ.get("GPTCTL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
NAMES = ["Adams", "Brown", "Clark", "Davis", "Evans", "Foster", "Green", "Harris", "Irving", "Jones", "Lewis"]
PLACES = ["the clinic", "the museum", "a small office", "the station", "the library", "the market", "the old harbour"]
TEMPLATES = [
    "Dr. {name} came to {place} early. The visit was short. It took an hour, and Mr. {other} paid.",
    "Mrs. {name} wrote to the U.S. embassy. She waited near {place}. Mr. {other} had gone to the U.S. in spring.",
    "The U.S. market fell, and Dr. {other} sold. Then {name} left {place}. The rest stayed.",
    "Prof. {name} teaches law, and Prof. {other} reads history. Both walk to {place}. They seldom talk.",
    "It rained. Dr. {name} met Mrs. {other} by {place}. The two spoke of U.S. law, and nobody else came.",
]


@pytest.fixture(scope="module")
def letters() -> list[str]:
    """Some 400 sentences like those of letters and reports."""
    return [
        TEMPLATES[number % len(TEMPLATES)].format(
            name=NAMES[number % 11], other=NAMES[number * 7 % 11], place=PLACES[number % 7]
        )
        for number in range(120)
    ]


def test_abbreviations_are_learnt(letters: list[str]) -> None:
    """ "Dr." and "U.S." end no sentence once they have been seen; other words still do."""
    parameters = train(letters)
    assert {"dr", "mr", "mrs", "prof", "u.s"} <= set(json.loads(parameters)["abbreviations"])
    split = sentence_splitter(parameters)
    text = "Dr. Miller lives in the U.S. capital. He knows Mrs. Stone, Prof. Hall and me. Does he?\n Yes! It is so."
    assert split(text) == [
        "Dr. Miller lives in the U.S. capital.",
        "He knows Mrs. Stone, Prof. Hall and me.",
        "Does he?",
        "Yes!",
        "It is so.",
    ]
    untrained = sentence_splitter(train(["Nothing to be learnt here."]))
    assert untrained(text)[0] == "Dr."


def test_documentation() -> None:
    """Python's own help: "e.g." and "i.e." are abbreviations, and all text is in some sentence."""
    parameters = train(topics.values())
    assert {"e.g", "i.e", "etc"} <= set(json.loads(parameters)["abbreviations"])
    split = sentence_splitter(parameters)
    for text in list(topics.values())[:20]:
        assert "".join("".join(split(text)).split()) == "".join(text.split())


def test_speeches() -> None:
    """A few of the presidents' addresses teach that U.S. is an abbreviation."""
    path = DATA / "mixed-docs.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [row["text"] for row in map(json.loads, lines) if row["id"].startswith(("state_union", "inaugural"))]
    parameters = train(text for text in texts if "U.S." in text or len(text) < 2000)
    assert "u.s" in json.loads(parameters)["abbreviations"]
    assert len(sentence_splitter(parameters)("We trust the U.S. Senate. It rose late.")) == 2


def test_texts_stay_apart() -> None:
    """Each text starts a paragraph: its first word is not in the middle of a sentence."""
    assert train(["no end", "Another"]) == train(["no end\n\nAnother"]) != train(["no end Another"])


def test_language_is_noted(letters: list[str]) -> None:
    """The parameters say what they were made for, and hold nothing else of it."""
    german, english = json.loads(train(letters, "german")), json.loads(train(letters))
    assert (german.pop("language"), english.pop("language")) == ("german", "english")
    assert german == english
    assert sorted(english) == ["abbreviations", "collocations", "orthographic_context", "sentence_starters"]


def test_equal_texts_give_equal_bytes(letters: list[str]) -> None:
    """Neither the order in which Python walks its sets nor the process matters."""
    code = "import json, sys; from gptctl.text.punkt import train; sys.stdout.write(train(json.load(sys.stdin)))"
    expected = train(iter(letters))
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(letters),
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert made.stdout == expected


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_no_text(texts: list[str]) -> None:
    """Nothing can be learnt from nothing."""
    with pytest.raises(DataError, match="no text"):
        train(texts)


@pytest.mark.parametrize(
    "parameters",
    ["", "{", "[]", "{}", "null", '{"abbreviations": "dr"}', '{"abbreviations": ["dr"]}',
     '{"abbreviations": [], "sentence_starters": [], "collocations": [["a"]], "orthographic_context": {}}',
     '{"abbreviations": [], "sentence_starters": [], "collocations": [], "orthographic_context": {"a": "many"}}'],
)  # fmt: skip
def test_damaged_parameters(parameters: str) -> None:
    """What was not made by train is refused with a reason."""
    with pytest.raises(DataError, match="not the parameters"):
        sentence_splitter(parameters)
