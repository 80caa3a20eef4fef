"""Outputs are verified, what to run again is said, and a metric is traced to the raw files."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptctl.io.files import content_hash
from tests.conftest import Ran, run_gptctl

Gptctl = Callable[..., Ran]


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Raw text, cleaned and deduplicated, in a folder of its own."""
    from tests.conftest import documents, write_jsonl

    write_jsonl(tmp_path / "raw.jsonl", documents(80))
    for command in ("clean raw.jsonl -o clean", "dedup clean -o unique"):
        done = run_gptctl(*command.split(), cwd=tmp_path)
        assert done.code == 0, done.err
    return tmp_path


def flip(path: Path, position: int = -100) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def found(done: Ran, level: str) -> list[Any]:
    return [f"{item['where']}: {item['what']}" for item in done.json["metrics"]["findings"] if item["level"] == level]


def test_the_chain_from_a_metric_to_the_raw_file(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    done = run_gptctl("eval", "classifier", "labelled/test.jsonl", "-o", out, "--metrics", "f1", cwd=workspace)
    assert done.code == 0, done.err
    f1 = json.loads((out / "run.json").read_text())["summary"]["metrics"]["f1"]
    done = run_gptctl("doctor", out, "--lineage", "--json")
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    assert metrics["healthy"] and not [item for item in metrics["findings"] if item["level"] != "note"]
    [top] = metrics["lineage"]
    assert (top["stage"], top["metrics"]["f1"]) == ("eval", f1)
    node, stages = top, []
    while True:
        stages.append(node["stage"])
        above = [origin["output"] for origin in node["origins"] if "output" in origin]
        if not above:
            break
        [node] = above
    assert stages == ["eval", "finetune", "pretrain", "tokenize", "dedup", "clean"]
    [raw] = node["origins"]
    assert (raw["state"], raw["hashes"]) == ("same", {"raw.jsonl": content_hash(str(workspace / "raw.jsonl"))})
    [data] = [origin for origin in top["origins"] if origin["role"] == "data"]
    assert data["hashes"] == {"data/test.jsonl": content_hash(str(workspace / "labelled" / "test.jsonl"))}
    assert all(origin["state"] == "same" for origin in top["origins"])
    # for people: the same, each hash in full, no line wider than a terminal needs for a hash and a name
    assert content_hash(str(workspace / "raw.jsonl")) in done.err
    assert f"eval, f1 {f1:.4g}" in done.err


def test_a_flipped_bit_names_the_shard_and_the_command(chain: Path) -> None:
    flip(chain / "unique/shards/part-00000.arrow")
    done = run_gptctl("doctor", "clean", "unique", "--json", cwd=chain)
    assert done.code == 3
    assert done.error_lines[0].startswith("error: damaged: unique/shards/part-00000.arrow: checksum mismatch")
    assert found(done, "damage") == [
        "unique/shards/part-00000.arrow: checksum mismatch: unique/shards/part-00000.arrow"
    ]
    [command] = done.json["metrics"]["run_again"]
    assert command == "gptctl dedup clean -o unique --force"
    assert run_gptctl(*shlex.split(command)[1:], cwd=chain).code == 0
    done = run_gptctl("doctor", ".", "--json", cwd=chain)
    assert done.code == 0 and done.json["metrics"]["checked"] == ["clean", "unique"]


def append_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "shards/part-00000.arrow").unlink(), "shard is missing"),
        (lambda out: (out / "shards/part-00000.arrow").write_bytes(b""), "shard is cut"),
        (lambda out: append_byte(out / "shards/part-00000.arrow"), "checksum mismatch"),
        (lambda out: (out / "manifest.json").write_text("{"), "is damaged"),
        (lambda out: (out / "manifest.json").unlink(), "was complete, and manifest.json is gone"),
        (
            lambda out: (out / "manifest.json").write_text(
                (out / "manifest.json").read_text().replace('"in": 80', '"in": 81')
            ),
            "is damaged",
        ),
        (
            lambda out: (out / "manifest.json").write_text(
                (out / "manifest.json").read_text().replace('"preset": "basic"', '"preset": "none"')
            ),
            "is damaged",
        ),
    ],
)
def test_damage(workspace: Path, tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    from tests.conftest import documents, write_jsonl

    write_jsonl(tmp_path / "raw.jsonl", documents(80))
    assert run_gptctl("clean", "raw.jsonl", "-o", "clean", cwd=tmp_path).code == 0
    damage(tmp_path / "clean")
    done = run_gptctl("doctor", "clean", "--json", cwd=tmp_path)
    assert done.code == 3 and message in found(done, "damage")[0], done.err
    assert done.json["metrics"]["run_again"] == ["gptctl clean raw.jsonl -o clean --force"]


def test_what_was_killed_is_unfinished_and_what_nobody_reads_is_noted(chain: Path) -> None:
    assert run_gptctl("clean", "raw.jsonl", "-o", "killed", cwd=chain, fault="kill:9").code == -9
    (chain / "clean/shards/stray.arrow").write_bytes(b"?")
    done = run_gptctl("doctor", "killed", "clean", "--json", cwd=chain)
    assert (done.code, done.json["metrics"]["healthy"]) == (3, False), done.err
    assert "error: unfinished: killed: was killed" in done.err and "hint: run again: gptctl clean" in done.err
    assert "killed: was killed" in found(done, "unfinished")[0]
    assert "clean: not in the manifest, so not read: shards/stray.arrow" in found(done, "note")
    [command] = done.json["metrics"]["run_again"]
    assert run_gptctl(*shlex.split(command)[1:], cwd=chain).code == 0
    assert run_gptctl("doctor", "killed", "--json", cwd=chain).json["metrics"]["run_again"] == []


def test_what_failed_because_of_its_data_is_to_be_corrected_first(tmp_path: Path) -> None:
    """The same command would fail again, so neither doctor nor a command that reads the output proposes it as it is."""
    (tmp_path / "bodies.jsonl").write_text('{"body": "a"}\n' * 3)
    assert run_gptctl("clean", "bodies.jsonl", "-o", "failed", cwd=tmp_path).code == 3
    done = run_gptctl("doctor", "failed", cwd=tmp_path)
    assert done.code == 3 and b"it has: body); correct this first\n" in done.out
    done = run_gptctl("dedup", "failed", "-o", "unique", cwd=tmp_path)
    assert done.code == 3 and "which failed: 3 of 3 records are unreadable" in done.err
    assert "hint: correct this in: gptctl clean bodies.jsonl -o failed" in done.err


def test_a_source_that_was_edited_or_removed(chain: Path) -> None:
    with (chain / "raw.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    done = run_gptctl("doctor", "unique", "--lineage", "--json", cwd=chain)
    assert done.code == 0
    changed = f"clean: was made from another inputs than {chain / 'raw.jsonl'} is now"
    assert changed in [note.removeprefix(f"{chain}/") for note in found(done, "note")]
    (chain / "raw.jsonl").unlink()
    done = run_gptctl("doctor", "unique", "--lineage", "--json", cwd=chain)
    assert done.code == 0
    [cleaned] = done.json["metrics"]["lineage"][0]["origins"]
    [raw] = cleaned["output"]["origins"]
    assert raw["state"] == "gone" and list(raw["hashes"]) == ["raw.jsonl"]


@pytest.mark.parametrize("given", ["tokens", "tokens/tokenizer.json", "tokenizer.json"])
def test_a_tokenizer_that_was_given_is_no_change(given: str, workspace: Path, tmp_path: Path) -> None:
    """That of other tokens is known to be the same, and the hash of a file is not compared. Another one is a note."""
    shutil.copytree(workspace / "tokens", tmp_path / "tokens")
    shutil.copy(workspace / "tokens" / "tokenizer.json", tmp_path)
    shutil.copy(workspace / "corpus.txt", tmp_path)
    assert run_gptctl("tokenize", "corpus.txt", "-o", "more", "--tokenizer", given, cwd=tmp_path).code == 0
    done = run_gptctl("doctor", "more", "--lineage", "--json", cwd=tmp_path)
    states = {one["role"]: one["state"] for one in done.json["metrics"]["lineage"][0]["origins"]}
    assert states == {"inputs": "same", "tokenizer": "same" if "tokens" in given else "unknown"}
    assert not found(done, "note")
    other = ("tokenize", "corpus.txt", "-o", "tokens", "--vocab-size", "300", "--force")
    assert run_gptctl(*other, cwd=tmp_path).code == 0
    notes = found(run_gptctl("doctor", "more", "--lineage", "--json", cwd=tmp_path), "note")
    assert [note for note in notes if "another tokenizer" in note] == notes
    assert len(notes) == ("tokens" in given)


def test_a_split_that_was_not_read_is_no_change(workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "labelled", tmp_path / "labelled")
    done = run_gptctl("finetune", "none", "labelled", "-o", "nb", "--task", "filter", cwd=tmp_path)
    assert done.code == 0, done.err

    def state() -> str:
        [data] = run_gptctl("doctor", "nb", "--lineage", "--json", cwd=tmp_path).json["metrics"]["lineage"][0][
            "origins"
        ]
        return str(data["state"])

    assert state() == "same"
    (tmp_path / "labelled" / "train2.jsonl").write_text('{"text": "one more", "label": "x"}\n')
    assert state() == "changed"


def test_checkpoints_and_models(workspace: Path, tmp_path: Path) -> None:
    run = shutil.copytree(workspace / "run", tmp_path / "run")
    [step] = sorted((run / "checkpoints").glob("step-*"))
    shutil.copytree(step, run / "checkpoints/step-000010")
    flip(run / "checkpoints/step-000010/model.safetensors")
    done = run_gptctl("doctor", "run", "--json", cwd=tmp_path)
    assert done.code == 0 and "step-000010: checksum mismatch" in " ".join(found(done, "note")), done.err
    flip(step / "optimizer.safetensors")
    done = run_gptctl("doctor", "run", "--json", cwd=tmp_path)
    assert done.code == 3 and len(found(done, "damage")) == 2
    model = shutil.copytree(workspace / "run/model", tmp_path / "model")
    assert run_gptctl("doctor", model).code == 0
    flip(model / "model.safetensors")
    done = run_gptctl("doctor", model)
    assert done.code == 3 and "checksum mismatch" in done.error_lines[0]


def test_the_machine(gptctl: Gptctl) -> None:
    done = gptctl("doctor", "--json")
    assert done.code == 0
    machine = done.json["metrics"]["machine"]
    assert machine["processors"] >= 1 and "torch" in machine and "free of" in machine["memory"]


def test_what_is_nothing_of_ours(gptctl: Gptctl, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert gptctl("doctor", "other").code == 3
    assert gptctl("doctor", "absent").code == 2
