"""A model folder: what goes in comes out; what is damaged, missing or pickled is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gptctl.core import atomic
from gptctl.core.config import plain
from gptctl.core.errors import DataError, UsageError
from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.files import model_manifest
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.lora import apply_lora, lora_layers
from gptctl.model.lora_config import LoraConfig
from gptctl.model.save import save_model, write_config, write_weights
from tests.model.test_gpt import FAMILIES, make, some_tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip(tmp_path: Path, name: str) -> None:
    """Config, tokenizer, extras and every logit come back."""
    model = make(name)
    save_model(tmp_path / "model", model, '{"a": 1}', {"stage": "test"})
    loaded, config, tokenizer, extra = load_model(tmp_path / "model")
    assert isinstance(loaded, GPT)
    assert (config, tokenizer, extra) == (model.config, '{"a": 1}', {"stage": "test"})
    tokens = some_tokens(model, 2, 9)
    with torch.no_grad():
        assert torch.equal(model(tokens), loaded(tokens))


def test_the_file_holds_no_padding(tmp_path: Path) -> None:
    """512 rows are a multiple of 64, 500 are not."""
    model = make("test-gpt2", vocab_size=500, tie_embeddings=False)
    save_model(tmp_path / "model", model, "{}", {})
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert tensors["transformer.wte.weight"].shape == tensors["lm_head.weight"].shape == (500, 64)
    loaded = load_model(tmp_path / "model")[0]
    assert isinstance(loaded, GPT)
    assert loaded.embedding.weight.shape == (512, 64)


@pytest.mark.parametrize("pooling", ["last", "concat"])
def test_classifier_round_trip(tmp_path: Path, pooling: Pooling) -> None:
    """The label head comes back, and reads what it was made for."""
    model = Classifier(make("test-gpt1"), labels=3, pooling=pooling).eval()
    save_model(tmp_path / "model", model, "{}", {"label_names": ["a", "b", "c"]})
    loaded, _, _, extra = load_model(tmp_path / "model")
    assert isinstance(loaded, Classifier)
    assert extra["label_names"] == ["a", "b", "c"]
    tokens, lengths = some_tokens(model.gpt, 2, 9)[:, None], torch.tensor([[4], [9]])
    with torch.no_grad():
        logits, _ = loaded(tokens, lengths)
        alone, _ = model(tokens[:1, :, :4], torch.tensor([[4]]))
    torch.testing.assert_close(logits[:1], alone)
    assert logits.shape == (2, 3)


def test_find_model(tmp_path: Path) -> None:
    """A run folder stands for its model."""
    save_model(tmp_path / "run" / "model", make("test-gpt2"), "{}", {})
    assert (
        find_model(str(tmp_path / "run")) == find_model(str(tmp_path / "run" / "model")) == tmp_path / "run" / "model"
    )
    with pytest.raises(UsageError):
        find_model(str(tmp_path / "none"))
    with pytest.raises(DataError):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_found(tmp_path: Path, name: str, damage: str) -> None:
    """One changed byte, a short file or a missing one: DataError (3) that names the file."""
    save_model(tmp_path / "model", make("test-gpt2"), "{}", {})
    path = tmp_path / "model" / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data) if damage == "flip" else bytes(data[:-1]))
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_model(tmp_path / "model")


def test_weights_that_do_not_fit_the_config(tmp_path: Path) -> None:
    """A folder put together from two models, checksums made to agree."""
    save_model(tmp_path / "model", make("test-gpt2"), "{}", {})
    config = json.loads((tmp_path / "model" / "config.json").read_bytes())
    config["gptctl"]["intermediate_size"] = config["n_inner"] = 128
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "manifest.json").unlink()
    model_manifest.write_manifest(tmp_path / "model", "model")
    with pytest.raises(DataError, match="256 rows, not 128"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    """They are not even opened."""
    (tmp_path / name).write_bytes(b"\x80\x04")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="is a pickle") as caught:
        load_model(tmp_path)
    assert caught.value.hint is not None
    assert "run code" in caught.value.hint


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    """Exit 2, as for every missing path."""
    with pytest.raises(UsageError):
        load_model(tmp_path / "none")


@pytest.mark.parametrize("dora", [False, True])
def test_a_checkpoint_of_a_low_rank_update_is_merged(tmp_path: Path, dora: bool) -> None:
    """Its tensors are those of the adapted model; what comes back is a plain one with the same logits."""
    lora = LoraConfig(rank=3, dora=dora)
    model = make("test-modern")
    apply_lora(model, lora, seed=0)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_b.normal_(0, 0.2)
    folder = tmp_path / "step-000001"
    with atomic.atomic_folder(folder) as temporary:
        write_weights(temporary, model, model.state_dict())
        write_config(temporary, model, "{}", {"lora": plain(lora), "stage": "finetune"})
        model_manifest.write_manifest(temporary, "checkpoint")
    loaded, _, _, extra = load_model(folder)
    assert isinstance(loaded, GPT)
    assert not list(lora_layers(loaded))
    assert extra == {"stage": "finetune"}
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    tokens = some_tokens(model, 2, 20)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens), model(tokens), atol=1e-5, rtol=0)


def test_the_card_may_be_edited(tmp_path: Path) -> None:
    """It describes the model to people, and no checksum is kept of it."""
    save_model(tmp_path / "model", make("test-gpt2"), "{}", {"metrics": {"val_loss": 1.25}, "data": {"tokens": "ab12"}})
    card = tmp_path / "model" / "README.md"
    assert "| val_loss | 1.2500 |" in card.read_text()
    assert "`ab12`" in card.read_text()
    card.write_text("# Mine\n")
    load_model(tmp_path / "model")
