"""Read conversations from the formats of well-known data sets: messages, ShareGPT, Alpaca, prompt and completion.

- messages: a list of {role, content}, as OpenAI and TRL have it.
- sharegpt: a list of {from, value}, as in ShareGPT and LLaMA-Factory. Calls of tools are JSON in `value`.
- alpaca: `instruction`, `input` and `output`, and optionally `history`, a list of [question, answer].
- prompt-completion: two texts, or two lists of messages. Only the completion is learned, as by TRL.

Every format may also have `system`, `tools` and `documents`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.io.input.usual_columns import CONVERSATIONS
from gptctl.text.chat_messages import ASSISTANT, Message, read_messages

ChatFormatName = Literal["messages", "sharegpt", "alpaca", "prompt-completion"]
Record = dict[str, Any]

ANSWERS = {"alpaca": ("output", "response"), "prompt-completion": ("completion", "response")}
QUESTIONS = {"alpaca": "instruction", "prompt-completion": "prompt"}
DETAILS = ("input", "context")  # what an Alpaca or Dolly record adds to its instruction
EXTRAS = ("tools", "documents")  # columns that are handed to the template
USER, SYSTEM, TOOL, CALL = "user", "system", "tool", "call"
ROLES = (
    dict.fromkeys(("human", "user"), USER)
    | dict.fromkeys(("gpt", "assistant", "model", "chatgpt", "bing", "bard"), ASSISTANT)
    | dict.fromkeys(("observation", "tool", "tool_response", "function_response"), TOOL)
    | dict.fromkeys(("function_call", "tool_call"), CALL)
    | {"system": SYSTEM}
)
KNOWN = (
    "known are messages or conversations (lists of turns), instruction and output, prompt and completion; name "
    "a column of turns with --text-column"
)


@dataclass(frozen=True)
class ChatFormat:
    """A format, and the columns that hold its conversations."""

    name: ChatFormatName
    columns: tuple[str, ...]

    def __str__(self) -> str:
        """Return the format with its columns, such as "sharegpt (column conversations)"."""
        return f"{self.name} ({'column' if len(self.columns) == 1 else 'columns'} {', '.join(self.columns)})"

    def messages(self, record: Record) -> list[Message]:
        """Return the messages of a record. Raises DataError (3) if it does not have the format."""
        if missing := [column for column in self.columns if record.get(column) is None]:
            raise DataError(f"no column '{missing[0]}'", "fill it, or remove the record")
        found: list[Message]
        if self.name == "messages":
            found = parse_list(record[self.columns[0]], self.columns[0])
        elif self.name == "sharegpt":
            found = [sharegpt_message(turn) for turn in parse_list(record[self.columns[0]], self.columns[0])]
        elif self.name == "alpaca":
            found = alpaca_messages(record, *self.columns)
        else:
            found = completion_messages(*(record[column] for column in self.columns))
        return with_system(record.get("system"), found)


def conversation_table(
    table: pa.Table, where: str, wanted: ChatFormatName | None = None, column: str | None = None
) -> tuple[pa.Table, ChatFormat]:
    """Turn a table of records as JSON text into one of conversations, in `wanted` or the format that they have.

    The columns are id, source, text (the messages as JSON), tools and documents (JSON or null), error and hint: why a
    record is no conversation, or null. Its text is then the record. Raises DataError (3) if the records have no known
    format.
    """
    records = parse_records(table, where)
    found = find_format(records, where, wanted, column)
    rows = [conversation_row(record, found) for record in records]
    columns: dict[str, Any] = {"id": table["id"], "source": table["source"]}
    for name in ("text", *EXTRAS, "error", "hint"):
        columns[name] = pa.array([row.get(name) for row in rows], pa.large_string())
    return pa.table(columns).replace_schema_metadata({"chat_format": found.name}), found


def chat_format_of(table: pa.Table) -> str:
    """Return the name of the format that a table of conversations was read from."""
    return str((table.schema.metadata or {}).get(b"chat_format", b"").decode())


def parse_records(table: pa.Table, where: str) -> list[Record]:
    """Return the records of a table. Raises DataError (3) if it comes from files without records, such as texts."""
    try:
        records = [orjson.loads(text) for text in table["text"].to_pylist()]
    except orjson.JSONDecodeError:
        records = [None]
    if not all(isinstance(record, dict) for record in records):
        raise DataError(f"{where} has no columns, and so no conversations", "use JSON lines, JSON, CSV or Parquet")
    return records


def conversation_row(record: Record, chat_format: ChatFormat) -> Mapping[str, str | None]:
    """Return the text, tools and documents of a record, or the error that it has."""
    try:
        messages = chat_format.messages(record)
        given = record[chat_format.columns[0]]
        is_text = isinstance(given, str) and chat_format.name == "messages" and not record.get("system")
        text: str = given if is_text else orjson.dumps(messages).decode()
        read_messages(text)
        extras = {name: parse_list(record[name], name) for name in EXTRAS if record.get(name)}
        if chat_format.name == "sharegpt" and "tools" in extras:
            extras["tools"] = [wrapped_tool(tool) for tool in extras["tools"]]
    except DataError as error:
        return {"text": orjson.dumps(record).decode(), "error": error.message, "hint": error.hint}
    except orjson.JSONEncodeError as error:
        return {"text": "", "error": f"the messages are not JSON: {error}", "hint": "correct or remove the record"}
    return {"text": text} | {name: orjson.dumps(value).decode() for name, value in extras.items() if value}


def find_format(
    records: Sequence[Record], where: str, wanted: ChatFormatName | None = None, column: str | None = None
) -> ChatFormat:
    """Return the format of records by the names of their columns, and by the first turn of a list.

    `wanted` restricts it to one format, and `column` to lists of turns in this column. Raises DataError (3), which
    names the columns there are, if no format fits.
    """
    columns = dict.fromkeys(name for record in records for name in record)
    has = f"it has: {', '.join(columns) or 'none'}"
    if column is not None and column not in columns:
        raise DataError(f"{where} has no column '{column}'; {has}", "name the column of turns with --text-column")
    found = formats_of(records, columns, (column,) if column else CONVERSATIONS)
    fitting = [one for one in found if wanted in (None, one.name)]
    if fitting:
        return fitting[0]
    if wanted:
        others = f"its columns fit {found[0].name}" if found else has
        raise DataError(f"{where} has no columns of the chat format {wanted}; {others}", KNOWN)
    raise DataError(f"{where} has no columns of a known chat format; {has}", KNOWN)


def formats_of(records: Sequence[Record], columns: dict[str, None], lists: Sequence[str]) -> list[ChatFormat]:
    """Return the formats that columns fit, the most telling first."""
    found = [ChatFormat(turns_format(records, name), (name,)) for name in lists if name in columns]
    for name in get_args(ChatFormatName):
        if name in QUESTIONS and QUESTIONS[name] in columns:
            found += [ChatFormat(name, (QUESTIONS[name], answer)) for answer in ANSWERS[name] if answer in columns]
    return found


def turns_format(records: Sequence[Record], column: str) -> ChatFormatName:
    """Return the format of a column of turns, by the first one that there is."""
    for record in records:
        try:
            turns = parse_list(record.get(column), column)
        except DataError:
            continue
        if turns and isinstance(turns[0], dict):
            return "sharegpt" if "from" in turns[0] and "role" not in turns[0] else "messages"
    return "messages"


def parse_list(value: Any, column: str) -> list[Any]:
    """Return a list, which may be JSON text. Raises DataError (3) for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"column '{column}' is not JSON: {error}", "write it as a JSON list") from error
    if not isinstance(value, list):
        raise DataError(f"column '{column}' is not a list", "write it as a JSON list")
    return value


