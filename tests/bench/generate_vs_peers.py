"""Time gptctl generate against Hugging Face's generate, CTranslate2 and llama.cpp, with random weights, on this CPU.

    PEERS_PYTHON=... LLAMA_PYTHON=... python tests/bench/generate_vs_peers.py [--rounds 5] [--threads 2]

PEERS_PYTHON is the Python of an environment with torch, transformers and ctranslate2. All have GPT-2 124M's weights,
read the same prompts of 32 tokens and write 64 more, greedy, with batches of 1 and 8; the seconds of the whole call
count, loading does not. Rounds alternate between them, each in a process of its own that is alone at work, and the
best of them counts. Ours is also run with prompt lookup, which is not compared: random weights repeat themselves.

LLAMA_PYTHON is the Python of an environment with xllamacpp (llama.cpp), whose Q8_0 our int8 is compared with, with one
thread and with --threads: GPT-2 124M and a model like Llama of 0.5 billion parameters read prompts of 64 tokens and write
96 more, alone and eight at once (its parallel sequences), and read prompts of 512 tokens. The medians count.

Either variable may be missing. The last line is one JSON document; `ratio` is the smaller, over both batches, of our int8 tokens per second over the
larger of twice Hugging Face's best and CTranslate2's int8; `ratio_llama` is the smallest of our tokens per second over
llama.cpp's, over threads, batches and both models, and `ratio_llama_prompt` that of reading prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

PROMPT, NEW, BATCHES = 32, 64, (1, 8)
# The workloads beside llama.cpp: samples, tokens of a prompt, and tokens to write.
WORKLOADS = {"batch 1": (1, 64, 96), "batch 8": (8, 64, 96), "prompt": (1, 512, 1)}
LLAMA_LIKE = {
    "layers": 24, "heads": 16, "kv_heads": 4, "hidden_size": 1024, "intermediate_size": 4608, "max_seq_len": 1024,
    "vocab_size": 32000, "norm": "rmsnorm", "norm_eps": 1e-6, "positions": "rope", "activation": "swiglu", "bias": False,
    "end_of_text": 2,
}  # fmt: skip
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
LLAMA = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import xllamacpp
path, threads = sys.argv[1] + ".gguf", int(sys.argv[2])
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 8 * 1024, 8, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
pool = ThreadPoolExecutor(8)
def write(prompt, new):
    request = {"prompt": prompt, "max_tokens": new, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    answer = server.handle_completions(request)
    answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    assert answer["usage"]["completion_tokens"] == new, answer
for line in sys.stdin:
    batch, new = json.loads(line)
    began = time.perf_counter()
    list(pool.map(lambda prompt: write(prompt, new), batch))
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
"""
OURS_AS_LLAMA = """
import json, sys, time
from pathlib import Path
import torch
from gptctl.infer.engine import Engine
from gptctl.infer.generator import load_decoder
from gptctl.infer.sampling import SamplingParams
from gptctl.model import device
decoder, _, _ = load_decoder(Path(sys.argv[1]), "int8", torch.device("cpu"))
device.configure_process(int(sys.argv[2]))
engine = Engine(decoder)
for line in sys.stdin:
    batch, new = json.loads(line)
    began = time.perf_counter()
    made = [sample.tokens for sample in engine.generate(batch, SamplingParams(max_tokens=new, temperature=0))]
    assert all(len(row) == new for row in made)
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
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


class Peer:
    """llama.cpp or our int8, in a process that stays loaded."""

    def __init__(self, python: str, script: str, model: Path, threads: int) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in WORKLOADS}
        command, environment = [python, "-W", "ignore", "-c", script, str(model), str(threads)], os.environ.copy()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment | {"OMP_NUM_THREADS": str(threads)},
        )

    def turn(self, name: str) -> None:
        """Do one workload."""
        batch, prompt, new = WORKLOADS[name]
        random = Random(len(self.seconds[name]))
        prompts = [[random.randrange(1000, 30000) for _ in range(prompt)] for _ in range(batch)]
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([prompts, new]) + "\n")
        self.process.stdin.flush()
        self.seconds[name].append(json.loads(self.process.stdout.readline())["seconds"])

    def rate(self, name: str) -> float:
        """Return the median tokens per second: those that are written, or those of a prompt; the first round warms up."""
        batch, prompt, new = WORKLOADS[name]
        return (prompt if new == 1 else batch * new) / statistics.median(self.seconds[name][1:])


def compare_with_llama(folder: Path, python: str, rounds: int, most_threads: int) -> dict[str, Any]:
    """Compare int8 with llama.cpp's Q8_0, and return the rates and the ratios."""
    from gptctl.model.config import ModelConfig, load_preset
    from gptctl.model.gguf.writer import write_gguf
    from gptctl.model.gpt import GPT
    from gptctl.model.initialize import initialize
    from gptctl.model.save import save_model
    from tests.evals.small_model import tokenizer_json

    rates: dict[str, Any] = {}
    for kind, values in {"gpt2": load_preset("gpt2")["model"], "llama": LLAMA_LIKE}.items():
        model = GPT(ModelConfig.model_validate(values))
        initialize(model, seed=0)
        save_model(folder / kind, model.eval(), tokenizer_json(), {})
        write_gguf(folder / f"{kind}.gguf", model, tokenizer_json(), {}, "q8_0")
        del model
        for threads in sorted({1, most_threads}):
            peers = {
                "gptctl": Peer(sys.executable, OURS_AS_LLAMA, folder / kind, threads),
                "llama.cpp": Peer(python, LLAMA, folder / kind, threads),
            }
            for _ in range(rounds + 1):
                for name in WORKLOADS:
                    for peer in peers.values():
                        peer.turn(name)
            for peer in peers.values():
                assert peer.process.stdin
                peer.process.stdin.close()
                peer.process.wait()
            for name in WORKLOADS:
                found = {who: round(peer.rate(name), 1) for who, peer in peers.items()}
                ratio = round(found["gptctl"] / found["llama.cpp"], 2)
                rates[f"{kind}, {threads} threads, {name}"] = found | {"ratio": ratio}
                print(f"{kind:6} {threads} threads, {name:9} {found} {ratio}", flush=True)
    read = [rate["ratio"] for name, rate in rates.items() if name.endswith("prompt")]
    written = [rate["ratio"] for name, rate in rates.items() if not name.endswith("prompt")]
    return {"llama": rates, "ratio_llama": min(written), "ratio_llama_prompt": min(read)}


