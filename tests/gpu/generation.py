"""Speed of decoding GPT-2 124M on the device, beside generate of transformers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.train.monitor import device_stats
from tests.gpu.check import Row, Setting, check
from tests.gpu.speed import SMALL

PROMPT_TOKENS = 16
GOAL = 2.0  # times as fast as transformers
BATCHES = (1, 8, 64)


def config(setting: Setting) -> ModelConfig:
    """Return the shape of GPT-2 124M, or of a small model."""
    values = load_preset("gpt2")["model"] | (SMALL if setting.is_small else {})
    return ModelConfig.model_validate(values)


def fastest(setting: Setting, generate: Callable[[], None], repeats: int = 2) -> float:
    """Return the seconds of the fastest of some calls, after one that warms up."""
    found = []
    for _ in range(repeats + 1):
        device_stats.synchronize(setting.device)
        began = time.perf_counter()
        generate()
        device_stats.synchronize(setting.device)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def prompts(setting: Setting, batch: int) -> list[list[int]]:
    """Return random prompts."""
    generator = torch.Generator().manual_seed(batch)
    found: list[list[int]] = torch.randint(
        config(setting).vocab_size, (batch, PROMPT_TOKENS), generator=generator
    ).tolist()
    return found


@check
def decoding(setting: Setting) -> Iterator[Row]:
    """Greedy and sampled tokens per second in bf16 at batch 1, 8 and 64, beside transformers."""
    tokens = 8 if setting.is_small else 128
    model = GPT(config(setting))
    initialize(model, 0)
    engine = Engine(Decoder(model.to(setting.device).eval(), "bf16"))
    for batch in BATCHES:
        asked = prompts(setting, batch)
        speeds = {}
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            params = SamplingParams(max_tokens=tokens, temperature=temperature)

            def ours(asked: list[list[int]] = asked, params: SamplingParams = params) -> None:
                engine.generate(asked, params)

            speeds[name] = batch * tokens / fastest(setting, ours)
            yield Row(f"batch {batch}: {name} tokens/s", speeds[name])
        yield from beside_transformers(setting, asked, tokens, speeds["greedy"])


def beside_transformers(setting: Setting, asked: list[list[int]], tokens: int, ours: float) -> Iterator[Row]:
    """Yield the speed of transformers for the same prompts."""
    batch = len(asked)
    if find_spec("transformers") is None:
        yield Row(f"batch {batch}: transformers, tokens/s", None, note="not run: transformers is missing")
        return
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = config(setting)
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.max_seq_len,
            n_embd=shape.hidden_size,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_inner=shape.intermediate_size,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    network = network.to(setting.device, torch.bfloat16).eval()
    ids = torch.tensor(asked, device=setting.device)
    mask = torch.ones_like(ids)

    def theirs() -> None:
        network.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
        )

    speed = batch * tokens / fastest(setting, theirs)
    yield Row(f"batch {batch}: transformers, tokens/s", speed)
    goal = None if setting.is_small else GOAL
    yield Row(f"batch {batch}: times as fast as transformers", ours / speed, goal, at_least=True, is_goal=True)
