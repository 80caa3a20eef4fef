"""Time gptctl generate against Hugging Face's generate and CTranslate2 on GPT-2 124M with random weights, on this CPU.

    PEERS_PYTHON=... python tests/bench/generate_vs_peers.py [--rounds 5] [--threads 2]

PEERS_PYTHON is the Python of an environment with torch, transformers and ctranslate2. All three have the same weights,
read the same prompts of 32 tokens and write 64 more, greedy, with batches of 1 and 8; the seconds of the whole call
count, loading does not. Rounds alternate between the three, each in a process of its own that is alone at work, and the
best of them counts. Ours is also run with prompt lookup, which is not compared: random weights repeat themselves.

The last line is one JSON document; `ratio` is the smaller, over both batches, of our int8 tokens per second over the
larger of twice Hugging Face's best and CTranslate2's int8.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROMPT, NEW, BATCHES = 32, 64, (1, 8)
CONVERT = """
import json, sys
from ctranslate2.converters import TransformersConverter
TransformersConverter(sys.argv[1] + "/model").convert(sys.argv[1] + "/ct2")
path = sys.argv[1] + "/ct2/config.json"  # it writes null for tokens that there are not, which it cannot read
told = {name: "<|endoftext|>" if name.endswith("_token") else value for name, value in json.load(open(path)).items()}
json.dump(told, open(path, "w"))
"""
WORKER = """
import json, sys, time, torch
kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
prompts = json.load(open(f"{folder}/prompts.json"))
if kind.startswith("hf"):
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging
    logging.set_verbosity_error()
    model = GPT2LMHeadModel.from_pretrained(f"{folder}/model", dtype=torch.bfloat16 if "bf16" in kind else torch.float32).eval()
    def write(batch):
        given = torch.tensor(batch)
        with torch.inference_mode():
            made = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=64, min_new_tokens=64,
                                  do_sample=False, pad_token_id=50256)
        return made[:, 32:].tolist()
else:
    import ctranslate2
    model = ctranslate2.Generator(f"{folder}/ct2", compute_type=kind.removeprefix("ct2-"), intra_threads=threads)
    def write(batch):
        found = model.generate_batch([[f"t{i}" for i in row] for row in batch], max_length=64, min_length=64,
                                     include_prompt_in_result=False)
        return [row.sequences_ids[0] for row in found]
for line in sys.stdin:
    batch = prompts[: int(line)]
    began = time.perf_counter()
    made = write(batch)
    seconds = time.perf_counter() - began
    assert all(len(row) == 64 for row in made), [len(row) for row in made]
    print(json.dumps({"seconds": seconds, "tokens": made}), flush=True)
"""
OURS = """
import json, sys, time
from pathlib import Path
import torch
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.speculative import PromptLookup
from gptctl.infer.generator import load_decoder
from gptctl.model import device
kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
decoder, _, _ = load_decoder(Path(folder) / "model", kind.removesuffix("-lookup"), torch.device("cpu"))
device.configure_process(threads)
prompts = json.load(open(f"{folder}/prompts.json"))
engine = Engine(decoder, *((PromptLookup(), 4) if kind.endswith("lookup") else ()))
for line in sys.stdin:
    batch = prompts[: int(line)]
    began = time.perf_counter()
    made = [sample.tokens for sample in engine.generate(batch, SamplingParams(max_tokens=64, temperature=0))]
    seconds = time.perf_counter() - began
    assert all(len(row) == 64 for row in made)
    print(json.dumps({"seconds": seconds, "tokens": made}), flush=True)
"""


def write_model(folder: Path) -> None:
    """Write GPT-2 with random weights, which all three read, and prompts of random tokens."""
    import torch

    from gptctl.model.config import ModelConfig, load_preset
    from gptctl.model.gpt import GPT
    from gptctl.model.initialize import initialize
    from gptctl.model.save import save_model

    config = ModelConfig.model_validate(load_preset("gpt2")["model"] | {"end_of_text": 50256})
    model = GPT(config)
    initialize(model, seed=0)
    words = {f"t{i}": i for i in range(config.vocab_size - 1)} | {"<|endoftext|>": config.vocab_size - 1}
    special = {"id": config.vocab_size - 1, "content": "<|endoftext|>", "special": True, "single_word": False,
               "lstrip": False, "rstrip": False, "normalized": False}  # fmt: skip
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
                 "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
                 "model": {"type": "WordLevel", "vocab": words, "unk_token": "<|endoftext|>"}}  # fmt: skip
    save_model(folder / "model", model.eval(), json.dumps(tokenizer), {})
    prompts = torch.randint(config.vocab_size - 1, (max(BATCHES), PROMPT), generator=torch.Generator().manual_seed(1))
    (folder / "prompts.json").write_text(json.dumps(prompts.tolist()))


class Contestant:
    """One way to generate, in a process that stays loaded."""

    def __init__(self, kind: str, python: str, script: str, folder: Path, threads: int) -> None:
        self.best: dict[int, float] = {}
        self.tokens: dict[int, list[list[int]]] = {}
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        command = [python, "-W", "ignore", "-c", script, kind, str(folder), str(threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def turn(self, batch: int) -> None:
        """Generate once and keep the best time."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        self.best[batch] = min(self.best.get(batch, float("inf")), told["seconds"])
        self.tokens[batch] = told["tokens"]

    def rate(self, batch: int) -> float:
        """Return tokens per second."""
        return round(batch * NEW / self.best[batch], 1)


def agreement(one: list[list[int]], other: list[list[int]]) -> float:
    """Return the share of tokens that are the same up to the first difference of each row."""
    same = 0
    for left, right in zip(one, other, strict=True):
        same += next((i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b), len(left))
    return round(same / sum(map(len, one)), 3)


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    peers = os.environ.get("PEERS_PYTHON") or sys.exit("set PEERS_PYTHON; see the head of this file")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        subprocess.run([peers, "-W", "ignore", "-c", CONVERT, name], check=True, stdout=subprocess.DEVNULL)
        ours, theirs = ("fp32", "bf16", "int8", "int8-lookup"), ("hf-fp32", "hf-bf16", "ct2-float32", "ct2-int8")
        running = {kind: Contestant(kind, sys.executable, OURS, folder, arguments.threads) for kind in ours}
        running |= {kind: Contestant(kind, peers, WORKER, folder, arguments.threads) for kind in theirs}
        for _ in range(arguments.rounds + 1):  # the first warms up, and can be no one's best
            for contestant in running.values():
                for batch in BATCHES:
                    contestant.turn(batch)
        for contestant in running.values():
            assert contestant.process.stdin
            contestant.process.stdin.close()
            contestant.process.wait()
    rates: dict[str, dict[str, float]] = {
        kind: {str(batch): contestant.rate(batch) for batch in BATCHES} for kind, contestant in running.items()
    }
    for kind, found in rates.items():
        print(f"{kind:12} {found['1']:8.1f} {found['8']:8.1f} tokens/s")
    bars: dict[str, Any] = {
        batch: max(2 * max(rates["hf-fp32"][batch], rates["hf-bf16"][batch]), rates["ct2-int8"][batch])
        for batch in map(str, BATCHES)
    }
    same = agreement(running["fp32"].tokens[1], running["hf-fp32"].tokens[1])
    ratio = min(rates["int8"][batch] / bars[batch] for batch in bars)
    print(json.dumps({"tokens_per_second": rates, "bars": bars, "greedy_equal": same, "ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
