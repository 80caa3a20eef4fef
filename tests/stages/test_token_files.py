"""Token files of nanoGPT and llm.c: tokenize reads them, export writes them, and both keep every id."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gptctl as api
from gptctl.io import token_files
from gptctl.io.dataset import manifest
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import Ran

Gptctl = Callable[..., Ran]
SPLITS = ("train", "val", "test")
ALONE: dict[str, Any] = {"executor": "serial", "workers": 1}


def flat(folder: Path, split: str) -> NDArray[Any]:
    """The tokens of a split, one document after the other."""
    column = api.Dataset(folder, split).to_arrow()["tokens"]
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])


def header(magic: int, version: int, count: int) -> bytes:
    """The header of llm.c's files."""
    return np.array([magic, version, count] + [0] * 253, "<i4").tobytes()


@pytest.fixture
def nanogpt(workspace: Path, tmp_path: Path) -> Path:
    """A data folder of nanoGPT, with the documents of workspace/tokens, and the tokenizer elsewhere."""
    folder = tmp_path / "openwebtext"
    folder.mkdir()
    for split in SPLITS:
        flat(workspace / "tokens", split).astype("<u2").tofile(folder / f"{split}.bin")
    (folder / "prepare.py").write_text("# downloads openwebtext\n")
    shutil.copy(workspace / "tokens" / "tokenizer.json", tmp_path / "tokenizer.json")
    return folder


