"""Files of tensors: written one tensor after the other, with the bytes of the package safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.files import tensor_files
from gptctl.model.files.lazy_tensor import LazyTensor, read_all
from tests.allocations import peak_allocated
from tests.fake_cuda import CUDA, fake_cuda

TENSORS = {
    "blocks.0.weight": torch.arange(15.0).view(3, 5),
    "step": torch.tensor(3.0),
    "transposed": torch.arange(12.0).view(4, 3).T,
    "mean": torch.arange(7.0).bfloat16(),
    "empty": torch.empty(0, 4),
    'a "name" with ü': torch.arange(3),
    "half": torch.ones(2, 2).half(),
    "double": torch.ones(3).double(),
}


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    """Any type, in the same order; tensors in memory and tensors that are read later."""
    save_file({name: t.contiguous() for name, t in TENSORS.items()}, tmp_path / "theirs", {"format": "pt"})
    tensor_files.write_tensors(tmp_path / "ours", TENSORS)
    lazy = tensor_files.open_tensors(tmp_path / "theirs")
    tensor_files.write_tensors(tmp_path / "copied", lazy)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes() == (tmp_path / "copied").read_bytes()
    for name, tensor in read_all(lazy).items():
        assert torch.equal(tensor, TENSORS[name])
        assert (lazy[name].shape, lazy[name].nbytes) == (tensor.shape, tensor.nbytes)


def test_tensors_on_a_gpu(tmp_path: Path) -> None:
    """A model that predicted texts on the GPU is written from there, each tensor by a copy of its own."""
    path = tmp_path / "file"
    with fake_cuda() as (transfers, _):
        weights = {"weight": torch.zeros(2, 3, device=CUDA).T, "bias": torch.zeros(3, device=CUDA)}
        tensor_files.write_tensors(path, weights)
    assert transfers.downloads == 2
    assert {name: tensor.shape for name, tensor in load_file(path).items()} == {"weight": (3, 2), "bias": (3,)}


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """Ten tensors that are computed as they are written."""
    shape = torch.Size((100, 100))
    lazy = {f"t{number}": LazyTensor(shape, torch.float32, lambda: torch.ones(shape)) for number in range(10)}
    peak, _ = peak_allocated(lambda: tensor_files.write_tensors(tmp_path / "file", lazy))
    assert 40_000 <= peak < 100_000
    assert len(load_file(tmp_path / "file")) == 10


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """Missing or damaged: exit 3, also where tensors are read later."""
    with pytest.raises(DataError, match="is missing"):
        tensor_files.open_tensors(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="is not a safetensors file"):
        tensor_files.open_tensors(tmp_path / "bad")


@pytest.mark.parametrize(
    ("first", "second", "index", "words"),
    [
        ("ab", "c", {"a": "1", "b": "1", "c": "2"}, ""),
        ("ab", "c", {"a": "1", "c": "2"}, ""),  # transformers takes what no index lists, too
        ("ab", "bc", {"a": "1", "b": "1", "c": "2"}, "1.safetensors and 2.safetensors both have the tensor b"),
        ("ab", "c", {"a": "1", "b": "2", "c": "2"}, "2.safetensors has no tensor b"),
        ("ab", "c", {"a": "1", "b": "1", "c": "2", "d": "2"}, "2.safetensors has no tensor d"),
        ("ab", "c", {"a": "1", "b": "1", "c": "3"}, "3.safetensors is missing"),
    ],
)
def test_an_index_and_its_files_agree(
    tmp_path: Path, first: str, second: str, index: dict[str, str], words: str
) -> None:
    for number, names in (("1", first), ("2", second)):
        tensors = {name: torch.full((2,), ord(name)) for name in names}
        tensor_files.write_tensors(tmp_path / f"{number}.safetensors", tensors)
    places = {name: f"{number}.safetensors" for name, number in index.items()}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    if not words:
        assert tensor_files.open_weights(tmp_path).keys() == {*first, *second}
        return
    with pytest.raises(DataError, match=words):
        tensor_files.open_weights(tmp_path)


class OnDevice(Tensor):
    """A tensor that has no numpy view until it is copied to main memory, as on a GPU."""

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.as_subclass(Tensor)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("not in main memory")


def test_tensors_on_a_device_are_copied_to_main_memory(tmp_path: Path) -> None:
    """As after an evaluation on a GPU, which leaves the model there."""
    tensor_files.write_tensors(tmp_path / "here", TENSORS)
    tensor_files.write_tensors(tmp_path / "there", {name: t.as_subclass(OnDevice) for name, t in TENSORS.items()})
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
