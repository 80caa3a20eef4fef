"""Time gptctl pretrain against nanoGPT (and nanochat's model and optimizer) on Tiny Shakespeare, on this machine's CPU.

    NANOGPT_DIR=... [NANOCHAT_DIR=...] python tests/bench/pretrain_vs_nanogpt.py SHAKESPEARE.txt [--parts loss,speed,ranks,growth]

loss    nanoGPT's README run for the CPU (4 layers, width 128, context 64, 2,000 steps), and `--preset char-modern` at the
        same size on the same characters until its val loss, on the whole val split, is no higher. Both are timed by their
        updates: compilation counts, evaluation does not. `ratio` = nanoGPT's seconds / ours.
speed   width 384, 6 layers, context 256, batch 8 (10.7 million parameters): tokens per second of nanoGPT as it comes and
        of `--preset gpt2-char`; `ratio_384`; `mfu` against the bf16 matrix peak measured here.
ranks   the same on one process with all threads, and on two processes with half of them each.
growth  seconds a step by width, depth and context.

The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET = 1.8857  # nanoGPT's val loss after 2,000 steps, on the whole split
README_RUN = [
    "--device=cpu",
    "--compile=False",
    "--eval_iters=1",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--max_iters=2000",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
    "--eval_interval=2000",
]
WIDE_RUN = [
    "--device=cpu",
    "--compile=False",
    "--eval_iters=1",
    "--log_interval=1",
    "--block_size=256",
    "--batch_size=8",
    "--n_layer=6",
    "--n_head=6",
    "--n_embd=384",
    "--max_iters=14",
    "--dropout=0.0",
    "--eval_interval=1000",
]
OURS = ["--preset", "char-modern", "--steps", "230", "--set", "training.momentum=0.8", "--set", "training.lr=2e-2",
        "--set", "training.matrix_lr=0.03", "--set", "training.grad_clip=0", "--set", "training.warmup_steps=3",
        "--set", "training.cooldown_share=0.7"]  # fmt: skip
SCORE = """
import sys, numpy as np, torch
from model import GPT, GPTConfig
found = torch.load(sys.argv[1], weights_only=True)
model = GPT(GPTConfig(**found["model_args"])); model.load_state_dict(found["model"]); model.eval()
ids = torch.from_numpy(np.fromfile(sys.argv[2], np.uint16).astype(np.int64))
T = 64; n = (len(ids) - 1) // T; total = 0.0
x, y = ids[: n * T].view(n, T), ids[1 : n * T + 1].view(n, T)
with torch.no_grad():
    for i in range(0, n, 128):
        logits, _ = model(x[i : i + 128], y[i : i + 128])
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[i : i + 128].flatten(), reduction="sum").item()
print(total / (n * T))
"""
NANOCHAT = """
import json, sys, time, numpy as np, torch
from nanochat.gpt import GPT, GPTConfig
train, val = (torch.from_numpy(np.fromfile(f"{sys.argv[1]}/{name}.bin", np.uint16).astype(np.int64)) for name in ("train", "val"))
steps, B, T = int(sys.argv[2]), 12, 64
torch.manual_seed(1337)
with torch.device("meta"):
    model = GPT(GPTConfig(sequence_len=T, vocab_size=65, n_layer=4, n_head=4, n_kv_head=4, n_embd=128, window_pattern="L"))
model.to_empty(device="cpu"); model.init_weights()
optimizer = model.setup_optimizer()
base = [group["lr"] for group in optimizer.param_groups]
compiled = torch.compile(model, dynamic=False) if sys.argv[3] == "compile" else model
seconds, first = 0.0, 0.0
for step in range(steps):
    at = torch.randint(len(train) - T, (B,))
    x = torch.stack([train[i : i + T] for i in at]); y = torch.stack([train[i + 1 : i + 1 + T] for i in at])
    began = time.perf_counter()
    compiled(x, y).backward()
    share = min(1.0, (step + 1) / 40) if step < 40 else min(1.0, 0.05 + 0.95 * (steps - step) / (0.65 * steps))
    momentum = 0.85 + 0.12 * min(step / 400, 1)
    for group, lr in zip(optimizer.param_groups, base):
        group["lr"] = lr * share
        if group["kind"] == "muon":
            group["momentum"] = momentum
    optimizer.step(); model.zero_grad(set_to_none=True)
    seconds += time.perf_counter() - began
    first = first or seconds
