"""The dry run's figures, against what training really holds and what torch counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gptctl.model import cross_entropy
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.cross_entropy import cross_entropy_sum
from gptctl.model.gpt import GPT
from gptctl.train.distributed import collectives
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.planning import estimate as estimate_module
from gptctl.train.planning.estimate import Layout, block_bytes, choose_layout, estimate, flops_per_token, memory_parts
from gptctl.train.planning.simulate_step import simulate_step
from gptctl.train.recipe import Recipe
from tests.conftest import REPO
from tests.gpu.peak_memory import counted_peak

MEASURE = """
import json, resource, sys
import torch
from gptctl.core import plugins
from gptctl.model.config import ModelConfig
from gptctl.train.strategies.single import SingleDevice
from gptctl.train.optimizers import adamw, muon
from gptctl.train.recipe import Recipe
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.model.meta_init import meta_init
from gptctl.train.data.batch import Batch
from gptctl.train.objectives.language_model import LanguageModeling
model_values, recipe_values = json.loads(sys.argv[1])
torch.set_num_threads(1)
small = torch.randn(64, 64, requires_grad=True)
(small @ small).sum().backward()
def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = resident()
config, recipe = ModelConfig.model_validate(model_values), Recipe.model_validate(recipe_values)
with meta_init():
    model = GPT(config)
strategy = SingleDevice(torch.device("cpu"))
optimizers = {"adamw": adamw, "muon": muon}[recipe.optimizer].build(strategy.prepare_model(model, "fp32", False), recipe, strategy)
initialize(model, 0)
for _ in range(2):
    batch = Batch.from_windows(torch.randint(config.vocab_size, (recipe.batch_size, recipe.seq_len + 1)))
    LanguageModeling(recipe).loss(model, batch).total.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
print(resident() - before)
"""


# getrusage's figure starts at the largest that the calling process has been, so a small one calls.
CALL = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def of(name: str, **recipe: object) -> tuple[ModelConfig, Recipe]:
    """Return a preset's model and recipe."""
    preset = load_preset(name)
    return ModelConfig.model_validate(preset["model"]), Recipe.model_validate(preset["training"] | recipe)


def test_every_preset_can_be_estimated() -> None:
    """Plausible figures without torch's help, on any number of devices."""
    replicated, sharded = (
        Layout(ParallelDims(dp_replicate=8), "ddp"),
        Layout(ParallelDims(dp_shard=64), "fsdp", bf16=True),
    )
    for name in preset_names():
        model, recipe = of(name)
        one, eight = estimate(model, recipe), estimate(model, recipe, replicated)
        assert one["parameters"] == model.parameters()
        assert one["bytes_communicated"] == 0
        assert eight["bytes_communicated"] == 2 * 7 * 4 * model.parameters() // 8
        assert one["flops_per_step"] == eight["flops_per_step"] > 0
        spread = estimate(model, recipe, sharded, 1, "h100")
        assert spread["memory"]["weights"] <= one["memory"]["weights"] / min(64, model.experts or 64) + 4
        assert spread["seconds_per_step"] > 0


def test_constants_are_those_of_training() -> None:
    """The estimate, which does without torch, knows the sizes that the code with torch uses."""
    assert estimate_module.BUCKET_BYTES == collectives.BUCKET_BYTES
    assert estimate_module.BUCKETS_IN_FLIGHT == collectives.BUCKETS_IN_FLIGHT
    assert estimate_module.WHOLE_LOGITS == cross_entropy.MIN_FUSED_LOGITS
    assert (estimate_module.CHUNK_ROWS, estimate_module.CUDA_CHUNK_ROWS) == (
        cross_entropy.CHUNK_ROWS,
        cross_entropy.CUDA_CHUNK_ROWS,
    )


def test_largest_models_need_many_devices() -> None:
    """GPT-3 does not fit on eight H100s, whatever is chosen; GPT-2 XL is replicated in pieces of its batch."""
    layouts = [
        Layout(ParallelDims(dp_replicate=8), "ddp", bf16=True), Layout(ParallelDims(dp_shard=8), "fsdp", bf16=True),
    ]  # fmt: skip
    model, recipe = of("gpt3-175b")
    layout, micro = choose_layout(model, recipe, layouts, 0, 80e9)
    assert (layout.strategy, micro) == ("fsdp", 1)
    assert not estimate(model, recipe, layout, micro, "h100")["fits"]
    model, recipe = of("gpt2-xl")
    layout, micro = choose_layout(model, recipe, layouts, 0, 80e9)
    assert layout.strategy == "ddp"
    assert 1 < micro < recipe.batch_size // 8
    assert estimate(model, recipe, layout, micro, "h100")["fits"]
    assert not estimate(model, recipe, layout, 2 * micro, "h100")["fits"]


def test_tensor_parallel_cuts_matrices_and_hidden_states() -> None:
    """Eight ranks in two groups of four: matrices and the table of tokens by 4 and rows by 2, the rest by 2 alone."""
    model, recipe = of("gpt2")
    layout = Layout(ParallelDims(dp_shard=2, tp=4), "tp")
    matrices = model.matrix_parameters() + model.vocab_size * model.hidden_size
    rest = model.parameters() - matrices
    assert abs(estimate(model, recipe, layout)["memory"]["weights"] / 4 - (matrices / 8 + rest / 2)) < 2
    one_group, alone = (
        estimate(model, recipe, Layout(ParallelDims(tp=4), "tp"), 8)["memory"]["activations"],
        estimate(model, recipe, Layout(), 8)["memory"]["activations"],
    )
    assert 0.3 * alone < one_group < 0.9 * alone


