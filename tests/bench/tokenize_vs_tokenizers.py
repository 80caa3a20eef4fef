"""Time the whole command `gptctl tokenize` against encode_batch_fast of the tokenizers library alone, on the same text.

    python tests/bench/tokenize_vs_tokenizers.py DOCS [--sizes 60,200] [--vocab-size 32768] [--runs 3] [--work FOLDER]

DOCS is a folder that `gptctl clean` wrote, or JSON lines with `text`. For each size in MB of text: document shards are
made with `gptctl clean --preset none`; one BPE is trained on a sample of them; then, in turn, (a) the command from start
to end with two workers, reading, checksums, the comparison of encoders, splits and fsync included, and (b)
encode_batch_fast over the same texts in a process with two threads, loading not counted, are timed. All ids of (a) are
compared with those of (b). The last line is one JSON document: MB/s and seconds of the fastest runs, `ratios` by size,
and `ratio` for the largest size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PEER = """
import hashlib, json, os, sys, time
import numpy as np, pyarrow as pa
from tokenizers import Tokenizer
folder, tokenizer, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
paths = sorted(os.path.join(folder, "shards", name) for name in os.listdir(os.path.join(folder, "shards")))
tables = [pa.ipc.open_file(path).read_all() for path in paths]
ids = [one for table in tables for one in table["id"].to_pylist()]
texts = [one for table in tables for one in table["text"].to_pylist()]
engine = Tokenizer.from_file(tokenizer)
engine.encode_special_tokens = True
seconds = []
for _ in range(runs):
    spent, digests = 0.0, {}
    for first in range(0, len(texts), 1000):
        began = time.perf_counter()
        encoded = engine.encode_batch_fast(texts[first : first + 1000], add_special_tokens=False)
        spent += time.perf_counter() - began
        for one, item in zip(ids[first : first + 1000], encoded):
            digests[one] = hashlib.blake2b(np.array(item.ids, np.uint32).tobytes(), digest_size=8).hexdigest()
    seconds.append(spent)
print(json.dumps({"seconds": seconds, "documents": len(texts), "digests": digests}))
"""


def documents(path: Path) -> Iterator[str]:
    """Read texts from a dataset folder or from JSON lines."""
    if not path.is_dir():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["text"]
        return
    import pyarrow as pa

    for shard in sorted((path / "shards").glob("*.arrow")):
        yield from pa.ipc.open_file(str(shard)).read_all()["text"].to_pylist()


def gptctl(*args: object) -> None:
    """Run a command of ours, quietly; fail with its message."""
    done = subprocess.run([sys.executable, "-m", "gptctl", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def lay_down(source: Path, size_mb: float, folder: Path) -> tuple[Path, float]:
    """Write the first `size_mb` MB of text as a dataset folder; give it and the MB there were."""
    lines, size = folder / f"{size_mb}.jsonl", 0
    with lines.open("w", encoding="utf-8") as file:
        for text in documents(source):
            if size >= size_mb * 1e6:
                break
            size += len(text.encode())
            file.write(json.dumps({"text": text}) + "\n")
    gptctl("clean", lines, "-o", folder / f"docs{size_mb}", "--preset", "none", "--set", "normalize=false")
    lines.unlink()
    return folder / f"docs{size_mb}", size / 1e6


def ids_equal(tokens: Path, digests: dict[str, str]) -> bool:
    """Return whether every document's ids are those that the peer gave, and all documents are there."""
    import hashlib

    import numpy as np
    import pyarrow as pa

    left = dict(digests)
    for shard in sorted(tokens.glob("shards/*/*.arrow")):
        table = pa.ipc.open_file(str(shard)).read_all()
        for one, chunk in zip(table["doc_id"].to_pylist(), table["tokens"], strict=True):
            ids = chunk.values.to_numpy()[:-1].astype(np.uint32)  # without end-of-text
            if left.pop(one, "") != hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest():
                return False
    return not left


def measure(
    source: Path, size_mb: float, tokenizer: Path | None, args: Any, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Time both on one size of input; give the tokenizer and the figures."""
    docs, megabytes = lay_down(source, size_mb, folder)
    if tokenizer is None:
        gptctl(
            "tokenize", docs, "-o", folder / "trained", "--vocab-size", args.vocab_size, "--set", "train_bytes=20000000"
        )  # fmt: skip
        tokenizer = folder / "trained" / "tokenizer.json"
    ours: list[float] = []
    peer: dict[str, Any] = {"seconds": []}
    for _ in range(args.runs):
        command = ["tokenize", docs, "-o", folder / "out", "--tokenizer", tokenizer, "--workers", 2, "--force"]
        began = time.perf_counter()
        gptctl(*command)
        ours.append(time.perf_counter() - began)
        done = subprocess.run(
            [sys.executable, "-c", PEER, str(docs), str(tokenizer), "1"], capture_output=True, text=True, check=True,
            env=os.environ | {"RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true"},
        )  # fmt: skip
        found = json.loads(done.stdout)
        peer = found | {"seconds": [*peer["seconds"], *found["seconds"]]}
    equal = ids_equal(folder / "out", peer["digests"])
    figures = {
        "megabytes": round(megabytes, 1),
        "documents": peer["documents"],
        "gptctl_seconds": [round(one, 3) for one in ours],
        "tokenizers_seconds": [round(one, 3) for one in peer["seconds"]],
        "gptctl_mb_per_second": round(megabytes / min(ours), 1),
        "tokenizers_mb_per_second": round(megabytes / min(peer["seconds"]), 1),
        "ratio": round(min(peer["seconds"]) / min(ours), 2),
        "ids_equal": equal,
    }
    return tokenizer, figures


def main() -> None:
    """Measure every size and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--sizes", default="60,200", help="MB of text, separated by commas")
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for what is made (default: a temporary one)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.work, prefix="tokenize-bench-"))
    results: dict[str, dict[str, Any]] = {}
    tokenizer: Path | None = None
    try:
        for size in sorted(float(part) for part in args.sizes.split(",")):
            tokenizer, results[f"{size:g}"] = measure(args.docs, size, tokenizer, args, folder)
            print(f"{size:g} MB: {results[f'{size:g}']}", file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    ratios = {size: found["ratio"] for size, found in results.items()}
    print(json.dumps({
        "benchmark": "tokenize_vs_tokenizers", "sizes": results, "ratios": ratios, "ratio": list(ratios.values())[-1],
        "ids_equal": all(found["ids_equal"] for found in results.values()), "cpus": os.cpu_count(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