model.eval(); n = (len(val) - 1) // T; total = 0.0
x, y = val[: n * T].view(n, T), val[1 : n * T + 1].view(n, T)
with torch.no_grad():
    for i in range(0, n, 128):
        total += model(x[i : i + 128], y[i : i + 128], loss_reduction="sum").item()
print(json.dumps({"val_loss": total / (n * T), "seconds": seconds, "first_step_seconds": first, "steps": steps}))
"""


def run(command: list[str], folder: Path | None = None, **more: str) -> str:
    """Run a command to its end; give its standard output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | more)
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])}: {done.stderr[-3000:]}")
    return done.stdout


def gptctl(*words: str) -> dict[str, Any]:
    """Run gptctl; give its JSON."""
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", "gptctl", *words, "--json", "-q"]))
    return found


def prepare(text: Path, folder: Path) -> Path:
    """Write the data with nanoGPT's prepare.py, and with gptctl; the split is the same to the character."""
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True)
    (data / "input.txt").symlink_to(text)
    script = Path(os.environ["NANOGPT_DIR"]) / "data" / "shakespeare_char" / "prepare.py"
    (data / "prepare.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    run([sys.executable, str(data / "prepare.py")])
    gptctl("clean", str(text), "-o", f"{folder}/clean", "--preset", "none", "--set", "normalize=false")
    gptctl(
        *("tokenize", f"{folder}/clean", "-o", f"{folder}/tokens", "--algorithm", "chars"),
        *("--val", "0.1", "--test", "0", "--set", "split.by=position"),
    )
    return folder


def nanogpt(words: list[str], folder: Path) -> list[float]:
    """Train with nanoGPT's train.py as it comes; give the milliseconds of each step."""
    source = Path(os.environ["NANOGPT_DIR"])
    for name in ("train.py", "model.py", "configurator.py", "config"):
        if not (folder / name).exists():
            (folder / name).symlink_to((source / name).resolve())
    out = run([sys.executable, "train.py", "config/train_shakespeare_char.py", *words], folder)
    return [float(found[1]) for found in re.finditer(r"time ([\d.]+)ms", out)]


def loss_part(folder: Path) -> dict[str, Any]:
    """Race to nanoGPT's val loss."""
    times = nanogpt(README_RUN, folder)
    steps = times[1:] if len(times) > 2 else times  # the first holds an evaluation
    theirs = (sum(steps[:-1]) + 2 * statistics.median(steps)) / 1000  # the last one, too
    bins = folder / "data" / "shakespeare_char"
    score = [sys.executable, "-c", SCORE, str(folder / "out-shakespeare-char" / "ckpt.pt"), str(bins / "val.bin")]
    val_loss = float(run(score, folder).splitlines()[-1])
    ours = gptctl("pretrain", f"{folder}/tokens", "-o", f"{folder}/race", *OURS, "--set", "eval_every=0",
                  "--set", "checkpoint.every=0")["metrics"]  # fmt: skip
    found = {
        "nanogpt": {"seconds": round(theirs, 2), "steps": len(times), "val_loss": round(val_loss, 4)},
        "gptctl": {
            "seconds": round(ours["train_seconds"], 2),
            "steps": ours["steps"],
            "val_loss": round(ours["val_loss"], 4),
        },
        "reached": ours["val_loss"] <= TARGET,
        "ratio": round(theirs / ours["train_seconds"], 2),
    }
    if "NANOCHAT_DIR" in os.environ:
        for how in ("eager", "compile"):
            command = [sys.executable, "-c", NANOCHAT, str(bins), "290", how]
            found[f"nanochat_{how}"] = json.loads(run(command, PYTHONPATH=os.environ["NANOCHAT_DIR"]).splitlines()[-1])
    return found


def wide(folder: Path, name: str, *words: str) -> float:
    """Train 14 steps of the wide model; give the median tokens per second of a step, the first four left out."""
    gptctl("pretrain", f"{folder}/tokens", "-o", f"{folder}/{name}", "--preset", "gpt2-char", "--steps", "14",
           "--batch-tokens", "2048", "--set", "model.dropout=0",
        "--set",
        "model.attention_dropout=0", "--set", "log_every=1", "--set", "eval_every=0",
           "--set", "checkpoint.every=0", *words)  # fmt: skip
    lines = (folder / name / "events.jsonl").read_text().splitlines()
    speeds = [event["tokens_per_second"] for event in map(json.loads, lines) if event["event"] == "step"]
    return statistics.median(speeds[4:])


def peak() -> dict[str, float]:
    """Measure the matrix product of this machine in GFLOP/s."""
    import torch

    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(2048, 2048, dtype=kind)
        best = float("inf")
        for _ in range(6):
            began = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - began)
        found[name] = round(2 * 2048**3 / best / 1e9, 1)
    return found


