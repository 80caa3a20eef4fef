"""Pairs of answers are found under the names and in the shapes that public data sets have."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from gptctl.core.errors import DataError
from gptctl.text.preference_pairs import EQUAL, SILENT, Pair, pair_table

QUESTION = {"role": "user", "content": "Why is the sky blue?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Light scatters.", "It is paint."))
SYSTEM = {"role": "system", "content": "Be short."}


def read(*records: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table of pairs."""
    ids = [str(number) for number in range(len(records))]
    table = pa.table({"id": ids, "source": ids, "text": [json.dumps(record) for record in records]})
    return list(pair_table(table, "train")[0].to_pylist())


def only(record: dict[str, Any]) -> Pair:
    """Return the pair of one record."""
    (row,) = read(record)
    assert row["error"] is None, row["error"]
    values = json.loads(row["text"])
    values.pop("plain")
    return Pair(**values)


CHOSEN, REJECTED = GOOD["content"], BAD["content"]
TURNS = {
    "messages": {"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD]},
    "whole conversations": {"prompt": QUESTION["content"], "chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]},
    "no prompt": {"chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]},
    "one message": {"conversations": [{"from": "human", "value": QUESTION["content"]}],
                    "chosen": {"from": "gpt", "value": CHOSEN}, "rejected": {"from": "gpt", "value": REJECTED}},
    "texts after messages": {"messages": [QUESTION], "chosen_response": CHOSEN, "rejected_response": REJECTED},
    "JSON text": {"prompt": json.dumps([QUESTION]), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])},
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_messages_are_found_in_every_shape(name: str) -> None:
    """The same prompt and answers."""
    assert only(TURNS[name]) == Pair([QUESTION], [GOOD], [BAD], {})


def test_texts() -> None:
    """Prompt and answers stay texts; a system text, as the DPO pairs of Orca have it, makes them turns."""
    texts = {"question": QUESTION["content"], "chosen": CHOSEN, "rejected": REJECTED}
    assert only(texts) == Pair(QUESTION["content"], CHOSEN, REJECTED, {})
    assert only(texts | {"system": ""}) == only(texts)
    assert only(texts | {"system": SYSTEM["content"]}) == Pair([SYSTEM, QUESTION], [GOOD], [BAD], {})
    asked = {"instruction": "Say", "input": "yes", "chosen": "yes", "rejected": "no"}
    assert only(asked).prompt == "Say\nyes"


@pytest.mark.parametrize(
    ("chosen", "rejected", "wanted"),
    [
        (
            "Human: Hi\n\nAssistant: Hello",
            "Human: Hi\n\nAssistant: Help",
            ("Human: Hi\n\nAssistant:", " Hello", " Help"),
        ),
        ("a cat sat", "a cat ran", ("a cat", " sat", " ran")),
        ("a cat", "a cat ran", ("a cat", "", " ran")),
        ("cats", "dogs", ("", "cats", "dogs")),
        ("catsup", "cats", ("", "catsup", "cats")),
    ],
)
def test_without_a_prompt_it_is_what_both_texts_begin_with(chosen: str, rejected: str, wanted: tuple[str, ...]) -> None:
    """Whole words only, and nothing of the texts is lost."""
    pair = only({"chosen": chosen, "rejected": rejected})
    assert (pair.prompt, pair.chosen, pair.rejected) == wanted


def test_pairs_that_teach_nothing() -> None:
    """Equal answers, and answers without a word, as texts and as messages."""
    silent = {"role": "assistant", "content": " "}
    assert only({"prompt": "a", "chosen": "b", "rejected": "b"}).problem == EQUAL
    assert only({"chosen": [QUESTION, GOOD], "rejected": [QUESTION, GOOD]}).problem == EQUAL
    assert only({"prompt": "a", "chosen": "b", "rejected": None}).problem == SILENT
    assert only({"prompt": [QUESTION], "chosen": [silent], "rejected": [GOOD]}).problem == SILENT
    assert only({"prompt": "a", "chosen": "b", "rejected": "c"}).problem == ""


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "no column 'prompt'"),
        ({"prompt": "a", "chosen": "a", "rejected": [BAD]}, "one answer is a text and the other a list of messages"),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "column 'chosen' is neither text nor messages"),
        ({"prompt": "", "chosen": [SYSTEM, GOOD], "rejected": [QUESTION, BAD]}, "do not begin with the same turns"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "history": [["d", "e"]]}, "'history' is not read"),
        ({"prompt": [QUESTION], "chosen": [{"role": "assistant"}], "rejected": [BAD]}, "an answer is empty"),
    ],
)
def test_rows_that_are_no_pairs(record: dict[str, Any], reason: str) -> None:
    """Each says why."""
    (row,) = read(record)
    problem = row["error"] or Pair(**{k: v for k, v in json.loads(row["text"]).items() if k != "plain"}).problem
    assert reason in problem


def test_data_without_answers_names_its_columns() -> None:
    """KTO's rows too: they have one answer and a label."""
    with pytest.raises(DataError, match="has no pairs of answers; it has: prompt, completion, label"):
        read({"prompt": "a", "completion": "b", "label": True})
