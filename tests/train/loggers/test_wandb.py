"""The files of wandb's offline mode, read back with its own records."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptctl.core.errors import MachineError
from gptctl.train.loggers import wandb as logger
from tests.train.jobs import make_job, run_in

BLOCK, HEADER = 32_768, 7  # of the log format of LevelDB, after a first header of 7 bytes


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file, which may be cut into pieces at the ends of blocks."""
    data, place, record = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a whole one, or the last piece
            yield record
            record = b""


def history(folder: Path) -> tuple[set[str], list[dict[str, Any]]]:
    """Return the identifiers of the runs in a folder, and what they logged, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    identities, logged = set(), []
    for path in sorted(folder.glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for data in records(path):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                identities.add(record.run.run_id)
            if record.HasField("history"):
                items = record.history.item
                logged.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return identities, logged


@pytest.mark.slow
def test_the_curves_are_those_of_events_jsonl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over a resume, which continues the same run."""
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'wandb>=0.31'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    job = replace(make_job(log_every=5, eval_every=10), loggers=("wandb",))
    run_in(tmp_path, replace(job, max_tokens=20 * 6 * 32))
    run_in(tmp_path, job)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    identities, logged = history(tmp_path / "wandb")
    assert len(identities) == 1
    for tag, kind, name in (
        ("train/loss", "step", "loss"),
        ("train/lr", "step", "lr"),
        ("eval/val_loss", "eval", "val_loss"),
    ):
        wanted = [(line["step"], line[name]) for line in lines if line["event"] == kind]
        assert [(row["step"], row[tag]) for row in logged if tag in row] == wanted


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4 with the command that installs it, before training starts."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MachineError, match="package wandb, which is not installed") as caught:
        logger.check()
    assert caught.value.hint == "pip install 'wandb>=0.31'"
    with pytest.raises(MachineError):
        run_in(tmp_path, replace(make_job(), loggers=("wandb",)))
    assert not (tmp_path / "checkpoints").exists()
