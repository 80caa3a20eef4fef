"""Say how near decoding one token comes to the speed of memory: GPT-2 124M with random weights, on this CPU, by layer.

    python tests/bench/generate_roofline.py [--threads 2] [--rounds 30]

A token reads all weights once, so it takes at least their bytes divided by the bandwidth with which memory is read. The
bandwidth is that of a sum over an array of 2 GB. The time of each kind of product is that of all layers one after the
other, with other data in the caches at the beginning. The best of the rounds counts. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.infer.native_layer import NativeLayer
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.kv_cache import KVCache

BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 18 / 32}  # of a weight, with the scale of a block
PROMPT = 64


def best_seconds(function: Callable[[], Any], rounds: int, others: Tensor | None = None) -> float:
    """Return the seconds of the fastest call. `others` fill the caches before each call."""
    found = []
    for _ in range(rounds):
        if others is not None:
            others.sum()
            time.sleep(0.02)  # torch's threads wait actively for a while
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def run_all(layers: list[Callable[[Tensor], Tensor]], x: Tensor) -> None:
    """Compute one product after the other."""
    for layer in layers:
        layer(x)


def products(decoder: Decoder, rounds: int) -> dict[str, tuple[int, float]]:
    """Return the bytes and seconds of each kind of product in int8."""
    layers = [layer for layer in decoder.layers if isinstance(layer, NativeLayer)]
    kinds: dict[str, list[Any]] = {
        "queries, keys, values": [layer.heads_of for layer in layers],
        "attention output": [layer.added for layer in layers],
        "feed-forward, up": [layer.hidden for layer in layers],
        "feed-forward, down": [layer.down for layer in layers],
        "output head": [decoder.head] if layers else [],
    }
    found, others = {}, torch.ones(2**27)
    for kind, several in kinds.items():
        if several:
            x = torch.randn(1, several[0].inputs)
            size = sum(layer.inputs * layer.outputs for layer in several)
            found[kind] = size, best_seconds(lambda several=several, x=x: run_all(several, x), rounds, others)
    return found


def step_seconds(decoder: Decoder, rounds: int) -> float:
    """Return the seconds of a token behind a prompt, with its logits."""
    cache = KVCache(decoder.config, 1, PROMPT + rounds, decoder.like)
    decoder.hidden_states(torch.randint(1000, (1, PROMPT)), cache)
    with decoder.step_threads():
        return best_seconds(lambda: decoder.logits(decoder.hidden_states(torch.tensor([[7]]), cache)), rounds)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    array = torch.ones(2**29)
    bandwidth = 4 * array.numel() / best_seconds(array.sum, 10)
    del array
    config = ModelConfig.model_validate(load_preset("gpt2")["model"])
    weights = config.matrix_parameters() + config.vocab_size * config.hidden_size
    print(f"memory is read with {bandwidth / 1e9:.1f} GB/s by {options.threads} threads")
    result: dict[str, Any] = {"bandwidth": bandwidth}
    formats: tuple[WeightFormat, ...] = ("fp32", "bf16", "int8", "int4")
    for name in formats:
        decoder = Decoder(GPT(config).eval(), name)
        if name == "int8":
            for kind, (size, seconds) in products(decoder, options.rounds).items():
                share = size / seconds / bandwidth
                result[kind] = {"bytes": size, "seconds": seconds, "share": share}
                print(f"{kind:24} {size / 1e6:6.1f} MB {1e3 * seconds:6.2f} ms {share:5.0%} of the bandwidth")
        head = config.vocab_size * config.hidden_size
        size = BYTES[name] * (weights - head) + max(1, BYTES[name]) * head  # that of int4 is in int8
        seconds = step_seconds(decoder, options.rounds)
        result[name] = {"bytes": size, "seconds": seconds, "share": size / seconds / bandwidth}
        print(
            f"a token in {name:13} {size / 1e6:6.1f} MB {1e3 * seconds:6.2f} ms {result[name]['share']:5.0%}, {1 / seconds:.0f}/s"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