def compare_with_peers(folder: Path, peers: str, rounds: int, threads: int) -> dict[str, Any]:
    """Compare with transformers and CTranslate2, and return the rates and the ratio."""
    write_model(folder)
    subprocess.run([peers, "-W", "ignore", "-c", CONVERT, str(folder)], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = ("fp32", "bf16", "int8", "int8-lookup"), ("hf-fp32", "hf-bf16", "ct2-float32", "ct2-int8")
    running = {kind: Contestant(kind, sys.executable, OURS, folder, threads) for kind in ours}
    running |= {kind: Contestant(kind, peers, WORKER, folder, threads) for kind in theirs}
    for _ in range(rounds + 1):  # the first warms up, and can be no one's best
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
    return {"tokens_per_second": rates, "bars": bars, "greedy_equal": same, "ratio": round(ratio, 2)}


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    peers, llama, result = os.environ.get("PEERS_PYTHON"), os.environ.get("LLAMA_PYTHON"), dict[str, Any]()
    if not peers and not llama:
        sys.exit("set PEERS_PYTHON or LLAMA_PYTHON; see the head of this file")
    with tempfile.TemporaryDirectory() as name:
        if peers:
            result |= compare_with_peers(Path(name), peers, arguments.rounds, arguments.threads)
        if llama:
            result |= compare_with_llama(Path(name), llama, arguments.rounds, arguments.threads)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
