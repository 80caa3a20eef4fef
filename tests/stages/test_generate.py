"""gptctl generate through the real command line: inputs, resuming, number formats, speculative decoding, chat."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from gptctl.infer.engine import Engine
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.io.dataset import manifest, shards
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.model.save import save_model
from gptctl.stages.generate import Generate, run
from gptctl.text.chat import MARKERS, ChatTemplate
from gptctl.text.chat_render import CHATML
from tests.conftest import REPO, Ran, plain_environment, run_gptctl, tree_bytes, write_jsonl
from tests.infer.test_decoder import needs_kernels
from tests.infer.test_text_stream import byte_level

Gptctl = Callable[..., Ran]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model, a smaller one of the same tokenizer, and one of another tokenizer; with random weights."""
    folder = tmp_path_factory.mktemp("models")
    plain = byte_level()
    chat = plain.with_special_tokens(MARKERS)
    told = {"chat_template": CHATML, "stop_ids": list(ChatTemplate(CHATML, chat).stop_ids)}
    for name, preset, tokenizer, extra in (
        ("chat", "test-modern", chat, told),
        ("small", "test-gpt2", chat, {}),
        ("other", "test-gpt2", plain, {}),
    ):
        changes = {"max_seq_len": 128, "vocab_size": tokenizer.vocab_size, "end_of_text": tokenizer.end_of_text_id}
        model = GPT(ModelConfig.model_validate(load_preset(preset)["model"] | changes))
        initialize(model, seed=1)
        save_model(folder / name, model, tokenizer.to_json(), extra)
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of a folder of samples."""
    found: list[dict[str, Any]] = shards.read_rows(folder, manifest.read(folder)).to_pylist()
    return found


def samples(ran: Ran) -> list[dict[str, Any]]:
    """Return what --json shows of samples that went to the terminal."""
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = ran.json["metrics"]["samples"]
    return found


def test_what_streams_is_what_json_shows(gptctl: Gptctl, models: Path) -> None:
    """Prompt and text, characters whole; three samples one after the other."""
    command = ("generate", models / "small", "größe", "--max-tokens", 30, "--num", 3, "--stop", "\\n,zz")
    shown, told = gptctl(*command), samples(gptctl(*command, "--json"))
    assert shown.out.decode() == "\n---\n".join(f"größe{sample['text']}" for sample in told) + "\n"
    assert [sample["id"] for sample in told] == ["prompt#0", "prompt#1", "prompt#2"]
    assert len({sample["text"] for sample in told}) == 3
    assert not any("\n" in sample["text"] for sample in told)


def test_a_stop_string_ends_a_sample(gptctl: Gptctl, models: Path, tmp_path: Path) -> None:
    """The text is cut before it, the tokens that spelled it are counted, and finish says so."""
    command = ("generate", models / "small", "a", "--max-tokens", 40, "--json")
    whole = samples(gptctl(*command))[0]
    inner = whole["text"][3:5]
    done = gptctl(*command, "--set", f"stop=[{json.dumps(inner)}]")
    cut = samples(done)[0]
    assert "no sample reached" not in done.err
    for more in ((), ("-o", tmp_path / "out")):
        assert "no sample reached a text of --stop" in gptctl(*command, "--stop", "this is never said", *more).err
    assert cut["text"] == whole["text"][: whole["text"].find(inner)]
    assert cut["finish"] == "stop"
    assert cut["tokens"] < whole["tokens"]


@pytest.mark.parametrize("kind", ["text", "stdin", "jsonl", "stdin jsonl", "arrow", "stdin arrow"])
def test_prompts_from_anywhere_give_the_same_samples(kind: str, models: Path, tmp_path: Path) -> None:
    """Lines, JSON lines and Arrow, from a file or standard input."""
    texts = ["a", "größer and größer", "the", "漢字 the the"]
    table = pa.table({"id": ["0", "1", "2", "3"], "text": texts, "label": [1, 2, 3, 4]})
    lines = "\n".join(texts).encode()
    objects = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    (tmp_path / "p.txt").write_bytes(lines)
    (tmp_path / "p.jsonl").write_bytes(objects)
    with ipc.new_file(tmp_path / "p.arrow", table.schema) as writer:
        writer.write_table(table)
    source, given = {
        "text": ("p.txt", b""),
        "stdin": ("-", lines),
        "jsonl": ("p.jsonl", b""),
        "stdin jsonl": ("-", objects),
        "arrow": ("p.arrow", b""),
        "stdin arrow": ("-", arrow_stream(table)),
    }[kind]
    done = run_gptctl(
        "generate", models / "small", "--prompts", source, "-o", "out", "--max-tokens", 5, "--set", "shard_prompts=3",
        stdin=given, cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = rows_of(tmp_path / "out")
    assert [row["prompt"] for row in rows] == texts
    assert [row["text"] for row in rows] == expected(models / "small", texts)
    assert len({row["text"] for row in rows}) == 4
    if "text" not in kind and kind != "stdin":
        assert [(row["id"], row["label"]) for row in rows] == [("0", 1), ("1", 2), ("2", 3), ("3", 4)]
    else:
        assert [row["id"].split(":")[1] for row in rows] == ["0", "1", "2", "3"]


def expected(model: Path, texts: list[str]) -> list[str]:
    """Continue each text by itself, with the engine alone."""
    generator = TextGenerator.load(model, device="cpu")
    engine, tokenizer, found = Engine(generator.engine.model), generator.tokenizer, []
    for number, text in enumerate(texts):
        prompt = [tokenizer.end_of_text_id, *tokenizer.encode(text)]
        made = engine.generate([prompt], SamplingParams(max_tokens=5), (tokenizer.end_of_text_id,), number)
        found.append(tokenizer.decode(made[0].tokens))
    return found


def arrow_stream(table: pa.Table) -> bytes:
    """Write a table as another stage does to a pipe."""
    import io

    from gptctl.io.dataset.stream import StreamWriter

    sink = io.BytesIO()
    writer = StreamWriter(sink)
    writer.write(0, table.slice(0, 1))
    writer.write(1, table.slice(1))
    sink.close = lambda: None  # type: ignore[method-assign]
    writer.close()
    return sink.getvalue()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(models: Path, tmp_path: Path) -> None:
    """kill -9 after some shards: they are not generated again, and the output is that of an uninterrupted run."""
    write_jsonl(tmp_path / "p.jsonl", [{"text": f"the number {i}"} for i in range(60)])
    options = ("--prompts", "p.jsonl", "--max-tokens", "30", "--num", "2", "--set", "shard_prompts=4", "--logprobs")
    command = [sys.executable, "-m", "gptctl", "generate", str(models / "small"), *options, "-o", "cut"]
    env = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    work = tmp_path / "cut" / "work"
    while len(list(work.glob("part-*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    records = sorted(work.glob("part-*.json"))
    assert 3 <= len(records) < 15
    kept = {path.stem: (tmp_path / "cut" / "shards" / f"{path.stem}.arrow").stat().st_mtime_ns for path in records}
    for out in ("cut", "whole"):
        done = run_gptctl("generate", models / "small", *options, "-o", out, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.code == 0, done.err
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")
    for name, when in kept.items():
        assert (tmp_path / "cut" / "shards" / f"{name}.arrow").stat().st_mtime_ns == when
    assert len(rows_of(tmp_path / "cut")) == 120
    again = run_gptctl("generate", models / "small", *options, "-o", "cut", "--json", cwd=tmp_path)
    assert (again.json["status"], again.json["metrics"]["samples"]) == ("up to date", 120)
    assert run_gptctl("generate", models / "small", *options, "--seed", 1, "-o", "cut", cwd=tmp_path).code == 5


def test_a_sample_depends_on_neither_batch_nor_shard_nor_drafts(models: Path, tmp_path: Path) -> None:
    """Prompt lookup and a draft model change the time alone, as does how prompts are put together."""
    (tmp_path / "p.txt").write_text("the the the the\na\ngrößer and größer and\nthe größer the größer the\n")
    found = []
    for more in (
        {},
        {"batch_size": 1},
        {"batch_size": 5, "shard_prompts": 3},
        {"prompt_lookup": True, "num_draft_tokens": 6},
        {"draft": str(models / "chat")},
        {"draft": str(models / "small"), "num_draft_tokens": 3},
    ):
        out = tmp_path / f"out-{len(found)}"
        run(Generate(model=str(models / "small"), prompts=str(tmp_path / "p.txt"), out=str(out), max_tokens=40,
                     temperature=0.6, num=3, seed=5, **more))  # fmt: skip
        found.append([(row["id"], row["text"], row["finish"]) for row in rows_of(out)])
    assert all(rows == found[0] for rows in found[1:])
    assert len({text for _, text, _ in found[0]}) > 8


def test_log_probabilities_are_those_of_the_tokens(models: Path, tmp_path: Path) -> None:
    """One for each token that was generated, all below 0; the ids decode to the text."""
    run(Generate(model=str(models / "small"), prompt="the", out=str(tmp_path / "out"), max_tokens=12, logprobs=True))
    row = rows_of(tmp_path / "out")[0]
    assert len(row["token_ids"]) == len(row["logprobs"]) == row["tokens"] == 12
    assert max(row["logprobs"]) < 0
    assert byte_level().with_special_tokens(MARKERS).decode(row["token_ids"]) == row["text"]


@pytest.mark.parametrize(
    "more", [{"quantize": "int8"}, pytest.param({"quantize": "int4"}, marks=needs_kernels), {"precision": "bf16"}]
)
def test_fewer_bits_write_nearly_the_same(models: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    """Log-probabilities of the same first token move by less than 0.1 nats, in int4 by less than 0.5."""
    found = []
    for number, settings in enumerate(({}, more)):
        out = tmp_path / str(number)
        run(
            Generate(
                model=str(models / "chat"), prompt="the", out=str(out), max_tokens=1, logprobs=True, top_k=1, **settings
            )
        )
        found.append(rows_of(out)[0])
    assert found[0]["token_ids"] == found[1]["token_ids"]
    assert 0 < abs(found[0]["logprobs"][0] - found[1]["logprobs"][0]) < (0.5 if "int4" in more.values() else 0.1)


def test_samples_go_down_a_pipe(gptctl: Gptctl, models: Path) -> None:
    """-o - writes an Arrow stream of samples with its end mark."""
    done = gptctl("generate", models / "small", "a", "-o", "-", "--max-tokens", 3)
    assert done.code == 0, done.err
    with ipc.open_stream(done.out) as reader:
        table = reader.read_all()
    assert table["prompt"].to_pylist() == ["a"]
    assert table.schema.metadata[b"gptctl.kind"] == b"samples"


@pytest.mark.slow
def test_a_conversation_line_by_line(models: Path) -> None:
    """Answers come one a turn; each sees what was said before."""
    command = (
        "generate",
        models / "chat",
        "--chat",
        "--max-tokens",
        8,
        "--temperature",
        0,
        "--set",
        "system=Be brief.",
    )
    done = run_gptctl(*command, stdin="größe?\nthe\n\nthe\n".encode())
    assert done.code == 0, done.err
    told = run_gptctl(*command, "--json", stdin="größe?\nthe\n\nthe".encode()).json["metrics"]
    messages = told["messages"]
    assert told["turns"] == 3
    assert [message["role"] for message in messages] == ["system"] + ["user", "assistant"] * 3
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert done.out.decode() == "---\n".join(f"{answer}\n" for answer in answers)
    one = samples(run_gptctl("generate", models / "chat", "größe?", *command[2:], "--json"))[0]
    assert (one["prompt"], one["text"]) == ("größe?", answers[0])


@pytest.mark.slow
def test_a_list_of_messages_is_a_prompt(gptctl: Gptctl, models: Path, tmp_path: Path) -> None:
    """As JSON in a column of its own; the template ends with where the assistant speaks."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    write_jsonl(tmp_path / "c.jsonl", [{"messages": turns}, {"messages": turns[:1]}])
    command = ("generate", models / "chat", "--chat", "--temperature", 0, "--max-tokens", 6)
    done = gptctl(*command, "--prompts", "c.jsonl", "--text-column", "messages", "-o", "out")
    assert done.code == 0, done.err
    rows = rows_of(tmp_path / "out")
    single = samples(gptctl(*command, "a", "--json"))[0]
    assert rows[1]["text"] == single["text"]
    assert json.loads(rows[0]["prompt"]) == turns


