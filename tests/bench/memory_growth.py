"""Show that the peak memory of clean and tokenize does not grow with the input.

    python tests/bench/memory_growth.py DOCS [--sizes 50,200]

DOCS is a folder written by `gptctl clean`; its documents are repeated, with their number in front, up to each size in MB
of text. Memory is the largest sum, over a command and its workers, of what each process has to itself (USS), looked at
every 20 ms. The last line is one JSON document; `ratio` is the largest growth from the first size to the last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa


def texts(folder: Path, size: float) -> Iterator[str]:
    """Yield documents up to `size` bytes, from the start again with other numbers where they do not suffice."""
    shards = sorted((folder / "shards").glob("*.arrow"))
    written = number = 0
    while True:
        for shard in shards:
            for text in pa.ipc.open_file(str(shard)).read_all()["text"].to_pylist():
                number += 1
                yield f"Document {number}.\n{text}"
                written += len(text.encode())
                if written >= size:
                    return


def peak(command: list[str]) -> tuple[float, float]:
    """Run a command; give the seconds and the peak memory in MB."""
    began, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "gptctl", *command], stderr=subprocess.PIPE)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for one in [root, *root.children(recursive=True)]:
            try:
                total += one.memory_full_info().uss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        most = max(most, total)
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.stderr.read().decode() if process.stderr else "failed")
    return time.perf_counter() - began, most / 1e6


def main() -> None:
    """Measure each size and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--sizes", default="50,200")
    arguments = parser.parse_args()
    sizes = [float(size) for size in arguments.sizes.split(",")]
    found: dict[str, dict[str, float]] = {"clean": {}, "tokenize": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            source = folder / f"{size:g}.jsonl"
            with source.open("w", encoding="utf-8") as file:
                for text in texts(arguments.docs, size * 1e6):
                    file.write(json.dumps({"text": text}) + "\n")
            filters = "gopher_repetition,gopher_quality,c4,fineweb"
            kept, out = str(folder / f"kept{size:g}"), str(folder / f"tokens{size:g}")
            commands = {
                "clean": [
                    "clean",
                    str(source),
                    "-o",
                    str(folder / f"web{size:g}"),
                    "--filters",
                    filters,
                    "--workers",
                    "2",
                ],
                "tokenize": ["tokenize", kept, "-o", out, "--workers", "2", "--set", "train_bytes=10000000"],
            }
            subprocess.run(
                [sys.executable, "-m", "gptctl", "clean", str(source), "-o", kept, "--preset", "none", "-q"], check=True
            )
            for stage, command in commands.items():
                seconds, megabytes = peak(command)
                found[stage][f"{size:g}"] = round(megabytes, 1)
                print(f"{stage:9} {size:6g} MB of text: {megabytes:7.1f} MB of memory, {seconds:5.1f} s")
    growth = {stage: round(list(by.values())[-1] / next(iter(by.values())), 3) for stage, by in found.items()}
    print(json.dumps({"peak_megabytes": found, "growth": growth, "ratio": max(growth.values())}))


if __name__ == "__main__":
    main()
