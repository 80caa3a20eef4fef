"""What fewer bits cost: bits per byte of a run's val split with weights in fp32, bf16, int8 and int4.

    python tests/bench/generate_quality.py RUN TOKENS [--windows 64]

The same tokens, in windows of the model's context, go through the decoder that `gptctl generate` uses. The last line is
one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.io.dataset import manifest, shards
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.kv_cache import KVCache


@torch.inference_mode()
def bits_per_byte(decoder: Decoder, windows: torch.Tensor, n_bytes: float) -> dict[str, float]:
    """Score windows (N, 1 + T) of tokens; `n_bytes` is the text they stand for."""
    nats, likeliest = 0.0, []
    for window in windows.split(8):
        cache = KVCache(decoder.config, len(window), window.size(1) - 1, decoder.like)
        logits = decoder.logits(decoder.hidden_states(window[:, :-1], cache))
        nats += F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten(), reduction="sum").item()
        likeliest.append(logits.argmax(-1))
    decoder_says = torch.cat(likeliest)
    return {"bits_per_byte": nats / math.log(2) / n_bytes, "likeliest": decoder_says}  # type: ignore[dict-item]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--windows", type=int, default=64)
    arguments = parser.parse_args()
    rows = shards.read_rows(arguments.tokens, manifest.read(arguments.tokens), "val")
    stream = np.concatenate([np.asarray(row, np.int64) for row in rows["tokens"].to_pylist()])
    bytes_per_token = sum(rows["n_bytes"].to_pylist()) / len(stream)
    found: dict[str, Any] = {}
    kinds: tuple[WeightFormat, ...] = ("fp32", "bf16", "int8", "int4")
    likeliest: dict[str, torch.Tensor] = {}
    for kind in kinds:
        model, config, _, _ = load_model(find_model(arguments.run))
        assert isinstance(model, GPT)
        T = config.max_seq_len
        count = min(arguments.windows, (len(stream) - 1) // T)
        windows = torch.from_numpy(np.stack([stream[i * T : i * T + T + 1] for i in range(count)]))
        scored = bits_per_byte(Decoder(model, kind), windows, count * T * bytes_per_token)
        likeliest[kind] = scored.pop("likeliest")  # type: ignore[assignment]
        same = (likeliest[kind] == likeliest["fp32"]).float().mean().item()
        found[kind] = {"bits_per_byte": round(scored["bits_per_byte"], 5), "same_likeliest": round(same, 4)}
        print(kind, found[kind], flush=True)
    loss = found["int8"]["bits_per_byte"] / found["fp32"]["bits_per_byte"] - 1
    print(json.dumps(found | {"tokens": count * T, "int8_loss_percent": round(100 * loss, 3)}))


if __name__ == "__main__":
    main()
