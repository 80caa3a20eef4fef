"""Conversations in the formats of well-known data sets, as messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.core.config import ReadingOptions
from gptctl.core.errors import DataError
from gptctl.pipeline.data_splits import read_documents
from gptctl.text.chat_formats import chat_format_of, conversation_table

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
CALL = {"name": "add", "arguments": {"a": 1}}
SYSTEM = {"role": "system", "content": "Be kind."}


def read(*records: dict[str, Any], **how: Any) -> list[dict[str, Any]]:
    """Return the rows of the conversations that are made of records."""
    texts = pa.array([json.dumps(record) for record in records])
    ids = pa.array([str(number) for number in range(len(records))])
    table, found = conversation_table(pa.table({"id": ids, "source": ids, "text": texts}), "train", **how)
    assert chat_format_of(table) == found.name
    rows = table.to_pylist()
    return [row | {"format": found.name, "messages": json.loads(row["text"])} for row in rows]


@pytest.mark.parametrize(
    ("record", "name", "messages"),
    [
        ({"messages": [USER, ANSWER]}, "messages", [USER, ANSWER]),
        ({"messages": json.dumps([USER, ANSWER])}, "messages", [USER, ANSWER]),  # as in a CSV file
        ({"conversations": [USER, ANSWER]}, "messages", [USER, ANSWER]),
        ({"messages": [USER, ANSWER], "system": "Be kind."}, "messages", [SYSTEM, USER, ANSWER]),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}], "system": "Be kind."},
            "sharegpt",
            [SYSTEM, USER, ANSWER],
        ),
        (
            {"messages": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Ho", "weight": 1}]},
            "sharegpt",
            [USER, ANSWER | {"weight": 1}],
        ),
        ({"instruction": "Hi", "input": "", "output": "Ho"}, "alpaca", [USER, ANSWER]),
        ({"instruction": "Say", "context": "it", "response": "Ho"}, "alpaca", [USER | {"content": "Say\nit"}, ANSWER]),
        (
            {"instruction": "Hi", "output": "Ho", "history": [["a", "b"]], "system": "Be kind."},
            "alpaca",
            [SYSTEM, USER | {"content": "a"}, ANSWER | {"content": "b"}, USER, ANSWER],
        ),
        ({"prompt": "Hi", "completion": "Ho"}, "prompt-completion", [USER, ANSWER]),
        (
            {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]},
            "prompt-completion",
            [USER, ANSWER | {"weight": 0}, USER, ANSWER],
        ),
    ],
)
def test_formats_are_found_by_columns(record: dict[str, Any], name: str, messages: list[dict[str, Any]]) -> None:
    [row] = read(record)
    assert (row["format"], row["messages"], row["error"]) == (name, messages, None)
    assert read(record, wanted=name)[0]["messages"] == messages


def test_calls_and_tools_of_sharegpt() -> None:
    """A call becomes a message with tool_calls, and a description of a function one of a tool."""
    turns = [
        {"from": "human", "value": "1+1?"}, {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "2"}, {"from": "gpt", "value": "2"},
    ]  # fmt: skip
    [row, broken] = read(
        {"conversations": turns, "tools": json.dumps([{"name": "add"}])},
        {"conversations": [turns[0], {"from": "function_call", "value": "add(1, 1)"}]},
    )
    assert row["messages"][1]["tool_calls"] == [{"type": "function", "function": CALL}]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(row["tools"]) == [{"type": "function", "function": {"name": "add"}}]
    assert "a call of a tool is not JSON" in broken["error"]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "a turn is from 'narrator'"),
        ({"conversations": [{"from": "gpt"}]}, "no text in 'value'"),
        ({"messages": None}, "no column 'conversations'"),
        ({"conversations": "x"}, "not JSON"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "the assistant says nothing"),
        ({"conversations": [{"from": "gpt", "value": "x"}], "tools": "add"}, "'tools' is not JSON"),
    ],
)
def test_rows_that_do_not_fit(record: dict[str, Any], error: str) -> None:
    """The row has an error, and the others stay."""
    fits = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}
    first, second = read(fits, record, wanted="sharegpt", column="conversations")
    assert (first["error"], error in second["error"]) == (None, True)


@pytest.mark.parametrize(
    ("record", "how", "error"),
    [
        ({"question": "a", "answer": "b"}, {}, "no columns of a known chat format; it has: question, answer"),
        ({"prompt": "a", "completion": "b"}, {"wanted": "alpaca"}, "its columns fit prompt-completion"),
        ({"prompt": "a", "completion": "b"}, {"column": "talk"}, "no column 'talk'; it has: prompt, completion"),
    ],
)
def test_columns_that_fit_no_format(record: dict[str, Any], how: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        read(record, **how)


def test_texts_without_columns() -> None:
    texts = pa.array(["Once upon a time"])
    with pytest.raises(DataError, match="train has no columns"):
        conversation_table(pa.table({"id": texts, "source": texts, "text": texts}), "train")


def test_tables_of_nested_columns(tmp_path: Path) -> None:
    """In Parquet all messages have all keys, and all calls all arguments; those that are null are not handed on."""
    answers = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": CALL}]},
        {"role": "assistant", "content": "2", "tool_calls": None},
    ]
    other = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "b", "arguments": {"x": "y"}}}]}
    tools = [{"type": "function", "function": {"name": "add"}}]
    columns = {"messages": [[USER, *answers], [USER, other]], "tools": [tools, None]}
    papq.write_table(pa.table(columns), tmp_path / "a.parquet")
    records, _ = read_documents(ReadingOptions(), str(tmp_path / "a.parquet"), print, whole_records=True)
    table, _ = conversation_table(records, "train")
    first, second = table.to_pylist()
    assert json.loads(first["text"]) == [
        USER,
        {k: v for k, v in answers[0].items() if v is not None},
        ANSWER | {"content": "2"},
    ]
    assert json.loads(second["text"])[1]["tool_calls"] == other["tool_calls"]
    assert (json.loads(first["tools"]), second["tools"]) == (tools, None)
