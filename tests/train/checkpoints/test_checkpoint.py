"""Checkpoints: written in the background, whole or not at all, by one rank or by each its part."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from gptctl.core.context import Context
from gptctl.core.errors import DataError, MachineError
from gptctl.model.files import model_manifest, shard_index, tensor_files
from gptctl.model.files.lazy_tensor import read_all
from gptctl.model.files.shard_index import SHARD_INDEX, IndexedReader
from gptctl.model.folder import load_model
from gptctl.train.checkpoints import async_writer, checkpoint_folders
from gptctl.train.checkpoints.async_writer import AsyncCheckpointWriter
from gptctl.train.job import TrainJob
from gptctl.train.strategies.single import SingleDevice
from tests.train.jobs import make_job, run_in, whole_model
from tests.train.rank_pool import RankPool, files_verified, stored_in, tensors, train_as_rank
from tests.train.test_loop import events

FILES = ("config.json", "manifest.json", "state.json", "tokenizer.json", SHARD_INDEX)


def writer_of(folder: Path, job: TrainJob) -> AsyncCheckpointWriter:
    """Make a writer of a fresh model, without optimizers."""
    model = whole_model(job)
    return AsyncCheckpointWriter(
        folder, job, SingleDevice(torch.device("cpu")), model, dict(model.named_parameters()), ()
    )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let tensors be written only once the event is set."""
    gate, write = threading.Event(), tensor_files.write_tensors

    def hold(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        assert gate.wait(20)
        write(path, tensors)

    monkeypatch.setattr(tensor_files, "write_tensors", hold)
    return gate


def test_updates_go_on_while_it_is_written(tmp_path: Path, gate: threading.Event) -> None:
    """What is stored is the moment of the call, whatever happens to the weights before it is on disk."""
    background = writer_of(tmp_path, make_job())
    norm = background.parameters["final_norm.weight"]
    background.save(1, {"step": 1})
    before = norm.detach().clone()
    with torch.no_grad():
        norm.add_(5)
    assert background.take_finished() == checkpoint_folders.list_checkpoints(tmp_path / "checkpoints") == []
    gate.set()
    background.wait()
    (path,) = background.take_finished()
    assert path == checkpoint_folders.latest_valid(tmp_path) == tmp_path / "checkpoints" / "step-000001"
    assert torch.equal(load_file(path / "model.safetensors")["final_norm.weight"], before)


def test_one_is_under_way_at_most(tmp_path: Path, gate: threading.Event) -> None:
    """The next one waits for the last, so copies never pile up."""
    background = writer_of(tmp_path, make_job(keep_checkpoints=1))
    background.save(1, {"step": 1})
    opener = threading.Timer(0.3, gate.set)
    opener.start()
    background.save_best({"step": 1})
    assert checkpoint_folders.latest_valid(tmp_path) == tmp_path / "checkpoints" / "step-000001"
    background.save(2, {"step": 2})
    background.wait()
    assert [path.name for path in background.take_finished()] == ["step-000001", "best", "step-000002"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best", "step-000002"]


def test_what_cannot_be_written_ends_training(tmp_path: Path, two: RankPool) -> None:
    """An error in the background is the run's: exit 4, and no rank waits for ever."""
    for name in ("alone", "fsdp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoints").write_text("in the way")
    job = make_job(recipe={"steps": 4}, checkpoint_every=2)
    with pytest.raises(MachineError, match="checkpoints") as caught:
        run_in(tmp_path / "alone", job)
    assert caught.value.exit_code == 4
    with pytest.raises(AssertionError, match=r"MachineError: .*checkpoints"):
        two.train("fsdp", tmp_path / "fsdp", job)


def train_on_a_full_disk(folder: Path, job: TrainJob) -> str:
    """Train; the second rank's disk is full from its second checkpoint on. Give what went wrong."""
    calls: list[int] = []
    write = HuggingFaceStorageWriter.write_data

    def fail(self: HuggingFaceStorageWriter, *args: Any) -> Any:
        calls.append(1)
        if dist.get_rank() == 1 and len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *args)

    HuggingFaceStorageWriter.write_data = fail  # type: ignore[method-assign,assignment]
    try:
        train_as_rank(folder, job)
    except MachineError as error:
        return error.message
    finally:
        HuggingFaceStorageWriter.write_data = write  # type: ignore[method-assign]
    return ""


def test_one_full_disk_leaves_the_last_good_one(tmp_path: Path, two: RankPool) -> None:
    """All ranks hear of it; nothing half written stays."""
    job = replace(make_job(recipe={"steps": 30}, checkpoint_every=10), world_size=2, strategy="fsdp")
    found = two.call(train_on_a_full_disk, tmp_path, job)
    assert all(message.startswith("rank 1: disk full") for message in found), found
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000010"]
    assert checkpoint_folders.latest_valid(tmp_path) is not None


def train_without_an_index(folder: Path, job: TrainJob) -> str:
    """Train; the first rank cannot read the shards for their index. Return what went wrong."""
    write = shard_index.write_index

    def fail(folder: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    shard_index.write_index = fail
    try:
        train_as_rank(folder, job)
    except Exception as error:
        return str(error)
    finally:
        shard_index.write_index = write
    return ""


def test_all_ranks_hear_of_an_error_of_the_first(tmp_path: Path, two: RankPool) -> None:
    """Otherwise the others would wait for it."""
    job = replace(make_job(recipe={"steps": 2}), world_size=2, strategy="fsdp")
    first, second = two.call(train_without_an_index, tmp_path, job)
    assert "Stale file handle" in first
    assert second.startswith("rank 0: ")
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_newest_valid_ones_are_kept(tmp_path: Path) -> None:
    """Damaged ones do not count, and go."""
    run_in(tmp_path, make_job(recipe={"steps": 5}, checkpoint_every=1, keep_checkpoints=9))
    folder = tmp_path / "checkpoints"
    (folder / "step-000004" / "state.json").write_text("{}")
    (folder / "step-000002" / "manifest.json").unlink()
    checkpoint_folders.prune(folder, 3)
    assert [path.name for path in checkpoint_folders.list_checkpoints(folder)] == [
        "step-000001",
        "step-000003",
        "step-000005",
    ]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tp"])
def test_layout(tmp_path: Path, two: RankPool, strategy: str) -> None:
    """Safetensors and JSON and nothing else; both layouts are model folders with the same weights."""
    job = make_job("test-modern", recipe={"steps": 3}, eval_every=2)
    two.train(strategy, tmp_path, job)
    newest = tmp_path / "checkpoints" / "step-000003"
    best = tmp_path / "checkpoints" / "best"
    for folder in (newest, best):
        tensor_files = sorted(path for path in folder.iterdir() if path.name not in FILES)
        assert all(stored_in(path) for path in tensor_files)
        for name in FILES[:3]:
            assert json.loads((folder / name).read_bytes())
        names = [path.name for path in tensor_files]
        if strategy == "ddp":
            assert names == ["model.safetensors", "optimizer.safetensors"][: 2 if folder == newest else 1]
        else:
            assert names == [f"shard-0000{number}-model-00001-of-00001.safetensors" for number in (1, 2)]
            assert (folder / SHARD_INDEX).exists()
        listed = {entry["path"] for entry in json.loads((folder / "manifest.json").read_bytes())["files"]}
        assert listed == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert not any(name[0].isdigit() for name in tensors(best))
    model, *_ = load_model(newest)
    whole = tensors(newest)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor[: len(whole[name])], whole[name][: len(tensor)])
    assert (model_manifest.weights_fingerprint(newest) == model_manifest.weights_fingerprint(best)) == (
        strategy == "ddp"
    )  # shards hold more than weights


def test_a_damaged_shard_is_passed_over(tmp_path: Path, two: RankPool) -> None:
    """One bit of one rank's file: the checkpoint before it is used, and the end is the same."""
    job = make_job("test-modern", recipe={"steps": 12}, checkpoint_every=4, keep_checkpoints=3)
    two.train("fsdp", tmp_path / "straight", job)
    two.train("fsdp", tmp_path / "hurt", job)
    (path,) = (tmp_path / "hurt" / "checkpoints" / "step-000012").glob("shard-00002-*")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    warnings: list[str] = []
    assert checkpoint_folders.latest_valid(tmp_path / "hurt", warnings.append) is not None
    assert "checksum mismatch" in warnings[0]
    two.train("fsdp", tmp_path / "hurt", job)
    assert events(tmp_path / "hurt", "resumed")[-1]["step"] == 8
    one, other = (tensors(tmp_path / name / "checkpoints" / "step-000012") for name in ("straight", "hurt"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_index_replaces_the_headers(tmp_path: Path, two: RankPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says the same, and no file is opened but for its values."""
    two.train("fsdp", tmp_path, make_job("test-moe", {"experts": 3}, {"steps": 1}))
    folder = tmp_path / "checkpoints" / "step-000001"
    headers, weights = (
        HuggingFaceStorageReader(str(folder)).read_metadata(),
        read_all(tensor_files.open_weights(folder)),
    )
    opened: list[str] = []
    open_file = safetensors.safe_open

    def note(filename: str, *args: Any, **options: Any) -> Any:
        opened.append(Path(filename).name)
        return open_file(filename, *args, **options)

    monkeypatch.setattr(safetensors, "safe_open", note)
    found = IndexedReader(folder).read_metadata()
    assert not opened
    assert found.state_dict_metadata.keys() == headers.state_dict_metadata.keys()
    for name, stored in headers.state_dict_metadata.items():
        same = found.state_dict_metadata[name]
        assert (same.size, same.properties.dtype) == (stored.size, stored.properties.dtype)
        assert sorted(map(str, same.chunks)) == sorted(map(str, stored.chunks))
    places = {index: Path(part.relative_path) for index, part in headers.storage_data.items()}
    assert {index: Path(part.relative_path) for index, part in found.storage_data.items()} == places
    again = read_all(tensor_files.open_weights(folder))
    assert set(opened) == {path.name for path in folder.glob("shard-0*")}
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_each_rank_verifies_its_own_file(tmp_path: Path, two: RankPool) -> None:
    """When a run resumes or diverges, every byte is hashed once over all ranks; on one rank alone, all of them."""
    job = replace(make_job("test-modern", recipe={"steps": 2}, checkpoint_every=2), world_size=2, strategy="fsdp")
    two.train("fsdp", tmp_path, job)
    folder = tmp_path / "checkpoints" / "step-000002"
    hashed = two.call(files_verified, tmp_path, job)
    names = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert sorted(hashed[0] + hashed[1]) == sorted(names)
    for rank, files in enumerate(hashed):
        assert [name for name in files if name.startswith("shard-0")] == [
            f"shard-0000{rank + 1}-model-00001-of-00001.safetensors"
        ]
    (folder / "state.json").write_text("{}")
    with pytest.raises(AssertionError, match="every checkpoint is damaged"):
        two.call(files_verified, tmp_path, job)


def test_another_models_checkpoint_is_refused(tmp_path: Path, two: RankPool) -> None:
    """Exit 3 with the way out, for both layouts and both kinds of strategy."""
    small, large = (make_job("test-modern", {"hidden_size": width}, {"steps": 1}) for width in (32, 64))
    run_in(tmp_path / "whole", small)
    two.train("fsdp", tmp_path / "sharded", small)
    for name in ("whole", "sharded"):
        with pytest.raises(DataError, match="fit the model"):
            run_in(tmp_path / name, large)
        with pytest.raises(AssertionError, match=r"DataError: .* fit the model"):
            two.train("fsdp", tmp_path / name, large)


def test_a_writer_that_failed_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it can go on."""
    background = writer_of(tmp_path, make_job())
    with monkeypatch.context() as patch:
        patch.setattr(async_writer, "write_weights", lambda *_: 1 / 0)
        background.save(1, {"step": 1})
        with pytest.raises(ZeroDivisionError):
            background.wait()
    background.save(2, {"step": 2})
    background.wait()
    assert [path.name for path in background.take_finished()] == ["step-000002"]
    assert not run_in(tmp_path / "other", make_job(recipe={"steps": 0}), Context()).get("steps")
