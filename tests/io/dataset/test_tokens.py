"""Datasets of tokens: opened without reading them, verified as they are read, and mapped a few shards at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from gptctl.core.errors import DataError
from gptctl.core.summary import Counts
from gptctl.io.dataset import manifest, schema, shards
from gptctl.io.dataset.shard_format import MAPPED
from gptctl.io.dataset.tokens import MappedShards, TokenPart, document_lengths, flat_parts, open_tokens
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.tasks import pretraining

SHARDS, ROWS, LENGTH = 40, 3, 50


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, measure: Callable[[Any], int]) -> list[int]:
    """Return a list that gets an entry for each call of a module's function."""
    calls: list[int] = []
    function = getattr(module, name)

    def wrapper(argument: Any) -> Any:
        calls.append(measure(argument))
        return function(argument)

    monkeypatch.setattr(module, name, wrapper)
    return calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of 40 shards with 3 documents of 50 tokens each, numbered through."""
    made, stream = [], np.arange(SHARDS * ROWS * LENGTH, dtype=np.uint16).reshape(SHARDS, ROWS, LENGTH)
    for number, rows in enumerate(stream):
        table = pa.table({"tokens": pa.array(rows.tolist(), pa.large_list(pa.uint16()))})
        table = table.replace_schema_metadata(schema.with_kind(table.schema, "tokens").metadata)
        made.append(shards.write_shard(tmp_path, f"shards/train/part-{number:05d}.arrow", table, MAPPED))
    metrics = {"vocab_size": 9, "train": {"documents": SHARDS * ROWS, "tokens": stream.size}}
    manifest.Manifest("tokens", "tokenize", {}, {}, tuple(made), Counts(), metrics, "t").write(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_start_reads_only_the_shards_of_its_first_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch, pa, "memory_map", lambda path: 1)
    hashed = counted(monkeypatch, xxhash, "xxh3_128_hexdigest", lambda data: len(data))
    tokens = open_tokens(str(folder))
    assert (tokens.documents("train"), tokens.count("train")) == (SHARDS * ROWS, SHARDS * ROWS * LENGTH)
    windows = pretraining.open_windows(folder, 16, 1, "train")
    assert isinstance(windows, TokenWindows) and windows.tokens == SHARDS * ROWS * LENGTH
    assert not opened
    shard_bytes = tokens.manifest.shards[0].bytes
    assert shard_bytes not in hashed  # only the manifest's own checksum
    hashed.clear()
    windows.batch(0, 4)
    assert 1 <= len(opened) <= 8  # a window lies in one shard or in two
    assert sum(hashed) == len(opened) * shard_bytes
    read = len(opened)
    windows.batch(0, 4)
    assert (len(opened), sum(hashed)) == (read, read * shard_bytes)


def test_slices_of_parts_are_those_of_the_stream(folder: Path) -> None:
    parts = flat_parts(folder, "train")
    assert np.concatenate([part[:] for part in parts]).tolist() == list(range(SHARDS * ROWS * LENGTH))
    assert parts[2][10:20].tolist() == list(range(310, 320))
    assert (len(parts[0]), parts[0][140:999].tolist(), len(parts[0][150:160])) == (150, list(range(140, 150)), 0)


def test_a_slice_may_span_batches_of_a_shard(tmp_path: Path) -> None:
    rows = pa.array([[n] * 2 for n in range(2000)], pa.large_list(pa.uint32()))  # in two batches
    written = shards.write_shard(tmp_path, "a.arrow", pa.table({"tokens": rows}), MAPPED)
    part = TokenPart(manifest.Shard(written.path, 2000, written.bytes, written.xxh3_128, 4000), MappedShards(tmp_path))
    assert part[2040:2054].tolist() == [n for n in range(1020, 1027) for _ in range(2)]
    assert part[:].tolist() == [n for n in range(2000) for _ in range(2)]


def test_the_shards_that_were_read_last_stay_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch, pa, "memory_map", lambda path: 1)
    hashed = counted(monkeypatch, xxhash, "xxh3_128_hexdigest", lambda data: 1)
    mapped = MappedShards(folder, limit=2)
    parts = [TokenPart(shard, mapped) for shard in manifest.read(folder).shards[:3]]
    hashed.clear()
    for number in (0, 1, 0, 2, 0, 1):  # 2 replaces 1, and 1 replaces 2
        assert parts[number][:1].tolist() == [number * ROWS * LENGTH]
        assert len(mapped.arrays) <= 2
    assert (len(opened), len(hashed)) == (4, 3)  # a shard is verified once


def test_a_damaged_shard_is_never_trained_on(folder: Path) -> None:
    damaged = folder / "shards/train/part-00007.arrow"
    flip(damaged)
    open_tokens(str(folder))
    windows = pretraining.open_windows(folder, 16, 1, "train")
    assert isinstance(windows, TokenWindows)
    with pytest.raises(DataError, match=r"checksum mismatch: .*part-00007.arrow"):
        for batch in range(windows.samples_per_epoch):
            read = windows.batch(batch, 1).input_ids
            assert not ((read >= 7 * ROWS * LENGTH) & (read < 8 * ROWS * LENGTH)).any()


def test_a_shard_of_another_size_is_found_when_the_dataset_is_opened(folder: Path) -> None:
    path = folder / "shards/train/part-00007.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"shard is cut: .*part-00007.arrow"):
        open_tokens(str(folder))
    path.unlink()
    with pytest.raises(DataError, match=r"shard is missing: .*part-00007.arrow"):
        open_tokens(str(folder))


@pytest.mark.parametrize("place", [0.01, 0.2, 0.4, 0.5, 0.6, 0.8, 0.99])
def test_lengths_of_a_damaged_shard_are_right_or_refused(folder: Path, place: float) -> None:
    """Flip a byte of the header, of the offsets, of the tokens, or of the footer."""
    path = folder / "shards/train/part-00000.arrow"
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x81
    path.write_bytes(data)
    try:
        assert document_lengths(folder, "train").tolist() == [LENGTH] * SHARDS * ROWS
    except DataError as error:
        assert "checksum mismatch" in error.message


def test_manifests_of_earlier_versions_leave_out_the_tokens(folder: Path) -> None:
    found = manifest.read(folder)
    without = [manifest.Shard(shard.path, shard.rows, shard.bytes, shard.xxh3_128) for shard in found.shards]
    manifest.Manifest("tokens", "tokenize", {}, {}, tuple(without), Counts(), found.metrics, "t").write(folder)
    assert [len(part) for part in flat_parts(folder, "train")] == [ROWS * LENGTH] * SHARDS