def speed_part(folder: Path) -> dict[str, Any]:
    """Compare tokens per second at width 384."""
    rates = []
    ours = []
    for turn in range(4):
        theirs = nanogpt(WIDE_RUN, folder)
        rates.append(8 * 256 / statistics.median(theirs[4:]) * 1000)
        ours.append(wide(folder, f"wide-{turn}"))
    peaks = peak()
    plan = gptctl("pretrain", f"{folder}/tokens", "--preset", "gpt2-char", "--batch-tokens", "2048", "--dry-run")[
        "plan"
    ]
    rate = max(ours)
    return {
        "nanogpt_tokens_per_second": round(max(rates), 1),
        "gptctl_tokens_per_second": round(rate, 1),
        "ratio_384": round(rate / max(rates), 2),
        "peak_gflops": peaks,
        "mfu": round(plan["flops_per_step"] / 2048 * rate / 1e9 / max(peaks.values()), 3),
    }


def ranks_part(folder: Path) -> dict[str, Any]:
    """Compare one process of all threads with two of half of them."""
    one, two = wide(folder, "one"), wide(folder, "two", "--device", "cpu", "--nproc-per-node", "2")
    return {"one_process": round(one, 1), "two_processes": round(two, 1), "share": round(two / one, 3)}


def growth_part(folder: Path) -> list[dict[str, Any]]:
    """Time steps of 2,048 tokens at several sizes."""
    rows = []
    for width, layers, context in (
        (128, 4, 64),
        (128, 4, 256),
        (128, 4, 1024),
        (128, 8, 256),
        (256, 4, 256),
        (384, 4, 256),
        (512, 4, 256),
    ):
        rate = wide(folder, f"size-{width}-{layers}-{context}", "--seq-len", str(context), "--set", f"model.hidden_size={width}",
                    "--set", f"model.layers={layers}", "--set", "model.heads=4", "--set", f"model.intermediate_size={4 * width}")  # fmt: skip
        rows.append({"width": width, "layers": layers, "context": context, "seconds_per_step": round(2048 / rate, 4)})
    return rows


def main() -> None:
    """Run the parts and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--parts", default="loss,speed,ranks,growth")
    arguments = parser.parse_args()
    if "NANOGPT_DIR" not in os.environ:
        sys.exit("set NANOGPT_DIR to a checkout of nanoGPT")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = prepare(arguments.text.resolve(), Path(name))
        for part in arguments.parts.split(","):
            found[part] = {"loss": loss_part, "speed": speed_part, "ranks": ranks_part, "growth": growth_part}[part](
                folder
            )
            print(part, found[part])
    ratio = {key: found[part][key] for part, key in (("loss", "ratio"), ("speed", "ratio_384")) if part in found}
    print(json.dumps(found | ratio))


if __name__ == "__main__":
    main()
