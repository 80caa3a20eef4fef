"""Bad input, for each stage: the right exit code, one line that names it, a hint, nothing on stdout, nothing lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core import checked_json
from tests.conftest import Ran, documents, tree_bytes, write_jsonl
from tests.faults.harness import assert_whole, expect, fill, grow

Gptctl = Callable[..., Ran]

# stage -> command; IN is what is bad, OUT where it would go, W the workspace of good things
DATA = {"clean": "clean IN -o OUT", "dedup": "dedup IN -o OUT", "tokenize": "tokenize IN -o OUT --vocab-size 300"}
MODELS = {
    "pretrain": "pretrain IN -o OUT --preset test-modern --steps 2",
    "finetune": "finetune W/run IN -o OUT --epochs 1",
    "eval": "eval W/classifier IN -o OUT",
    "generate": "generate W/run --prompts IN -o OUT --max-tokens 4",
}
ALL = DATA | MODELS
# What takes several runs of torch is left to the slow tests where another stage shows the same.
SOME_SLOW = [
    pytest.param(stage, marks=pytest.mark.slow) if stage in ("finetune", "generate") else stage for stage in ALL
]
TEXTS = DATA | {name: command for name, command in MODELS.items() if name != "pretrain"}


def command(text: str, source: object, workspace: Path, out: object = "OUT") -> list[str]:
    return [
        part.replace("W/", f"{workspace}/")
        if part.startswith("W/")
        else {"IN": str(source), "OUT": str(out)}.get(part, part)
        for part in text.split()
    ]


@pytest.mark.parametrize("stage", ALL)
def test_missing_path(stage: str, gptctl: Gptctl, workspace: Path) -> None:
    expect(gptctl(*command(ALL[stage], "nowhere/x.jsonl", workspace)), 2, "nowhere")


@pytest.mark.parametrize("stage", ALL)
def test_empty_file(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    expect(gptctl(*command(ALL[stage], "empty.jsonl", workspace)), 3)


@pytest.mark.parametrize("stage", TEXTS)
def test_broken_json_line(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    rows = [row | {"label": "even"} for row in documents(8)]
    path = write_jsonl(tmp_path / "broken.jsonl", rows)
    path.write_text(path.read_text() + '{"text": "cut off')
    strict = ("--set", "max_bad_records=0")
    expect(gptctl(*command(TEXTS[stage], path.name, workspace), *strict), 3, "1 of 9 records", "not JSON")
    if stage in DATA:
        quarantined = [json.loads(line) for line in (tmp_path / "OUT" / "quarantine.jsonl").read_text().splitlines()]
        assert [(q["file"], q["reason"].split(":")[0], q["excerpt"]) for q in quarantined] == [
            ("broken.jsonl", "not JSON", '{"text": "cut off')
        ]
        accepted = gptctl(*command(TEXTS[stage], path.name, workspace), "--json")
        assert accepted.code == 0, accepted.err
        assert "warning: 1 of 9 records are unreadable" in accepted.err
        counts = accepted.json["counts"]
        assert (counts["in"], sum(counts["quarantined"].values())) == (9, 1)


@pytest.mark.parametrize("stage", TEXTS)
def test_text_column_absent(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "other.jsonl", [{"body": "x", "label": "even"}] * 3)
    expect(gptctl(*command(TEXTS[stage], "other.jsonl", workspace)), 3, "no column 'text'", "--text-column")


@pytest.mark.parametrize("stage", TEXTS)
def test_not_utf8(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9 and more text", "label": "even"}\n')
    expect(gptctl(*command(TEXTS[stage], "latin.jsonl", workspace)), 3, "not UTF-8")


@pytest.mark.parametrize("stage", TEXTS)
def test_truncated_arrow_file(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    data = (workspace / "clean" / "shards" / "part-00000.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(data[: len(data) // 2])
    expect(gptctl(*command(TEXTS[stage], "cut.arrow", workspace)), 3, "cut.arrow")


@pytest.mark.parametrize("stage", ["dedup", "tokenize", "pretrain"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_shard_of_an_earlier_stage(
    stage: str, damage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path
) -> None:
    shutil.copytree(workspace / ("tokens" if stage == "pretrain" else "clean"), tmp_path / "copy")
    shard = sorted((tmp_path / "copy" / "shards").rglob("*.arrow"))[-1]
    data = bytearray(shard.read_bytes())
    if damage == "gone":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(data[:-9])
    else:
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    words = {"flip": "checksum mismatch", "cut": "cut", "gone": "missing"}[damage]
    expect(gptctl(*command(ALL[stage], "copy", workspace)), 3, words, shard.name)


def test_a_stray_shard_is_ignored(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "clean", tmp_path / "copy")
    shutil.copy(workspace / "clean" / "shards" / "part-00000.arrow", tmp_path / "copy" / "shards" / "part-00001.arrow")
    assert gptctl("dedup", "copy", "-o", "OUT").code == 0
    assert tree_bytes(tmp_path / "OUT", "shards") == tree_bytes(workspace / "unique", "shards")
    assert b"not in the manifest, so not read: shards/part-00001.arrow" in gptctl("doctor", "copy").out


@pytest.mark.parametrize("stage", ["finetune", "eval", "generate"])
def test_damaged_model(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    source = "classifier" if stage == "eval" else "run"
    shutil.copytree(workspace / source, tmp_path / "copy")
    weights = tmp_path / "copy" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    text = ALL[stage].replace(f"W/{source}", str(tmp_path / "copy"))
    good = workspace / ("labelled" if stage != "generate" else "prompts.jsonl")
    expect(gptctl(*command(text, good, workspace)), 3, "checksum mismatch", "model.safetensors")


def test_pickles_are_refused(gptctl: Gptctl, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.")
    expect(gptctl("generate", "model", "x"), 3, "pickle")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("stage", ALL)
def test_output_in_use(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    code = "import sys,time; from filelock import FileLock; lock = FileLock('OUT/.lock'); lock.acquire(); print('locked', flush=True); time.sleep(100)"
    (tmp_path / "OUT").mkdir()
    record = {"stage": stage, "pid": 12345, "host": "elsewhere", "started": "now"}
    checked_json.write(tmp_path / "OUT" / "run.json", record)
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            found = gptctl(*command(ALL[stage], good(stage, workspace), workspace))
        finally:
            holder.kill()
    expect(found, 5, "in use by pid 12345 on elsewhere")


@pytest.mark.parametrize("stage", SOME_SLOW)
def test_output_made_with_other_settings_or_input(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    text = command(ALL[stage], good(stage, workspace), workspace)
    assert gptctl(*text).code == 0
    before = tree_bytes(tmp_path / "OUT")
    changes = {"clean": (("--pii",), "pii (was "), "tokenize": (("--val", "0.2"), "val (was 0.01, now 0.2)")}
    other, told = changes.get(stage, (("--seed", "9"), "seed (was 0, now 9)"))
    expect(gptctl(*text, *other), 5, "other settings", told, "--force")
    assert tree_bytes(tmp_path / "OUT") == before
    again = gptctl(*text, "--json")
    assert (again.code, again.json["status"]) == (0, "up to date")
    assert tree_bytes(tmp_path / "OUT") == before
    forced = gptctl(*text, *other, "--force", "--json")
    assert (forced.code, forced.json["status"]) == (0, "done")


def test_a_folder_where_another_stage_failed_at_once(gptctl: Gptctl, workspace: Path) -> None:
    """It holds nothing but the record of that: it binds nobody."""
    assert gptctl("dedup", "-", "-o", "z", stdin=b"no Arrow").code == 3
    assert gptctl("clean", workspace / "raw.jsonl", "-o", "z").code == 0
    expect(gptctl("dedup", workspace / "clean", "-o", "z", "--force"), 5, "made by 'gptctl clean'")


@pytest.mark.parametrize("stage", ["clean", "dedup", "split", "tokenize", "eval", "generate"])
def test_a_corrected_command_goes_on_where_one_failed(
    stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path
) -> None:
    """A run that failed because of its data or its settings keeps no other command out of its folder."""
    labels = ("odd", "even")
    write_jsonl(
        tmp_path / "in.jsonl", [{"body": row["text"], "label": labels[n % 2]} for n, row in enumerate(documents(40))]
    )
    arguments = {
        "split": ["in.jsonl", "--val", "0.2"],
        "tokenize": ["in.jsonl", "--vocab-size", "300"],
        "eval": [workspace / "classifier", "in.jsonl", "--device", "cpu"],
        "generate": [workspace / "run", "--prompts", "in.jsonl", "--device", "cpu", "--max-tokens", "1"],
    }.get(stage, ["in.jsonl"])
    expect(gptctl(stage, *arguments, "-o", "OUT"), 3, "body")
    right = gptctl(stage, *arguments, "-o", "OUT", "--text-column", "body")
    assert right.code == 0, right.err
    assert_whole(tmp_path / "OUT")


def test_repaired_records_are_no_conflict(gptctl: Gptctl, tmp_path: Path) -> None:
    """Nothing was finished, so the input that failed binds nobody."""
    raw = write_jsonl(tmp_path / "raw.jsonl", documents(30))
    whole = raw.read_bytes()
    raw.write_bytes(b"{broken\n" * 20 + whole)
    assert gptctl("clean", "raw.jsonl", "-o", "OUT").code == 3
    raw.write_bytes(whole)
    assert gptctl("clean", "raw.jsonl", "-o", "OUT").code == 0
    assert_whole(tmp_path / "OUT")


def good(stage: str, workspace: Path) -> Path:
    return workspace / {
        "clean": "raw.jsonl",
        "dedup": "clean",
        "tokenize": "unique",
        "pretrain": "tokens",
        "generate": "prompts.jsonl",
    }.get(stage, "labelled")


def test_changed_input(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(5))
    assert gptctl("clean", "raw.jsonl", "-o", "OUT").code == 0
    write_jsonl(tmp_path / "raw.jsonl", documents(6))
    expect(gptctl("clean", "raw.jsonl", "-o", "OUT"), 5, "other input", "raw.jsonl")


def test_a_folder_of_somebody_else_is_never_touched(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "thesis.txt").write_text("precious")
    for force in ((), ("--force",)):
        expect(gptctl("clean", workspace / "raw.jsonl", "-o", "OUT", *force), 5, "thesis.txt")
    assert (tmp_path / "OUT" / "thesis.txt").read_text() == "precious"
    (tmp_path / "file").write_text("x")
    expect(gptctl("clean", workspace / "raw.jsonl", "-o", "file"), 4, "file")
    expect(gptctl("clean", tmp_path, "-o", "OUT2/deep"), 2, "inside the input")


@pytest.mark.parametrize("stage", SOME_SLOW)
def test_disk_full_then_resumed(stage: str, gptctl: Gptctl, workspace: Path, tmp_path: Path, small_disk: Path) -> None:
    fill(small_disk, 12 * 1024 if stage in ("eval", "generate") else 24 * 1024)
    text = command(ALL[stage], good(stage, workspace), workspace, small_disk / "OUT")
    expect(gptctl(*text), 4, "disk full")
    assert not list(small_disk.rglob("*.tmp-*"))
    assert not (small_disk / "OUT" / "manifest.json").exists()
    grow(small_disk)
    done = gptctl(*text)
    assert done.code == 0, done.err
    assert gptctl(*command(ALL[stage], good(stage, workspace), workspace, "fresh")).code == 0
    volatile = {"metrics.json"} if stage == "eval" else set()
    left, right = tree_bytes(small_disk / "OUT", "shards"), tree_bytes(tmp_path / "fresh", "shards")
    assert {k: v for k, v in left.items() if k not in volatile} == right


@pytest.mark.parametrize("stage", ALL)
def test_read_only_mount(stage: str, gptctl: Gptctl, workspace: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    expect(gptctl(*command(ALL[stage], good(stage, workspace), workspace, small_disk / "OUT")), 4, "read-only")


def test_a_fault_in_every_worker_write_is_reported(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    expect(gptctl("clean", workspace / "raw.jsonl", "-o", "OUT", fault="enospc:12"), 4, "disk full")
    assert not list(tmp_path.rglob("*.tmp-*"))
    log = (tmp_path / "OUT" / "log.txt").read_text()
    assert "Traceback" in log
    assert os.environ.get("HOME", "/nonexistent") + "/.ssh" not in log
    assert gptctl("clean", workspace / "raw.jsonl", "-o", "OUT").code == 0
