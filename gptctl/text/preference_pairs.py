"""Read pairs of a chosen and a rejected answer, with the column names and shapes that public data sets have.

Prompt and answers are texts or lists of messages. Without a prompt it is what both answers begin with, as in TRL: the
first messages, or the first words of texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.text.chat_formats import DETAILS, EXTRAS, Record, parse_list, parse_records, sharegpt_message, with_system
from gptctl.text.chat_messages import ASSISTANT, Message, is_learned, read_messages

ANSWERS = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"))
PROMPTS = ("prompt", "question", "instruction", "input", "messages", "conversations")
EQUAL, SILENT = "both answers are the same", "an answer is empty"
NAMES = "preference data has the columns chosen and rejected, and prompt unless both begin with it"

Turns = str | list[Message]


@dataclass(frozen=True)
class Pair:
    """A prompt and its answers: all texts, or all lists of messages."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    extras: dict[str, list[Any]]  # tools and documents for the template

    @property
    def problem(self) -> str:
        """Why nothing can be learned from the pair: EQUAL, SILENT, or nothing."""
        if self.chosen == self.rejected:
            return EQUAL
        return "" if says_something(self.chosen) and says_something(self.rejected) else SILENT

    def as_messages(self) -> Pair:
        """Return a pair of texts as a turn of the user, answered by the assistant."""
        if isinstance(self.prompt, list):
            return self
        prompt: list[Message] = [{"role": "user", "content": self.prompt}]
        return Pair(prompt, as_answer(self.chosen), as_answer(self.rejected), self.extras)


@dataclass(frozen=True)
class PairFormat:
    """The columns of prompt, chosen and rejected answers. The first may be missing."""

    prompt: str | None
    chosen: str
    rejected: str

    def __str__(self) -> str:
        """Return the columns: "columns prompt, chosen, rejected"."""
        return f"columns {', '.join(name for name in (self.prompt, self.chosen, self.rejected) if name)}"

    def pair(self, record: Record) -> Pair:
        """Return the pair of a record. Raises DataError (3) if it is none."""
        if record.get("history"):
            raise DataError("the column 'history' is not read", "write the turns as a list of messages in 'prompt'")
        chosen, rejected = (read_turns(record.get(name), name) for name in (self.chosen, self.rejected))
        prompt = self.read_prompt(record)
        if isinstance(chosen, str) and isinstance(rejected, str):
            if prompt is None:
                prompt = common_text(chosen, rejected)
                chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
            elif isinstance(prompt, list):
                chosen, rejected = as_answer(chosen), as_answer(rejected)
        elif isinstance(chosen, str) or isinstance(rejected, str):
            raise DataError("one answer is a text and the other a list of messages", "write both alike")
        elif prompt is None or not all(role_of(turns) == ASSISTANT for turns in (chosen, rejected) if turns):
            prompt, chosen, rejected = common_turns(chosen, rejected)  # the conversations begin with the prompt
        elif isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        extras = {name: parse_list(record[name], name) for name in EXTRAS if record.get(name)}
        found = Pair(prompt, chosen, rejected, extras)
        if (system := record.get("system")) or extras:
            found = found.as_messages()
            assert isinstance(found.prompt, list)
            found = Pair(with_system(system, found.prompt), found.chosen, found.rejected, extras)
        return found

    def read_prompt(self, record: Record) -> Turns | None:
        """Return the prompt of a record, or None if its answers begin with it."""
        if self.prompt is None:
            return None
        if record.get(self.prompt) is None:
            raise DataError(f"no column '{self.prompt}'", "fill it, or remove the record")
        prompt = read_turns(record[self.prompt], self.prompt)
        details = record.get(DETAILS[0]) if self.prompt == "instruction" else None
        return f"{prompt}\n{details}" if details and isinstance(prompt, str) else prompt


