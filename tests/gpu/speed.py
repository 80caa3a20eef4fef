"""Speed of training on the device: tokens per second, and MFU against a matrix peak measured here."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.model.config import ModelConfig, load_preset
from gptctl.train import gc_control
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.job import TrainJob
from gptctl.train.monitor import device_stats
from gptctl.train.planning.estimate import Layout, choose_layout, flops_per_token, memory_parts
from gptctl.train.recipe import Recipe
from gptctl.train.setup import setup
from gptctl.train.step import train_step
from gptctl.train.strategies.single import SingleDevice
from gptctl.train.tasks.pretraining import NewModel
from tests.gpu.check import Row, Setting, check
from tests.train.jobs import only

STEPS = 9
COUNTED = 3  # the last steps; the first ones compile
GOAL_MFU, GOAL_NANOGPT = 0.5, 1.1
NANOGPT_MICRO_BATCH = 32
DOCUMENT_TOKENS = 400  # mean length of a document
SMALL = {"layers": 2, "heads": 4, "hidden_size": 64, "intermediate_size": 128, "max_seq_len": 64, "vocab_size": 512}


@cache
def matrix_peak(setting: Setting) -> float:
    """Return the operations per second of a product of large matrices of random numbers in bf16."""
    return device_stats.peak_flops(setting.device, "bf16", torch.get_num_threads())


def stream(vocab_size: int, seq_len: int) -> TokenWindows:
    """Open random tokens; token 0 ends a document."""
    numbers = np.random.default_rng(0)
    tokens = numbers.integers(1, vocab_size, 4_000_000 if seq_len > 64 else 20_000).astype(np.uint16)
    tokens[numbers.random(len(tokens)) < 1 / DOCUMENT_TOKENS] = 0
    return TokenWindows([tokens], seq_len, 0)


def described(
    preset: str, setting: Setting, batch_size: int = 512, steps: int = STEPS, memory: float = 0, **recipe: Any
) -> tuple[TrainJob, ModelConfig]:
    """Describe a run in bf16, with the largest micro-batch that fits, as the command does."""
    values = load_preset(preset)
    if setting.is_small:
        kv_heads = {"kv_heads": 2} if values["model"].get("kv_heads") else {}
        values["model"] |= SMALL | kv_heads
        values["training"] |= {"seq_len": 64}
        batch_size, steps = 8, 4
    model = ModelConfig.model_validate(values["model"] | {"end_of_text": 0})
    full = Recipe.model_validate(
        values["training"] | {"batch_size": batch_size, "steps": steps, "warmup_steps": 4} | recipe
    )
    available = memory or (torch.cuda.get_device_properties(0).total_memory if setting.device.type == "cuda" else 4e9)
    _, micro = choose_layout(model, full, [Layout(bf16=True, on_gpu=True)], 0, available)
    job = TrainJob(
        recipe=full,
        model=NewModel(model, 0),
        train_sources=only(partial(stream, model.vocab_size, full.seq_len)),
        device=setting.device.type,
        precision="bf16",
        compile="off" if setting.is_small else "on",
        micro_batch_size=micro,
        log_every=1,
    )
    return job, model


def tokens_per_second(setting: Setting, job: TrainJob) -> float:
    """Train without evaluations and checkpoints, and return the speed of the median of the last steps."""
    torch._dynamo.reset()  # what was compiled for other models counts against the limit of recompilations
    seconds = []
    with gc_control.paused():
        state = setup(job, Run(setting.new_folder(), "pretrain", {}), Context(), SingleDevice(setting.device))
        for _ in range(job.recipe.steps):
            began = time.perf_counter()
            train_step(state)
            device_stats.synchronize(setting.device)
            seconds.append(time.perf_counter() - began)
        state.monitor.close()
    return job.recipe.batch_size * job.recipe.seq_len / statistics.median(seconds[-COUNTED:])


def rows(name: str, setting: Setting, job: TrainJob, model: ModelConfig, goal: float | None = None) -> Iterator[Row]:
    """Yield the speed of a run and its MFU."""
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    speed = tokens_per_second(setting, job)
    mfu = speed * flops_per_token(model, job.recipe.seq_len) / matrix_peak(setting)
    note = f"micro-batches of {job.micro_batch_size}"
    if setting.device.type == "cuda":
        estimate = sum(memory_parts(model, job.recipe, Layout(bf16=True, on_gpu=True), job.micro_batch_size).values())
        note += f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at the peak, {estimate / 1e9:.1f} GB estimated"
    yield Row(f"{name}: tokens/s", speed, note=note)
    yield Row(f"{name}: MFU", mfu, None if setting.is_small else goal, at_least=True, is_goal=True)


@check
def peak(setting: Setting) -> Iterator[Row]:
    """The matrix peak in bf16, against which MFU is computed."""
    yield Row("matrix peak in TFLOP/s", matrix_peak(setting) / 1e12)


@check
def gpt2(setting: Setting) -> Iterator[Row]:
    """GPT-2 124M with 0.5 million tokens a step, beside nanoGPT's own step where NANOGPT_DIR is given."""
    job, model = described("gpt2", setting)
    ours = list(rows("gpt2", setting, job, model, GOAL_MFU))
    yield from ours
    name = "gpt2: nanoGPT's tokens/s"
    if not os.environ.get("NANOGPT_DIR"):
        yield Row(name, None, note="not run: NANOGPT_DIR is not set")
        return
    theirs = nanogpt_speed(setting, model, job.recipe, 4 if setting.is_small else NANOGPT_MICRO_BATCH)
    yield Row(name, theirs)
    assert ours[0].value is not None
    yield Row(
        "gpt2: times as fast as nanoGPT",
        ours[0].value / theirs,
        None if setting.is_small else GOAL_NANOGPT,
        at_least=True,
        is_goal=True,
    )


