"""Compare the models that gptctl and nanochat train in the same time on this machine's CPU, by val bits per byte.

    NANOCHAT_DIR=... PEERS_PYTHON=... python tests/bench/pretrain_budget.py TEXT.jsonl --minutes 2,5
        [--parts ours,list,nanochat] [--list-once FILE] [--vocab-size 8192] [--tokens FOLDER]

ours      `gptctl pretrain TOKENS -o RUN --max-minutes M` and nothing else.
list      eight configurations of ours by hand, with `char-modern`'s recipe and the same budget. With --list-once, the
          figures are kept in a JSON file for this machine, text and budget, and read from there the next time.
nanochat  nanochat's model, optimizer and scaling rules (scripts/base_train.py), compiled, at two depths and two batch
          sizes. Its schedule follows the share of the time that is used up, so that it ends on time.

All of them train on the same token shards with the same number of threads. The time counts from the start of the
process to saved weights: imports, compilation and measuring count, the evaluation does not. Bits per byte are those of
the whole val split. The last line is one JSON document: `ratio` is nanochat's best over ours, the smallest over the
budgets; `regret` is ours over the best of the list, the largest over the budgets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gptctl.core.cpus import available_cpus
from gptctl.io.dataset import tokens as token_io

# (layers, width, heads, context, tokens of a batch)
BY_HAND = (
    (1, 64, 2, 512, 4096),
    (1, 128, 2, 512, 4096),
    (2, 128, 2, 512, 4096),
    (2, 192, 3, 512, 4096),
    (3, 192, 3, 512, 8192),
    (4, 128, 2, 256, 4096),
    (4, 256, 4, 512, 8192),
    (6, 384, 6, 512, 8192),
)
NANOCHAT_RUNS = ((2, 8192), (2, 32768), (4, 8192), (4, 32768))  # depth, tokens of a batch
CONTEXT = 512
NANOCHAT = """
import json, math, sys, time
start, folder, seconds, threads, vocab_size, depth, batch_tokens, T = (
    float(sys.argv[1]), sys.argv[2], float(sys.argv[3]), *map(int, sys.argv[4:]))
import numpy as np, torch
from nanochat.gpt import GPT, GPTConfig
torch.set_num_threads(threads)
torch.manual_seed(42)
train, val = (np.memmap(f"{folder}/{name}.bin", np.uint16, "r") for name in ("train", "val"))