def sharegpt_message(turn: Any) -> Message:
    """Return a turn of ShareGPT as a message."""
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise DataError("a turn has no text in 'value'", "ShareGPT has a list of {from, value}")
    role = ROLES.get(str(turn.get("from")))
    if role is None:
        raise DataError(f"a turn is from '{turn.get('from')}'", f"known are {', '.join(ROLES)}")
    weight = {"weight": turn["weight"]} if turn.get("weight") is not None else {}
    if role == CALL:
        return {"role": ASSISTANT, "content": None, "tool_calls": parse_calls(turn["value"])} | weight
    return {"role": role, "content": turn["value"]} | weight


def parse_calls(text: str) -> list[Record]:
    """Return the calls of tools in JSON text: one {name, arguments}, or a list of them."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"a call of a tool is not JSON: {error}", "write {name, arguments}") from error
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise DataError("a call of a tool has no name", "write {name, arguments}")
    return [{"type": "function", "function": call} for call in calls]


def wrapped_tool(tool: Any) -> Any:
    """Return a tool as OpenAI describes it, where LLaMA-Factory has the function alone."""
    return {"type": "function", "function": tool} if isinstance(tool, dict) and "name" in tool else tool


def alpaca_messages(record: Record, instruction: str, output: str) -> list[Message]:
    """Return the messages of an instruction with its input, after those of its history."""
    pairs = parse_list(record.get("history") or [], "history")
    details = next((record[name] for name in DETAILS if record.get(name)), "")
    question, answer = record[instruction], record[output]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError("the history is not a list of [question, answer]", "correct or remove it")
    texts = [*(text for pair in pairs for text in pair), question, details, answer]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("an instruction, an input or an output is not text", "correct or remove the record")
    if not (question or details):
        raise DataError("the instruction is empty", "fill it, or remove the record")
    pairs = [*pairs, ["\n".join(text for text in (question, details) if text), answer]]
    return [
        {"role": role, "content": text} for pair in pairs for role, text in zip((USER, ASSISTANT), pair, strict=True)
    ]


def completion_messages(prompt: Any, completion: Any) -> list[Message]:
    """Return the messages of a prompt and its completion. Nothing of the prompt is learned."""
    before = [{"role": USER, "content": prompt}] if isinstance(prompt, str) else prompt
    after = [{"role": ASSISTANT, "content": completion}] if isinstance(completion, str) else completion
    if not all(isinstance(part, list) and all(isinstance(turn, dict) for turn in part) for part in (before, after)):
        raise DataError("prompt and completion are neither texts nor lists of messages", "correct or remove the record")
    return [*({**turn, "weight": 0} if turn.get("role") == ASSISTANT else turn for turn in before), *after]


def with_system(system: Any, messages: list[Message]) -> list[Message]:
    """Return messages after the system message of a column, if there is one.

    Raises DataError (3) if they begin with another one.
    """
    if not isinstance(system, str) or not system:
        return messages
    first = messages[0] if messages and isinstance(messages[0], dict) else {}
    if first.get("role") != SYSTEM:
        return [{"role": SYSTEM, "content": system}, *messages]
    if first.get("content") != system:
        raise DataError("the column 'system' differs from the system message", "keep one of them")
    return messages
