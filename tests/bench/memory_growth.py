"""Show that the peak memory of clean, dedup and tokenize does not grow with the input, and that their time is linear.

    python tests/bench/memory_growth.py DOCS [--sizes 50,200] [--folder DIR]

DOCS is a folder written by `gptctl clean`. Its documents are repeated up to each size in MB of text, each time with other
words in place of every sixth, so that no two are near-duplicates. What a stage has read is deleted. Memory is the largest
sum, over a command and its workers, of what each process has to itself (USS), looked at every 20 ms. Time is processor
seconds. The last line is one JSON document; `ratio` is the largest growth of memory from the first size to the last, and
`time_per_byte` the growth of the processor seconds for a byte.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa

EVERY = 6  # the words that are replaced


def texts(folder: Path, size: float) -> Iterator[str]:
    """Yield documents up to `size` bytes: real pages in turn, each time with other words in place of every sixth."""
    pages, pool = [], []
    for shard in sorted((folder / "shards").glob("*.arrow")):
        pages += [text.split(" ") for text in pa.ipc.open_file(str(shard)).read_all()["text"].to_pylist()]
    for page in pages:
        pool += [word for word in page if "\n" not in word]
    random.Random(1).shuffle(pool)
    written = place = 0
    for number in itertools.count():
        words = pages[number % len(pages)].copy()
        count = len(range(number % EVERY, len(words), EVERY))
        place = place if place + count <= len(pool) else number % 97  # from another start, so that runs differ
        words[number % EVERY :: EVERY] = pool[place : place + count]
        place += count
        text = f"Document {number}.\n{' '.join(words)}"
        yield text
        written += len(text.encode())
        if written >= size:
            return


def peak(command: list[str]) -> tuple[float, float]:
    """Run a command; return the processor seconds of it and its workers, and its peak memory in MB."""
    most, seconds = 0, {}
    process = subprocess.Popen([sys.executable, "-m", "gptctl", *command], stderr=subprocess.PIPE)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for one in [root, *root.children(recursive=True)]:
            try:
                total += one.memory_full_info().uss
                used = one.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            seconds[one.pid] = used.user + used.system
        most = max(most, total)
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.stderr.read().decode() if process.stderr else "failed")
    return sum(seconds.values()), most / 1e6


def main() -> None:
    """Measure each size and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--sizes", default="50,200")
    parser.add_argument("--folder", type=Path, help="where to write; about three times the largest size")
    arguments = parser.parse_args()
    sizes = [float(size) for size in arguments.sizes.split(",")]
    found: dict[str, list[dict[str, float]]] = {"clean": [], "dedup": [], "tokenize": []}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = Path(name)
            source, kept, unique, out = (str(folder / name) for name in ("raw.jsonl", "kept", "unique", "tokens"))
            with Path(source).open("w", encoding="utf-8") as file:
                for text in texts(arguments.docs, size * 1e6):
                    file.write(json.dumps({"text": text}) + "\n")
            commands = {
                "clean": ["clean", source, "-o", kept],
                "dedup": ["dedup", kept, "-o", unique],
                "tokenize": ["tokenize", unique, "-o", out, "--set", "train_bytes=10000000"],
            }
            for stage, command in commands.items():
                seconds, megabytes = peak([*command, "--workers", "2"])
                counts = json.loads((Path(command[3]) / "manifest.json").read_text())["counts"]
                found[stage].append({
                    "megabytes_of_text": round(counts["bytes_in"] / 1e6, 1), "documents": counts["in"],
                    "kept": counts["kept"], "processor_seconds": round(seconds, 1), "peak_megabytes": round(megabytes, 1),
                })  # fmt: skip
                print(f"{stage:9} {found[stage][-1]}", flush=True)
                if command[1] == source:
                    Path(source).unlink()
                else:
                    shutil.rmtree(command[1])
    growth = {stage: round(rows[-1]["peak_megabytes"] / rows[0]["peak_megabytes"], 3) for stage, rows in found.items()}
    rate = {stage: round(per_megabyte(rows[-1]) / per_megabyte(rows[0]), 3) for stage, rows in found.items()}
    print(json.dumps({"stages": found, "growth": growth, "time_per_byte": rate, "ratio": max(growth.values())}))


def per_megabyte(row: dict[str, float]) -> float:
    """Return the processor seconds for a megabyte of text."""
    return row["processor_seconds"] / row["megabytes_of_text"]


if __name__ == "__main__":
    main()