def build(depth):  # head_dim 128 and aspect ratio 64
    width = -(-depth * 64 // 128) * 128
    with torch.device("meta"):
        return GPT(GPTConfig(sequence_len=T, vocab_size=vocab_size, n_layer=depth, n_head=width // 128,
                             n_kv_head=width // 128, n_embd=width, window_pattern="L"))

def scaling_params(model):
    counts = model.num_scaling_params()
    return counts["transformer_matrices"] + counts["lm_head"]

d_ref, b_ref = 12 * scaling_params(build(12)), 2**19
model = build(depth)
model.to_empty(device="cpu"); model.init_weights()
lr_scale = (batch_tokens / b_ref) ** 0.5
optimizer = model.setup_optimizer(unembedding_lr=0.008 * lr_scale, embedding_lr=0.3 * lr_scale,
                                  scalar_lr=0.5 * lr_scale, matrix_lr=0.02 * lr_scale, weight_decay=0.0)
compiled = torch.compile(model, dynamic=False)
rows, micro = batch_tokens // T, min(batch_tokens // T, 32)
random = np.random.default_rng(1337)
step, measured, total, used = 0, [], None, 0.0
while True:
    began = time.time()
    if total is None and len(measured) >= 2:
        total = step + max(1, int((start + seconds - began) / min(measured)))
    if began + (min(measured) if measured else 0) > start + seconds and step:
        break
    share = 0.0 if total is None else min(1.0, step / total)
    if total is not None:  # what is left of the time may differ from what was expected
        total = max(step + 1, step + int((start + seconds - began) / np.median(measured[-20:])))
        share = min(1.0, step / total)
    warmup = 40 if total is None else max(1, min(40, total // 10))
    lr = (step + 1) / warmup if step < warmup else 1.0
    if share > 0.35:
        left = (1 - share) / 0.65
        lr = min(lr, left + (1 - left) * 0.05)
    momentum = 0.85 + 0.12 * min(step / 400, 1)
    if share > 0.35:
        momentum = 0.97 - 0.07 * (share - 0.35) / 0.65
    expected = batch_tokens * (total or 1000)
    decay = 0.28 * math.sqrt(batch_tokens / b_ref) * (d_ref / expected) * 0.5 * (1 + math.cos(math.pi * share))
    for first in range(0, rows, micro):
        at = random.integers(0, len(train) - T - 1, min(micro, rows - first))
        windows = torch.from_numpy(np.stack([train[i : i + T + 1] for i in at]).astype(np.int64))
        (compiled(windows[:, :-1].contiguous(), windows[:, 1:].contiguous()) * len(windows) / rows).backward()
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * lr
        if group["kind"] == "muon":
            group["momentum"], group["weight_decay"] = momentum, decay
    optimizer.step(); model.zero_grad(set_to_none=True)
    step += 1
    if step > 1:
        measured.append(time.time() - began)
    else:
        first_step = time.time() - began
torch.save(model.state_dict(), f"{folder}/nanochat.pt")
spent = time.time() - start
model.eval(); nats = 0.0
with torch.no_grad():
    for first in range(0, len(val) - 1, 8 * T):
        part = val[first : first + 8 * T + 1].astype(np.int64)
        whole = (len(part) - 1) // T * T
        pieces = [(part[:whole].reshape(-1, T), part[1 : whole + 1].reshape(-1, T))] if whole else []
        if whole < len(part) - 1:
            pieces.append((part[None, whole:-1], part[None, whole + 1 :]))
        for x, y in pieces:
            nats += model(torch.from_numpy(x.copy()), torch.from_numpy(y.copy()), loss_reduction="sum").item()
print(json.dumps({"nats": nats, "seconds": spent, "steps": step, "tokens": step * batch_tokens, "first_step": first_step}))
"""


def run(command: list[str], **more: str) -> str:
    """Run a command to its end and return its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | more)
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])[:300]}: {done.stderr[-3000:]}")
    return done.stdout


def gptctl(*words: str) -> dict[str, Any]:
    """Run gptctl and return its JSON."""
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", "gptctl", *words, "--json", "-q"]))
    return found


class Split:
    """The token shards that everything is trained on, and the figures of their val split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        opened = token_io.open_tokens(str(folder))
        self.vocab_size = opened.vocab_size
        self.targets = opened.count("val") - 1  # each token but the first is predicted
        self.n_bytes = json.loads((folder / "manifest.json").read_text())["metrics"]["val"]["bytes"]
        self.fingerprint = hashlib.sha256(json.dumps(opened.manifest.content()).encode()).hexdigest()[:12]

    def bits_per_byte(self, nats: float) -> float:
        """Return the summed loss of the val split as bits per byte of its text."""
        return nats / math.log(2) / self.n_bytes

    def write_flat(self, folder: Path) -> None:
        """Write the tokens as nanochat's script reads them."""
        for name in ("train", "val"):
            parts = [part[: len(part)] for part in token_io.flat_parts(self.folder, name)]
            np.concatenate(parts).astype(np.uint16).tofile(folder / f"{name}.bin")


def prepare(text: Path, folder: Path, vocab_size: int) -> Split:
    """Turn text into token shards."""
    gptctl("clean", str(text), "-o", f"{folder}/clean", "--preset", "none")
    gptctl("tokenize", f"{folder}/clean", "-o", f"{folder}/tokens", "--vocab-size", str(vocab_size), "--val", "0.02",
           "--test", "0", "--shuffle")  # fmt: skip
    return Split(folder / "tokens")


def train(split: Split, out: Path, minutes: float, *words: str) -> dict[str, Any]:
    """Train with gptctl; the time of the last evaluation is not counted."""
    began = time.time()
    metrics = gptctl("pretrain", str(split.folder), "-o", str(out), "--max-minutes", str(minutes), *words)["metrics"]
    spent = time.time() - began
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    times = {event["event"]: datetime.fromisoformat(event["time"]).timestamp() for event in events}
    evaluating = max(0.0, times["eval"] - times["step"]) if "eval" in times and "step" in times else 0.0
    return {
        "bits_per_byte": round(split.bits_per_byte(metrics["val_loss"] * split.targets), 4),
        "seconds": round(spent - evaluating, 1),
        "steps": metrics["steps"],
        "tokens": metrics["tokens"],
        "parameters": metrics["parameters"],
    }


def by_hand(split: Split, folder: Path, minutes: float) -> dict[str, dict[str, Any]]:
    """Train the eight configurations of the list."""
    found = {}
    for layers, width, heads, context, batch in BY_HAND:
        name = f"{layers} x {width}, context {context}, batch {batch}"
        sets = {
            "model.layers": layers, "model.hidden_size": width, "model.heads": heads, "training.lr": 2e-2,
            "model.intermediate_size": 4 * width, "training.warmup_steps": 5, "eval_every": 0, "checkpoint.every": 0,
        }  # fmt: skip
        words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        words += ["--preset", "char-modern", "--seq-len", str(context), "--batch-tokens", str(batch)]
        found[name] = train(split, folder / f"hand-{minutes}-{len(found)}", minutes, *words)
        print(minutes, name, found[name], file=sys.stderr, flush=True)
    return found


def nanochat(split: Split, folder: Path, minutes: float, threads: int) -> dict[str, dict[str, Any]]:
    """Train nanochat's model at two depths and two batch sizes."""
    found = {}
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    for depth, batch in NANOCHAT_RUNS:
        name = f"depth {depth}, batch {batch}"
        words = [str(time.time()), str(folder), str(60 * minutes), str(threads), str(split.vocab_size), str(depth)]
        command = [python, "-c", NANOCHAT, *words, str(batch), str(CONTEXT)]
        environment = {
            "PYTHONPATH": os.environ["NANOCHAT_DIR"],
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/cache-{depth}-{batch}",
        }
        one = json.loads(run(command, **environment).splitlines()[-1])
        found[name] = {"bits_per_byte": round(split.bits_per_byte(one.pop("nats")), 4)} | one
        print(minutes, name, found[name], file=sys.stderr, flush=True)
    return found


def kept_list(split: Split, folder: Path, minutes: float, file: Path | None) -> dict[str, dict[str, Any]]:
    """Return the figures of the list, from the file if it has those of this machine, text and budget."""
    key = f"{platform.node()} {available_cpus()} cpus {split.fingerprint} {minutes:g} min"
    kept = json.loads(file.read_text()) if file and file.exists() else {}
    if key not in kept:
        kept[key] = by_hand(split, folder, minutes)
        if file:
            file.write_text(json.dumps(kept, indent=1) + "\n")
    found: dict[str, dict[str, Any]] = kept[key]
    return found


def best(runs: dict[str, dict[str, Any]]) -> float:
    """Return the lowest bits per byte."""
    return min(run["bits_per_byte"] for run in runs.values())


def main() -> None:
    """Run the parts and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--minutes", default="2,5")
    parser.add_argument("--parts", default="ours,list,nanochat")
    parser.add_argument("--list-once", type=Path, metavar="FILE", help="JSON file that keeps the figures of the list")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--tokens", type=Path, help="token shards to use instead of tokenizing TEXT.jsonl")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if "nanochat" in parts and "NANOCHAT_DIR" not in os.environ:
        sys.exit("set NANOCHAT_DIR to a checkout of nanochat, or leave nanochat out of --parts")
    threads = int(os.environ.get("OMP_NUM_THREADS") or available_cpus())
    os.environ["OMP_NUM_THREADS"] = str(threads)
    found: dict[str, Any] = {"threads": threads, "budgets": {}}
    ratios, regrets = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = Split(options.tokens) if options.tokens else prepare(options.text, folder, options.vocab_size)
        split.write_flat(folder)
        for minutes in map(float, options.minutes.split(",")):
            row: dict[str, Any] = {}
            if "ours" in parts:
                row["ours"] = train(split, folder / f"ours-{minutes}", minutes)
                print(minutes, "ours", row["ours"], file=sys.stderr, flush=True)
            if "list" in parts:
                row["list"] = kept_list(split, folder, minutes, options.list_once)
            if "nanochat" in parts:
                row["nanochat"] = nanochat(split, folder, minutes, threads)
            if "ours" in row and "nanochat" in row:
                ratios.append(best(row["nanochat"]) / row["ours"]["bits_per_byte"])
            if "ours" in row and "list" in row:
                regrets.append(row["ours"]["bits_per_byte"] / best(row["list"]))
            found["budgets"][f"{minutes:g}"] = row
    found["ratio"] = round(min(ratios), 3) if ratios else None
    found["regret"] = round(max(regrets), 4) if regrets else None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