def pair_table(table: pa.Table, where: str) -> tuple[pa.Table, PairFormat]:
    """Turn a table of records as JSON text into one of pairs.

    The columns are id, source, text (the pair as JSON, with `plain`: whether its texts are no turns, because the prompt
    is only what both begin with), prompt (by which val is held out), error and hint: why a record is no pair, or null.
    Raises DataError (3) if the records have no answers.
    """
    records = parse_records(table, where)
    found = find_pair_format(records, where)
    rows = [pair_row(record, found) for record in records]
    columns: dict[str, Any] = {"id": table["id"], "source": table["source"]}
    for name in ("text", "prompt", "error", "hint"):
        columns[name] = pa.array([row.get(name) for row in rows], pa.large_string())
    return pa.table(columns), found


def find_pair_format(records: Sequence[Record], where: str) -> PairFormat:
    """Return the columns of pairs. Raises DataError (3), which names the columns there are, if none fit."""
    columns = dict.fromkeys(name for record in records for name in record)
    for chosen, rejected in ANSWERS:
        if chosen in columns and rejected in columns:
            return PairFormat(next((name for name in PROMPTS if name in columns), None), chosen, rejected)
    raise DataError(f"{where} has no pairs of answers; it has: {', '.join(columns) or 'none'}", NAMES)


def pair_row(record: Record, pair_format: PairFormat) -> dict[str, str]:
    """Return the pair of a record as JSON, and its prompt, or the error that it has."""
    try:
        pair = pair_format.pair(record)
        for answer in (pair.chosen, pair.rejected):
            if isinstance(pair.prompt, list) and isinstance(answer, list) and not pair.problem:
                read_messages(orjson.dumps([*pair.prompt, *answer]).decode())
        prompt = orjson.dumps(pair.prompt, option=orjson.OPT_SORT_KEYS).decode()
        return {"text": orjson.dumps(vars(pair) | {"plain": pair_format.prompt is None}).decode(), "prompt": prompt}
    except DataError as error:
        text = orjson.dumps(record).decode()
        return {"text": text, "prompt": text, "error": error.message, "hint": error.hint or ""}


def read_turns(value: Any, column: str) -> Turns:
    """Return a text, or the messages of a list, of one message, or of either as JSON text; "" for nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        if not value.startswith(('[{"', '{"')):
            return value
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return str(value)
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"column '{column}' is neither text nor messages", "write a text, or a list of {role, content}")
    return [sharegpt_message(turn) if "from" in turn and "role" not in turn else turn for turn in turns]


def as_answer(answer: Turns) -> list[Message]:
    """Return an answer as turns of the assistant."""
    return [{"role": ASSISTANT, "content": answer}] if isinstance(answer, str) else answer


def role_of(turns: Sequence[Message]) -> Any:
    """Return the role of the first turn."""
    return turns[0].get("role")


def common_text(one: str, other: str) -> str:
    """Return what two texts begin with, up to the end of a word: white space after it belongs to the answers."""
    shorter = min(len(one), len(other))
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), shorter)
    while length and not all(text[length:][:1] in ("", " ", "\n", "\t") for text in (one, other)):
        length -= 1
    return one[:length].rstrip()


def common_turns(one: list[Message], other: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the turns that two conversations begin with, and what follows in each.

    Raises DataError (3) if there are none. Of equal conversations, the last turn is the answer.
    """
    equal = [a == b for a, b in zip(one, other, strict=False)]
    count = equal.index(False) if False in equal else len(equal)
    if one == other:
        count -= 1
    if count < 1:
        raise DataError("the answers do not begin with the same turns", "add a column 'prompt'")
    return one[:count], one[count:], other[count:]


def says_something(answer: Turns) -> bool:
    """Return whether an answer is not empty."""
    if isinstance(answer, str):
        return bool(answer.strip())
    turns = [turn for turn in answer if turn.get("role") == ASSISTANT and is_learned(turn)]
    return any(has_text(turn.get("content")) or turn.get("tool_calls") for turn in turns)


def has_text(content: Any) -> bool:
    """Return whether the content of a message has anything: text that is not blank, or parts."""
    return bool(content.strip()) if isinstance(content, str) else bool(content)
