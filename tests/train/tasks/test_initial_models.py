"""The models that finetuning starts from: the folder's weights, in any layout, with room for new tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gptctl.core.errors import DataError
from gptctl.model.classifier import Classifier
from gptctl.model.files.weight_files import is_sharded
from gptctl.model.folder import load_model
from gptctl.model.lora_config import LoraConfig
from gptctl.model.save import save_model, write_config, write_weights
from gptctl.train.job import TrainJob
from gptctl.train.tasks.initial_models import InitialModel, PretrainedModel
from tests.allocations import peak_allocated
from tests.train.jobs import make_job, run_in, whole_model
from tests.train.rank_pool import RankPool, initial_parts
from tests.train.strategies.test_strategies import assert_parts_are_of, initial_weights

NEW = 5  # tokens


def job_on(folder: Path, preset: str, lora: LoraConfig | None = None, labels: int = 0, new: int = NEW) -> TrainJob:
    """Write a model folder, and describe a run that starts from it."""
    job = make_job(preset)
    model = whole_model(job)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    save_model(folder, model, "{}", {})
    config = model.config
    initial = InitialModel(folder, config, config.vocab_size + new, 0.1, seed=3, lora=lora or LoraConfig())
    return replace(job, model=PretrainedModel(initial, labels))


@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern", "test-moe", "test-vaswani"])
def test_weights_are_those_of_the_folder(tmp_path: Path, preset: str) -> None:
    """Names of transformers, transposed, joined and stacked, and our own; new rows are as large as the others."""
    job = job_on(tmp_path / "model", preset)
    stored = load_model(tmp_path / "model").model.state_dict()
    model = whole_model(job)
    assert model.config.dropout == 0.1
    for name, tensor in model.state_dict().items():
        if name in ("embedding.weight", "head.weight"):
            old, size = model.config.vocab_size - NEW, model.config.vocab_size
            assert torch.equal(tensor[:old], stored[name][:old])
            assert 0.5 < tensor[old:size].std() / stored[name][:old].std() < 2
            assert not tensor[size:].any()
        else:
            assert torch.equal(tensor, stored[name]), name


def test_a_classifier_on_a_low_rank_update(tmp_path: Path) -> None:
    """B is zero, A is not, and the magnitudes of DoRA are the norms of the rows; the new head learns."""
    model = whole_model(job_on(tmp_path / "model", "test-gpt2", LoraConfig(rank=2, dora=True), labels=3))
    assert isinstance(model, Classifier)
    layer = model.gpt.blocks[0].get_submodule("attention.query")
    assert layer.lora_a.any()
    assert not layer.lora_b.any()
    assert torch.equal(layer.magnitude, layer.weight.norm(dim=1))
    assert 0.01 < model.label_head.weight.std() < 0.03
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"label_head.weight", "gpt.embedding.weight", "gpt.blocks.0.attention.query.lora_a"} <= trained
    assert "gpt.blocks.0.attention.query.weight" not in trained


@pytest.mark.parametrize(("preset", "labels", "dora"), [("test-gpt2", 3, True), ("test-moe", 0, False)])
def test_ranks_start_as_one(two: RankPool, tmp_path: Path, preset: str, labels: int, dora: bool) -> None:
    """Each rank reads its parts, and draws the same new rows, updates and head."""
    job = job_on(tmp_path / "model", preset, LoraConfig(rank=2, dora=True) if dora else None, labels)
    for strategy in ("ddp", "fsdp") if dora else ("fsdp", "tp"):
        ranked = replace(job, world_size=2, strategy=strategy)
        assert_parts_are_of(initial_weights(job), two.call(initial_parts, ranked, tmp_path))


def test_from_a_checkpoint_in_shards(two: RankPool, tmp_path: Path) -> None:
    """A file per rank: the parts of the old ranks become those of the new ones."""
    two.train("fsdp", tmp_path / "run", make_job("test-modern", recipe={"steps": 1}))
    folder = tmp_path / "run" / "checkpoints" / "step-000001"
    assert is_sharded(folder)
    saved = load_model(folder)
    job = replace(make_job(), model=PretrainedModel(InitialModel(folder, saved.config, saved.config.vocab_size)))
    found = initial_weights(job)
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_a_model_is_saved_without_being_loaded(tmp_path: Path) -> None:
    """The final folder equals that of the loaded model, and fewer bytes are allocated than a quarter of its weights."""
    from gptctl.train.tasks import final_model

    shape = {"hidden_size": 64, "layers": 6, "intermediate_size": 256, "heads": 2}
    job = make_job("test-gpt2", shape, {"steps": 1}, tokenizer_json="{}")
    run_in(tmp_path, job)
    weights = tmp_path / "checkpoints" / "step-000001" / "model.safetensors"
    peak, _ = peak_allocated(lambda: final_model.save(job, tmp_path, False, {}), mapped=weights)
    model, _, _ = final_model.open_best(job, tmp_path, load=True)
    assert peak < sum(parameter.nbytes for parameter in model.parameters()) / 4
    save_model(tmp_path / "other", model, job.tokenizer_json, job.metadata | {"metrics": {}})
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_folder_without_a_tensor(tmp_path: Path) -> None:
    """It is named."""
    model = whole_model(make_job())
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "blocks.1.attention.key.weight"}
    write_weights(tmp_path, model, weights)
    write_config(tmp_path, model, "{}", {})
    job = replace(make_job(), model=PretrainedModel(InitialModel(tmp_path, model.config, model.config.vocab_size)))
    with pytest.raises(DataError, match=r"have no blocks.1.attention.key.weight"):
        whole_model(job)