@check
def modern_124(setting: Setting) -> Iterator[Row]:
    """modern-124 with 0.5 million tokens a step."""
    job, model = described("modern-124", setting)
    yield from rows("modern-124", setting, job, model, GOAL_MFU)


def nanogpt_speed(setting: Setting, model: ModelConfig, recipe: Recipe, micro: int) -> float:
    """Return the tokens per second of nanoGPT's training step, as its train.py does it."""
    module = load_nanogpt(Path(os.environ["NANOGPT_DIR"]) / "model.py")
    config = module.GPTConfig(
        block_size=recipe.seq_len, vocab_size=model.padded_vocab_size, n_layer=model.layers, n_head=model.heads,
        n_embd=model.hidden_size, dropout=0.0, bias=False,
    )  # fmt: skip
    device = setting.device.type
    network = module.GPT(config).to(device)
    optimizer = network.configure_optimizers(recipe.weight_decay, recipe.lr, recipe.betas, device)
    torch._dynamo.reset()
    compiled: Callable[..., Any] = network if setting.is_small else torch.compile(network)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    data = np.random.default_rng(0).integers(0, model.vocab_size, 1_000_000).astype(np.uint16)
    seconds = []
    for _ in range(3 if setting.is_small else STEPS):
        device_stats.synchronize(setting.device)
        began = time.perf_counter()
        for _ in range(recipe.batch_size // micro):
            starts = torch.randint(len(data) - recipe.seq_len - 1, (micro,)).tolist()
            windows = torch.stack([torch.from_numpy(data[i : i + recipe.seq_len + 1].astype(np.int64)) for i in starts])
            if device == "cuda":
                windows = windows.pin_memory().to(device, non_blocking=True)
            with torch.autocast(device, torch.bfloat16):
                _, loss = compiled(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
            (loss / (recipe.batch_size // micro)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        device_stats.synchronize(setting.device)
        seconds.append(time.perf_counter() - began)
    torch.backends.cuda.matmul.allow_tf32 = False
    return recipe.batch_size * recipe.seq_len / statistics.median(seconds[-COUNTED:])


@cache
def load_nanogpt(path: Path) -> Any:
    """Import nanoGPT's model.py under a name of its own."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    return module
