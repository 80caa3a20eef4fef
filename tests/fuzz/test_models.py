"""Model folders that are damaged or not what they say: a model, or an error that names what is wrong; no code is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptctl.model.config import ModelConfig
from gptctl.model.files.locate import find_model
from gptctl.model.files.model_manifest import write_manifest
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.save import write_config, write_weights
from gptctl.stages import doctor, inspect
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.checkpoints import checkpoint_folders
from tests.evals import small_model
from tests.fuzz.child import Child, check
from tests.fuzz.mutate import changed, json_values, mutated
from tests.fuzz.profile import examples

Build = Callable[[Path], None]


def theirs(folder: Path) -> None:
    """A folder as transformers writes one: its names, no manifest."""
    small_model.save(folder)
    (folder / "manifest.json").unlink()
    values = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in values.items() if k not in ("gptctl", "labels", "extra")})
    )


def ours(folder: Path) -> None:
    """A checkpoint with our names."""
    folder.mkdir()
    model = GPT(ModelConfig(layers=1, heads=2, hidden_size=16, intermediate_size=32, max_seq_len=32, vocab_size=256))
    write_weights(folder, model, model.state_dict())
    write_config(folder, model, small_model.tokenizer_json(), {"stage": "test"})
    (folder / "state.json").write_text('{"step": 3}')
    write_manifest(folder, "checkpoint")


def load(folder: Path) -> int:
    model, _, tokenizer, _ = load_model(find_model(str(folder)))
    Tokenizer.from_json(tokenizer).encode("text")
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (theirs, "config.json"),
        (theirs, "model.safetensors"),
        (theirs, "tokenizer.json"),
        (theirs, "generation_config.json"),
        (theirs, "tokenizer_config.json"),
        (ours, "config.json"),
        (ours, "manifest.json"),
        (ours, "model.safetensors"),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_damaged(build: Build, name: str, sealed: bool, tmp_path: Path) -> None:
    if sealed and build is theirs:
        build = small_model.save
    build(tmp_path / "m")
    path = tmp_path / "m" / name
    whole = path.read_bytes()
    structured = (
        changed(json.loads(whole)).map(dumped) | json_values.map(dumped) if path.suffix == ".json" else st.nothing()
    )

    def read(data: bytes) -> int:
        path.write_bytes(data)
        if not sealed and build is ours and name != "manifest.json":
            (path.parent / "manifest.json").unlink(missing_ok=True)
            write_manifest(path.parent, "checkpoint")  # hostile, not damaged
        inspect.run(inspect.Inspect(path=str(tmp_path / "m")))
        doctor.run(doctor.Doctor(paths=(str(tmp_path / "m"),)))
        return load(tmp_path / "m")

    with Child(read) as child:
        found = child(whole)
        assert found.get("value", 0) > 1000, found

        @given(mutated(whole) | structured)
        @examples(15, share=0.3)
        def look(data: bytes) -> None:
            check(child(data))

        look()


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "adapter_config.json"])
def test_beside_the_weights(name: str, tmp_path: Path) -> None:
    """Files that say where the weights are, of any content."""
    theirs(tmp_path / "m")
    whole: Any = {"weight_map": {"lm_head.weight": "a.safetensors"}, "metadata": {"total_size": 1}}
    if name == "adapter_config.json":
        whole = {
            "base_model_name_or_path": str(tmp_path / "m"),
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["c_attn"],
            "peft_type": "LORA",
        }
    folder = tmp_path / "other"
    shutil.copytree(tmp_path / "m", folder)
    target = "a.safetensors" if name.startswith("model") else "adapter_model.safetensors"
    (folder / "model.safetensors").rename(folder / target)
    if name.startswith("adapter"):
        (folder / "config.json").unlink()

    def read(data: bytes) -> int:
        (folder / name).write_bytes(data)
        return load(folder)

    with Child(read) as child:

        @given(changed(whole).map(dumped) | mutated(dumped(whole)) | json_values.map(dumped))
        @example(b'{"weight_map": {"lm_head.weight": ""}}')  # was taken for the folder
        @examples(20, share=0.3)
        def look(data: bytes) -> None:
            check(child(data), 2, 3)

        look()


def test_checkpoints_pass_over_what_is_damaged(tmp_path: Path) -> None:
    """The newest valid one is found, whatever the manifest of a newer one says."""
    for step in (1, 2):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        ours(tmp_path / "checkpoints" / f"step-{step:06d}")
    path = tmp_path / "checkpoints" / "step-000002" / "manifest.json"
    whole = path.read_bytes()

    def newest(data: bytes) -> str:
        path.write_bytes(data)
        found = checkpoint_folders.latest_valid(tmp_path)
        assert found is not None
        return found.name

    with Child(newest) as child:
        assert child(whole) == {"value": "step-000002"}

        @given(mutated(whole) | changed(json.loads(whole)).map(dumped) | json_values.map(dumped))
        @examples(40, share=0.3)
        def look(data: bytes) -> None:
            found = child(data)
            check(found)
            assert "value" in found

        look()


def test_tokenizers(tmp_path: Path) -> None:
    """A tokenizer.json of any content, and text through it."""
    whole = small_model.tokenizer_json().encode()

    def read(data: bytes) -> int:
        coder = Tokenizer.from_json(data.decode("utf-8", "replace"))
        return len(coder.decode(coder.encode("Größe\n\n <|endoftext|>")))

    with Child(read) as child:
        assert "value" in child(whole)

        @given(mutated(whole) | changed(json.loads(whole)).map(dumped) | json_values.map(dumped))
        @examples(60)
        def look(data: bytes) -> None:
            check(child(data))

        look()


@pytest.mark.parametrize("key", ["n_layer", "n_embd", "n_inner", "n_positions", "vocab_size"])
def test_a_config_that_is_far_larger_than_its_weights(key: str, tmp_path: Path) -> None:
    """Refused before a model of that size is built."""
    theirs(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {key: 2**40}))
    with Child(lambda _: load(tmp_path / "m")) as child:
        found = child()
    check(found)
    assert "code" in found


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_nested_too_deep(name: str, tmp_path: Path) -> None:
    theirs(tmp_path / "m")
    (tmp_path / "m" / name).write_text("[" * 100_000)
    with Child(lambda _: load(tmp_path / "m")) as child:
        check(child())
