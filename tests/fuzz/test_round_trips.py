"""All of Unicode through every format and back; texts through every kind of tokenizer; conversations by their spans."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as papq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.io.dataset import stream
from gptctl.io.input import predictions
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.text.chat import MARKERS, ChatTemplate
from gptctl.text.chat_messages import read_messages
from gptctl.text.chat_render import CHATML
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer
from tests.fuzz.mutate import changed
from tests.fuzz.profile import examples

texts = st.text(max_size=30) | st.text(
    "\x00\x0b\x0c\r\n\x1c\x85\u2028\u2029\ufeff\ufffe\U0010ffff \t,\"'\\é", max_size=12
)
rows = st.lists(
    st.fixed_dictionaries({"id": st.text(min_size=1, max_size=8), "text": texts, "note": texts}), min_size=1, max_size=5
)


def as_table(found: list[dict[str, str]]) -> pa.Table:
    return pa.Table.from_pylist(found, schema=pa.schema([(name, pa.string()) for name in ("id", "text", "note")]))


def jsonl(path: Path, found: list[dict[str, str]]) -> None:
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in found))


def escaped(path: Path, found: list[dict[str, str]]) -> None:
    path.write_text(json.dumps(found))


def arrow(path: Path, found: list[dict[str, str]]) -> None:
    with ipc.new_file(str(path), as_table(found).schema) as writer:
        writer.write_table(as_table(found))


def parquet(path: Path, found: list[dict[str, str]]) -> None:
    papq.write_table(as_table(found), path, row_group_size=2)


def table(path: Path, found: list[dict[str, str]]) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    names = ["id", "text", "note"]
    writer.writerows([names, *([row[name] for name in names] for row in found)])
    path.write_bytes(sink.getvalue().encode())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", jsonl),
        ("a.json", escaped),
        ("a.arrow", arrow),
        ("a.parquet", parquet),
        ("a.csv", table),
        ("a.tsv", table),
    ],
)
def test_all_of_unicode(name: str, write: Callable[[Path, list[dict[str, str]]], None], tmp_path: Path) -> None:
    """What other programs wrote comes in unchanged, every column of it."""

    @given(rows)
    @example([{"id": "a", "text": "\ufeff", "note": ""}])
    @example([{"id": "0000", "text": "0\n\x00", "note": ""}])  # no UTF-16
    @examples(60)
    def look(found: list[dict[str, str]]) -> None:
        write(tmp_path / name, found)
        read = []
        for task in Inputs((str(tmp_path / name),), ReadOptions()).tasks():
            part, bad, *_ = read_task(task, ReadOptions())
            assert not bad
            read += part.select(["id", "text", "note"]).to_pylist()
        assert read == found

    look()


@given(st.lists(rows, max_size=4))
@examples(60)
def test_a_pipe_gives_back_its_shards(parts: list[list[dict[str, str]]]) -> None:
    """Each batch with the number of its shard, in order."""
    sink = io.BytesIO()
    writer = stream.StreamWriter(sink)
    for number, part in enumerate(parts):
        writer.write(number, as_table(part))
    writer.close()
    sink.seek(0)
    found: list[list[dict[str, str]]] = [[] for _ in parts]
    for number, batch in stream.read(sink):
        assert number is not None
        found[number] += batch.to_pylist()
    assert found == parts


scores = st.lists(
    st.fixed_dictionaries(
        {"id": texts, "label": texts | st.lists(texts, max_size=2), "pred": texts | st.none(), "probs": st.lists(st.floats(0, 1), max_size=3)}
    ),
    min_size=1, max_size=4, unique_by=lambda row: row["id"],
)  # fmt: skip


@given(scores)
@examples(60)
def test_predictions_come_back(tmp_path_factory: pytest.TempPathFactory, found: list[dict[str, object]]) -> None:
    path = tmp_path_factory.getbasetemp() / "p.arrow"
    made = predictions.to_table(found, "predictions", {})
    with ipc.new_file(str(path), made.schema) as writer:
        writer.write_table(made)
    several = any(isinstance(row["label"], list) for row in found)
    for row, before in zip(predictions.read_predictions(str(path)).rows, found, strict=True):
        label = before["label"]
        assert row["label"] == ([label] if several and isinstance(label, str) else label)
        assert (row["id"], row["pred"], row["probs"]) == (before["id"], before["pred"], before["probs"])


CORPUS = ["to be or not to be, that is the question " * 9, "Größe, naïve café\n\tindented = 日本語 🙂\n" * 5]
CODERS = {
    name: Tokenizer.from_json(train(CORPUS, name, size)) for name, size in (("bpe", 300), ("bytes", 0), ("chars", 0), ("words", 300))
}  # fmt: skip


@pytest.mark.parametrize("name", ["words", "chars"])
def test_texts_of_the_vocabulary_come_back(name: str) -> None:
    """The kinds that do not know every text; tests/text has the others."""
    coder = CODERS[name]
    pieces = sorted(set("".join(CORPUS))) if name == "chars" else [word for word in CORPUS[0].split() if word.isalpha()]

    @given(st.lists(st.sampled_from(pieces), max_size=20))
    @examples(60)
    def look(found: list[str]) -> None:
        text = ("" if name == "chars" else " ").join(found)
        assert coder.decode(coder.encode(text)) == text

    look()


turns = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=12) | st.sampled_from([*MARKERS, "<|endoftext|>", "a<|im_end|>\nb"])),
    min_size=1, max_size=5,
)  # fmt: skip


@pytest.mark.parametrize("name", ["bpe", "bytes"])
def test_the_spans_of_a_conversation(name: str) -> None:
    """What is learned is what the assistant said with the mark of its end, turn by turn, and nothing a user wrote."""
    coder = CODERS[name].with_special_tokens(MARKERS)
    template = ChatTemplate(CHATML, coder)
    end = coder.token_to_id(MARKERS[1])

    @given(turns)
    @examples(80)
    def look(said: list[tuple[str, str]]) -> None:
        tokens, learned = template.conversation([{"role": role, "content": text} for role, text in said])
        spans: list[list[int]] = []
        for place, (token, mine) in enumerate(zip(tokens.tolist(), learned.tolist(), strict=True)):
            if mine:
                spans += [] if place and learned[place - 1] else [[]]
                spans[-1].append(token)
        wanted = [text for role, text in said if role == "assistant"]
        assert [coder.decode(span[:-1]) for span in spans] == wanted
        assert all(span[-1] == end and end not in span[:-1] for span in spans)
        shown = [
            text
            for _, text in said[: max((n for n, (role, _) in enumerate(said) if role == "assistant"), default=-1) + 1]
        ]
        assert tokens.tolist().count(end) == len(shown)
        assert all(text in coder.decode(tokens) for text in shown)

    look()


@given(changed([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).map(json.dumps) | texts)
@example("[" * 100_000)
@examples(60)
def test_messages_of_any_kind(text: str) -> None:
    """A conversation, or an error that says what a conversation is."""
    template = ChatTemplate(CHATML, CODERS["bytes"].with_special_tokens(MARKERS))
    try:
        samples = template.samples(read_messages(text))
    except DataError as error:
        assert error.hint
        return
    assert any(learned.any() for _, learned in samples)
