"""Evaluation texts inside training data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.evals import leakage, training_data
from gptctl.evals.leakage import Leakage, LeakageSearch, ShardMatches, ShardScan, TextIndex
from gptctl.executors import Executor, serial
from gptctl.io.input.blocks import ReadOptions, Tolerance
from tests.conftest import write_jsonl
from tests.evals import command

WORDS = [f"word{number}" for number in range(40)]


def found(test: list[str], train: list[str]) -> dict[int, list[tuple[str, str]]]:
    return TextIndex(tuple(test)).find([f"t{i}" for i in range(len(train))], leakage.text_column(train))


def shared(count: int) -> list[str]:
    return ["Before it. " + " ".join(WORDS[:count]).upper() + ", after it."]


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    test = ["some other text " + ", ".join(WORDS[:20])]
    assert found(test, shared(13)) == {0: [("t0", "13 words")]}
    assert found(test, shared(12)) == {}


def test_the_same_words_are_exact_whatever_their_punctuation() -> None:
    assert found(["What is a caul ?"], ["nothing", "what is a CAUL"]) == {0: [("t1", "exact")]}
    assert found(["What is a caul ?"], ["what is a caul exactly"]) == {}
    assert found(["", "?"], ["", "!"]) == {}


def test_a_long_text_that_is_there_as_a_whole_is_exact() -> None:
    text = " ".join(WORDS)
    assert found([text], [text, "x " + text]) == {0: [("t0", "exact"), ("t1", "13 words")]}


def test_one_training_document_can_hold_several_texts() -> None:
    first, second = " ".join(WORDS[:15]), " ".join(WORDS[20:36])
    assert found([first, "clean", second, first], [first + " and then " + second]) == {
        0: [("t0", "13 words")], 2: [("t0", "13 words")], 3: [("t0", "13 words")],
    }  # fmt: skip


def test_reports_name_both_sides() -> None:
    rows = command.pairs("ab", "ab")
    found_leakage = Leakage.merge(
        [ShardMatches({1: [("x", "13 words")]}, 5), ShardMatches({1: [("y", "exact")], 0: [("z", "13 words")]}, 4)]
    )
    told = found_leakage.report(rows)
    assert (told["n"], told["exact"], told["documents"], told["words"]) == (2, 1, 9, 13)
    assert told["rows"][1] == {"id": "1", "match": "exact", "train_ids": ["x", "y"], "train_documents": 2}
    assert Leakage({1: []}, 1).clean_rows(rows) == rows[:1]


def test_training_data_is_documents_or_tokens(workspace: Path) -> None:
    """What a tokenizer wrote decodes to the documents that it read."""
    reading = ReadOptions()
    documents = [
        training_data.read_shard(shard, reading)
        for shard in training_data.training_shards(str(workspace / "unique"), reading)
    ]
    tokens = [
        training_data.read_shard(shard, reading)
        for shard in training_data.training_shards(str(workspace / "tokens"), reading)
    ]
    texts = dict(pair for found in documents for pair in zip(found.ids, found.texts.to_pylist(), strict=True))
    decoded = dict(pair for found in tokens for pair in zip(found.ids, found.texts.to_pylist(), strict=True))
    assert 0 < len(decoded) < len(texts)
    assert all(texts[identity] == text for identity, text in decoded.items())
    identity, text = next(iter(decoded.items()))
    merged = Leakage.merge(
        map(ShardScan((text,), reading), training_data.training_shards(str(workspace / "tokens"), reading))
    )
    assert (identity, "exact") in merged.matches[0]
    assert merged.documents == len(decoded)


@pytest.mark.parametrize("count", [1, 300])
def test_many_documents_keep_their_ids(count: int) -> None:
    train = [f"filler number {i}" for i in range(count)] + [" ".join(WORDS[:13])]
    assert found([" ".join(WORDS[:14])], train) == {0: [(f"t{count}", "13 words")]}


@pytest.mark.parametrize(
    "rows, max_bad, wanted",
    [
        ([{"rubric": "a text of another column"}], 0.0, "it has: rubric"),
        ([{"text": "a"}, {"rubric": "b"}], 0.1, "1 of 2 records of --leakage are unreadable"),
        ([], 0.0, "holds no document"),
    ],
)
def test_training_data_that_cannot_be_searched(
    rows: list[dict[str, str]], max_bad: float, wanted: str, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    search = LeakageSearch(str(path), ReadOptions(), Executor(serial.run, 1), Tolerance(max_bad))
    with pytest.raises(DataError, match=wanted):
        search.find(("some text",), Context())


def test_training_texts_in_a_column_of_a_usual_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", [{"question": "what is a caul"}])
    said: list[str] = []
    search = LeakageSearch(str(path), ReadOptions("body"), Executor(serial.run, 1))
    assert search.find(("What is a caul?",), Context(info=said.append)).documents == 1
    assert said == ["--leakage: the texts are in column 'question' of train.jsonl"]
    with pytest.raises(DataError, match="no evaluation text has a word"):
        search.find(("?", ""), Context())