def test_the_oldest_turns_are_left_out_with_a_warning(models: Path) -> None:
    """A conversation longer than the context goes on; one message longer than it is exit 3."""
    talk = "".join(f"the größer {i}\n" for i in range(20)).encode()
    done = run_gptctl("generate", models / "chat", "--chat", "--max-tokens", 4, "--json", stdin=talk)
    assert done.code == 0, done.err
    assert "left out" in done.err
    assert done.json["metrics"]["turns"] == 20
    long = run_gptctl("generate", models / "chat", "--chat", stdin=b"xyz " * 500)
    assert (long.code, "tokens" in long.err) == (3, True)


@pytest.mark.slow
def test_a_conversation_on_a_terminal(models: Path) -> None:
    """What is being loaded, and how to end, are said before the first prompt."""
    terminal, end = pty.openpty()
    os.write(terminal, b"hello\n\x04")
    command = [sys.executable, "-m", "gptctl", "generate", models / "chat", "--chat", "--max-tokens", "4"]
    done = subprocess.run(command, stdin=end, capture_output=True, text=True, env=plain_environment())
    os.close(terminal)
    os.close(end)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"loading {models / 'chat'}; type a message after each >, and Ctrl-D to end"
    assert done.stdout.count("> ") == 2


@pytest.mark.parametrize("more", [[], ["-o", "out"]])
def test_what_happens_to_prompts_is_said(gptctl: Gptctl, models: Path, tmp_path: Path, more: list[str]) -> None:
    """Beginnings that the model does not read, and the names of special tokens, which are text."""
    write_jsonl(tmp_path / "p.jsonl", [{"text": "a " * 200}, {"text": f"{MARKERS[0]}user"}, {"text": "b"}])
    done = gptctl("generate", models / "small", "--prompts", "p.jsonl", "--max-tokens", 4, *more)
    assert done.code == 0, done.err
    warned = [line for line in done.err.splitlines() if line.startswith("warning")]
    assert warned == [
        "warning: the beginning of 1 prompt was left out: the model reads 124 tokens before --max-tokens 4",
        f"warning: {MARKERS[0]} in a prompt is text, not a special token; --chat writes a model's own turns",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("small --chat", 3, "finetune MODEL DATA -o OUT --task chat"),
        ("small x --draft other", 2, "another tokenizer"),
        ("small x --draft small --set prompt_lookup=true", 2, "--draft and prompt_lookup"),
        ("small x --quantize int8 --set precision=bf16", 2, "either int8 or bf16"),
        ("small x --prompts p.txt", 2, "both given"),
        ("chat --chat -o out", 2, "not written to a folder"),
        ("small --prompts empty.txt", 3, "contains no prompt"),
        ("small --prompts empty.txt -o out", 3, "contains no prompt"),
        ("small --prompts damaged.txt", 3, "not UTF-8 at byte 11"),
        ("small --prompts binary.txt", 3, "binary.txt is binary"),
        ("small --prompts missing.txt", 2, "missing.txt"),
        ("small x --top-p 0", 2, "--top-p takes a number above 0 and of at most 1, not '0'"),
    ],
)
def test_what_cannot_be_done_is_said(words: str, code: int, said: str, models: Path, tmp_path: Path) -> None:
    """One line and a hint."""
    (tmp_path / "p.txt").write_text("x")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "damaged.txt").write_bytes("the\ngröße".encode() + b"\xff")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    for name in ("chat", "small", "other"):
        (tmp_path / name).symlink_to(models / name)
    done = run_gptctl("generate", *words.split(), cwd=tmp_path)
    assert (done.code, said in done.err) == (code, True), done.err
    assert len(done.error_lines) == 2


def test_the_command_has_at_most_fifteen_flags_of_its_own() -> None:
    """The rest are config keys."""
    from gptctl.cli.params import in_group, ordered
    from gptctl.core.config import declaration

    own = [
        name for name, field in ordered(Generate) if declaration(field).form == "flag" and not in_group(Generate, name)
    ]
    assert len(own) <= 15