@pytest.mark.parametrize("name", ["gpt2", "modern-124", "gpt3-small", "moe-8x124"])
def test_flops_are_torchs_own_count(name: str) -> None:
    """Within 5 % of what torch counts on the meta device, where attention is counted without its causal mask."""
    config = of(name)[0].model_copy(update={"layers": 2})
    tokens = 64
    with torch.device("meta"):
        model = GPT(config.model_copy(update={"experts": 0})) if config.experts else GPT(config)
        model.make_tables()
        batch = torch.zeros(1, tokens, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter:
        model(batch).sum().backward()  # type: ignore[no-untyped-call]
    expected = flops_per_token(config.model_copy(update={"experts": 0}), tokens)
    if config.experts:  # two experts a token, and the router
        matrices = 3 * config.hidden_size * config.intermediate_size
        assert flops_per_token(config, tokens) - expected == 6 * 2 * (matrices + config.hidden_size * config.experts)
    masked = 6 * config.hidden_size * tokens * 2  # the half that the mask leaves out
    assert expected == pytest.approx(counter.get_total_flops() / tokens - masked, rel=0.05)


def test_activations_are_what_autograd_keeps() -> None:
    """Bytes of all tensors saved for the backward pass, within 30 %."""
    for name in ("test-gpt2", "test-modern", "char-cpu", "test-moe", "test-vaswani"):
        config, recipe = of(name, batch_size=8, seq_len=64)
        model = GPT(config)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        seen: dict[int, int] = {}

        def keep(tensor: torch.Tensor, own: set[int] = own, seen: dict[int, int] = seen) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        tokens = torch.randint(config.vocab_size, (8, 65))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total, _ = cross_entropy_sum(model(tokens[:, :-1]), tokens[:, 1:])
        found = estimate(config, recipe)["memory"]["activations"]
        assert 0.7 < found / sum(seen.values()) < 1.4, (name, found, sum(seen.values()))
        total.backward()


@pytest.mark.parametrize(("optimizer", "tokens"), [("adamw", 640), ("muon", 8)])
def test_memory_is_what_tensors_take(optimizer: str, tokens: int) -> None:
    """A step of AdamW, and one of Muon, which takes more than a few tokens do: within 10 %."""
    config, recipe = of("gpt2", batch_size=1, seq_len=tokens, optimizer=optimizer)
    sizes = {"layers": 6, "heads": 4, "hidden_size": 256, "intermediate_size": 1024, "vocab_size": 1024}
    config = config.model_copy(update=sizes)
    parts = memory_parts(config, recipe, Layout(), 1)
    assert (parts["optimizer step"] > 0) == (optimizer == "muon")
    assert sum(parts.values()) == pytest.approx(counted_peak(config, recipe, 1, False), rel=0.1)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # which torch uses itself
@pytest.mark.parametrize("name", ["gpt2", "modern-124"])
def test_compiled_blocks_keep_what_is_estimated(name: str) -> None:
    """In bf16: per token within 10 %, and a copy of each matrix."""
    config, recipe = of(name)
    sizes = {"layers": 1, "hidden_size": config.hidden_size // 4, "intermediate_size": config.intermediate_size // 4}
    heads = {"heads": config.heads // 4, "kv_heads": 0, "vocab_size": 64}  # on the CPU shared keys are copied
    config = config.model_copy(update=sizes | heads)
    model, tokens = GPT(config), torch.zeros(1, 1024, dtype=torch.long)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    model.blocks[0].compile(backend="aot_eager_decomp_partition")  # torch.compile without its kernels
    x, ropes = model.embed(tokens, torch.arange(1024))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.blocks[0](x.detach().requires_grad_(), ropes[config.rope_name(0)], None, None, None)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    copies = 2 * config.count_matrix_parameters(0)
    assert found - copies == pytest.approx(1024 * block_bytes(config, recipe, Layout(bf16=True)), rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="has glibc's allocator give memory back at once")
@pytest.mark.parametrize(
    ("name", "batch", "changes"),
    [("gpt2-char", 24, {}), ("gpt2", 1, {"layers": 6}), ("modern-124", 2, {"layers": 6}), ("gpt2-char", 64, {})],
)
def test_memory_is_what_a_process_takes(name: str, batch: int, changes: dict[str, int]) -> None:
    """The estimate and the growth of a process that trains two steps, within a quarter.

    Freed blocks go back to the system here, so that what is in use is what is seen: glibc keeps up to a third more.
    """
    config, recipe = of(name, batch_size=batch, seq_len=256)
    config = config.model_copy(update={"attention_dropout": 0.0} | changes)
    words = json.dumps([config.model_dump(), recipe.model_dump()])
    run = subprocess.run(
        [sys.executable, "-S", "-c", CALL, sys.executable, "-c", MEASURE, words], cwd=REPO, capture_output=True, text=True, check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert estimate(config, recipe)["memory_bytes_per_rank"] == pytest.approx(int(run.stdout), rel=0.25)


@pytest.mark.parametrize(("name", "ranks"), [("test-gpt2", 8), ("test-modern", 3), ("test-moe", 8), ("gpt2", 64)])
def test_a_sharded_step_goes_through_without_its_devices(name: str, ranks: int) -> None:
    """What rank 0 holds after a step among ranks that do not exist, as estimated; all has a gradient and a state."""
    config, recipe = of(name)
    found = simulate_step(config, recipe, ParallelDims(dp_shard=ranks))
    assert found["parameters_per_rank"] == pytest.approx(found["estimated_parameters_per_rank"], rel=0.05)
    assert found["gradients_per_rank"] == found["parameters_per_rank"]
    per_parameter = found["optimizer_per_rank"] / found["parameters_per_rank"]
    assert 1 < per_parameter < 2.1
    assert not torch.distributed.is_initialized()
