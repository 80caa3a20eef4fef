"""Training on the device against training on the CPU, in short runs of the real loop on real text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT, find_document_starts
from gptctl.model.initialize import initialize
from gptctl.train.job import TrainJob
from tests.gpu.check import Row, Setting, check
from tests.train.jobs import events, make_job, run_in

FAMILIES = ("test-vaswani", "test-gpt1", "test-gpt2", "test-gpt3", "test-modern", "test-moe")
STEPS = 20
EXACT = 1e-4  # relative difference of losses in fp32
ROUNDED = 2e-2  # in bf16, whose numbers have 8 bits: 20 steps from a loss of 5.5 to about 4
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


def job(preset: str, setting: Setting, **changes: Any) -> TrainJob:
    """Describe a short run without dropout, whose random numbers differ between devices."""
    steps = changes.pop("steps", 3 if setting.is_small else STEPS)
    model = NO_DROPOUT | changes.pop("model", {})
    recipe = {"steps": steps, "warmup_steps": 2, "batch_size": 8} | changes.pop("recipe", {})
    given = {"device": setting.device.type, "precision": "fp32", "compile": "off", "log_every": 1} | changes
    return replace(make_job(preset, model, recipe, **given), val_data=None)


def losses(setting: Setting, described: TrainJob) -> list[float]:
    """Train, and return the loss of each step."""
    folder = setting.new_folder()
    run_in(folder, described)
    return [line["loss"] for line in events(folder, "step")]


@cache
def losses_on_cpu(preset: str, setting: Setting) -> list[float]:
    """Return the losses of a run on the CPU in fp32."""
    return losses(setting, job(preset, setting, device="cpu"))


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest relative difference."""
    assert len(found) == len(expected) > 0
    return max(abs(one / other - 1) for one, other in zip(found, expected, strict=True))


@check
def families_in_fp32(setting: Setting) -> Iterator[Row]:
    """The losses of 20 steps of each family are those of the CPU."""
    for preset in FAMILIES:
        found = losses(setting, job(preset, setting))
        yield Row(f"{preset}: loss against the CPU", difference(found, losses_on_cpu(preset, setting)), EXACT)


@check
def families_in_bf16(setting: Setting) -> Iterator[Row]:
    """The losses of 20 steps in bf16 are near those of the CPU in fp32."""
    for preset in FAMILIES:
        found = losses(setting, job(preset, setting, precision="bf16"))
        yield Row(f"{preset}: loss against the CPU in fp32", difference(found, losses_on_cpu(preset, setting)), ROUNDED)


@check
def micro_batches(setting: Setting) -> Iterator[Row]:
    """A batch in one, two or eight forward passes gives the same losses."""
    for preset in ("test-gpt2", "test-moe"):
        whole = losses(setting, job(preset, setting))
        for size in (4, 1):
            found = losses(setting, job(preset, setting, micro_batch_size=size))
            yield Row(f"{preset}: micro-batches of {size} against 8", difference(found, whole), EXACT)


@check
def checkpointed_activations(setting: Setting) -> Iterator[Row]:
    """Recomputing activations does not change the losses."""
    for preset in ("test-gpt2", "test-modern"):
        found = losses(setting, job(preset, setting, recipe={"checkpoint_activations": True}))
        yield Row(f"{preset}: recomputed against kept", difference(found, losses(setting, job(preset, setting))), EXACT)


@check
def document_masks(setting: Setting) -> Iterator[Row]:
    """Packed documents have the loss and the gradient of separate ones, in full and in sliding layers."""
    length = 128 if setting.is_small else 1024
    for preset in ("test-gpt2", "test-modern", "test-gpt3"):
        packed, apart = packed_and_apart(preset, setting.device, length, torch.float32)
        yield Row(f"{preset}: loss, packed against separate", abs(packed[0] / apart[0] - 1), EXACT)
        yield Row(f"{preset}: gradient, packed against separate", relative(packed[1], apart[1]), 1e-3)


def packed_and_apart(
    preset: str, device: torch.device, length: int, dtype: torch.dtype
) -> tuple[tuple[float, torch.Tensor], tuple[float, torch.Tensor]]:
    """Return loss and gradient of documents in one masked sequence, and in sequences of their own."""
    values = load_preset(preset)["model"] | NO_DROPOUT | {"max_seq_len": length, "vocab_size": 256, "end_of_text": 0}
    model = GPT(ModelConfig.model_validate(values))
    initialize(model, 1)
    model = model.to(device, dtype).train()
    generator = torch.Generator().manual_seed(3)
    ends = [0, length // 5, length // 2, length - 7, length]
    tokens = torch.randint(1, 256, (1, length), generator=generator)
    tokens[0, ends[:-1]] = 0  # each document begins with the end-of-text token of the one before
    labels = torch.randint(1, 256, (1, length), generator=generator)
    tokens, labels = tokens.to(device), labels.to(device)
    starts = find_document_starts(tokens, 0)
    packed = model(tokens, targets=labels, document_starts=starts).cross_entropy
    packed.backward()
    together = flat_gradient(model)
    total = 0.0
    for first, end in pairwise(ends):
        loss = model(tokens[:, first:end], targets=labels[:, first:end]).cross_entropy
        loss.backward()
        total += loss.item()
    return (packed.item(), together), (total, flat_gradient(model))


def flat_gradient(model: GPT) -> torch.Tensor:
    """Return all gradients as one vector, and drop them."""
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    model.zero_grad(set_to_none=True)
    return found


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the norm of the difference of two vectors as a share of the norm of one."""
    return ((one - other).norm() / other.norm()).item()


@check
def compiled_blocks(setting: Setting) -> Iterator[Row]:
    """Compiled blocks give the losses of eager ones."""
    if not any(map(shutil.which, ("g++", "gcc", "cc"))):
        yield Row("compiled against eager", None, note="not run: torch.compile needs a C compiler")
        return
    presets, steps = (("test-gpt2",), 2) if setting.is_small else (("test-gpt2", "test-modern", "test-moe"), STEPS)
    for preset in presets:
        torch._dynamo.reset()  # what was compiled for other models counts against the limit of recompilations
        eager, compiled = (
            losses(setting, job(preset, setting, compile=choice, steps=steps)) for choice in ("off", "on")
        )
        yield Row(f"{preset}: compiled against eager", difference(compiled, eager), EXACT)