def test_there_and_back(nanogpt: Path, workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    """The same documents, tokens and bytes of text as in the shards that the files came from, and the same files."""
    done = gptctl("tokenize", nanogpt, "-o", "tokens", "--tokenizer", "tokenizer.json", "--json")
    assert done.code == 0, done.err
    known = manifest.read(workspace / "tokens").metrics
    for split in SPLITS:
        assert done.json["metrics"][split] == known[split]
        tables = [api.Dataset(folder, split).to_arrow() for folder in (tmp_path / "tokens", workspace / "tokens")]
        assert tables[0]["tokens"].to_pylist() == tables[1]["tokens"].to_pylist()
        assert tables[0]["n_bytes"].to_pylist() == tables[1]["n_bytes"].to_pylist()
        assert tables[0].schema.metadata == tables[1].schema.metadata
    again = gptctl("tokenize", nanogpt, "-o", "tokens", "--tokenizer", "tokenizer.json", "--json")
    assert again.json["status"] == "up to date"
    assert gptctl("export", "tokens", "-o", "bin", "--format", "bin").code == 0
    assert [(tmp_path / "bin" / f"{split}.bin").read_bytes() for split in SPLITS] == [
        (nanogpt / f"{split}.bin").read_bytes() for split in SPLITS
    ]
    assert gptctl("export", "tokens", "-o", "bin", "--format", "bin", "--json").json["status"] == "up to date"
    assert gptctl("inspect", "bin").code == gptctl("doctor", "bin").code == 0
    api.tokenize(tmp_path / "bin", out=tmp_path / "third", **ALONE)  # the tokenizer lies beside the files
    for shard in manifest.read(tmp_path / "tokens").shards:
        assert (tmp_path / "third" / shard.path).read_bytes() == (tmp_path / "tokens" / shard.path).read_bytes()


def test_what_nanogpt_reads(workspace: Path, tmp_path: Path) -> None:
    """Its batches, as its train.py draws them from a memory map of 16-bit ids, are the text."""
    api.export(workspace / "tokens", out=tmp_path / "bin", format="bin")
    data = np.memmap(tmp_path / "bin" / "train.bin", dtype=np.uint16, mode="r")
    stream = flat(workspace / "tokens", "train")
    for start in (0, 100, len(data) - 65):
        x, y = data[start : start + 64].astype(np.int64), data[start + 1 : start + 65].astype(np.int64)
        assert x.tolist() == stream[start : start + 64].tolist()
        assert y.tolist() == stream[start + 1 : start + 65].tolist()


def test_headers_of_llm_c(nanogpt: Path, workspace: Path, tmp_path: Path) -> None:
    """Several files of a split, named as llm.c and modded-nanogpt name them, with ids of 16 and of 32 bits."""
    stream = flat(workspace / "tokens", "train")
    half = len(stream) // 2
    for name, magic, version, width, ids in (
        ("fineweb_train_000001", 20240520, 1, 2, stream[:half]),
        ("fineweb_train_000002", 20240520, 1, 2, stream[half:]),
        ("fineweb_val_000000", 20240801, 7, 4, stream[:99]),
    ):
        data = header(magic, version, len(ids)) + ids.astype(f"<u{width}").tobytes()
        (tmp_path / f"{name}.bin").write_bytes(data)
    api.tokenize(str(tmp_path / "*.bin"), out=tmp_path / "out", tokenizer=str(tmp_path / "tokenizer.json"), **ALONE)
    assert flat(tmp_path / "out", "train").tolist() == stream.tolist()
    assert flat(tmp_path / "out", "val").tolist() == stream[:99].tolist()
    assert manifest.read(tmp_path / "out").splits == ["train", "val"]


@pytest.mark.parametrize("place", ["behind", "before", "nowhere"])
def test_borders_of_tasks(place: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents stay whole, wherever the bounds of tasks lie, and end-of-text may stand before a document or behind."""
    tokenizer = Tokenizer.from_json((workspace / "tokens" / "tokenizer.json").read_text())
    end = tokenizer.end_of_text_id
    texts = [list(range(10, 10 + length)) for length in (1, 6, 7, 8, 3, 14, 2, 9)]
    parts = {"behind": [[*text, end] for text in texts], "before": [[end, *text] for text in texts], "nowhere": texts}
    stream = [token for part in parts[place] for token in part]
    np.array(stream, "<u2").tofile(tmp_path / "train.bin")
    shutil.copy(workspace / "tokens" / "tokenizer.json", tmp_path)
    monkeypatch.setattr(token_files, "TASK_TOKENS", 16)
    api.tokenize(tmp_path / "train.bin", out=tmp_path / "out", **ALONE)
    assert len(manifest.read(tmp_path / "out").shards) > 2
    table = api.Dataset(tmp_path / "out", "train").to_arrow()
    rows = table["tokens"].to_pylist()
    assert [token for row in rows for token in row] == stream
    if place != "nowhere":
        assert [row[:-1] for row in rows if row != [end]][:-1] == texts[:-1]
        assert all(row[-1] == end for row in rows[:-1])
    starts = np.cumsum([0, *map(len, rows)])[:-1].tolist()
    assert table["doc_id"].to_pylist() == [f"train.bin:{start}" for start in starts]


def test_large_vocabularies(workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    """Ids of 32 bits are read where the tokenizer needs them; nanoGPT's files cannot hold them."""
    definition = json.loads((workspace / "tokens" / "tokenizer.json").read_text())
    definition["model"]["vocab"]["zz"] = 70_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    np.array([300, 70_000, 0] * 20, "<u4").tofile(tmp_path / "train.bin")
    assert gptctl("tokenize", "train.bin", "-o", "tokens").code == 0
    assert flat(tmp_path / "tokens", "train").tolist() == [300, 70_000, 0] * 20
    for more in ((), ("--dry-run",)):
        done = gptctl("export", "tokens", "-o", "bin", "--format", "bin", *more)
        assert (done.code, "the vocabulary has 70,001 tokens, and nanoGPT's ids end at 65,535" in done.err) == (2, True)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "train.bin holds no tokens"),
    "odd": (b"\1\0\2", "train.bin has 3 bytes of ids, which is no multiple of 2"),
    "beyond": (np.array([5, 60_000], "<u2").tobytes(), "train.bin has the id 60000, and the tokenizer has 320 tokens"),
    "cut": (header(20240520, 1, 9) + b"\1\0", "train.bin has 1 ids, and its header says 9"),
    "no ids": (header(20240520, 1, 0), "train.bin holds no tokens"),
    "newer": (header(20240520, 2, 1) + b"\1\0", "version 2 of llm.c's format, and version 1 is known"),
    "questions": (header(20240522, 1, 1) + b"\1\0", "holds multiple-choice questions of llm.c"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str, workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    data, said = DAMAGED[name]
    (tmp_path / "train.bin").write_bytes(data)
    words = ("tokenize", "train.bin", "-o", "out", "--tokenizer", workspace / "tokens")
    for more in ((), ("--dry-run",)):
        done = gptctl(*words, *more)
        assert (done.code, said in done.err, len(done.error_lines)) == (3, True, 2), done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("tokenize openwebtext -o out", 2, "nothing beside it says which tokenizer they are of"),
        ("tokenize openwebtext -o out --tokenizer tokenizer.json --val 0.2", 2, "val has no effect"),
        ("tokenize openwebtext tokenizer.json -o out", 2, "cannot be one input"),
        ("pretrain openwebtext -o run", 3, "gptctl tokenize openwebtext -o tokens --tokenizer TOKENIZER"),
        ("clean openwebtext/train.bin -o out", 3, "has token ids in nanoGPT's format, not documents"),
    ],
)
def test_refused(words: str, code: int, said: str, nanogpt: Path, gptctl: Gptctl) -> None:
    done = gptctl(*words.split())
    assert (done.code, said in done.err, len(done.error_lines)) == (code, True, 2), done.err


def test_tokens_are_no_model(workspace: Path, gptctl: Gptctl) -> None:
    done = gptctl("export", workspace / "tokens", "-o", "out")
    assert (done.code, "-o out --format bin" in done.err) == (3, True), done.err
    done = gptctl("export", workspace / "run", "-o", "out", "--format", "bin")
    assert (done.code, "holds a trained model, not tokens" in done.err) == (3, True), done.err


@pytest.mark.slow
def test_a_model_is_trained_on_them(nanogpt: Path, gptctl: Gptctl) -> None:
    assert gptctl("tokenize", nanogpt, "-o", "tokens", "--tokenizer", "tokenizer.json", "--workers", "2").code == 0
    done = gptctl("pretrain", "tokens", "-o", "run", "--preset", "test-modern", "--steps", "4", "--device", "cpu")
    assert done.code == 0, done.err
    assert gptctl("eval", "run", "tokens", "--metrics", "loss,bits_per_byte", "--device", "cpu").code == 0
