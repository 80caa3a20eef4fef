"""Processor time and peak memory of dedup as the number of documents grows.

    python tests/bench/dedup_growth.py PAGES [--sizes 10000,100000,1000000] [--max-memory 500MB]

Documents are made of real pages: a piece of 150 words of one, every tenth word replaced by one of its own, so that pieces
of the same page are not near each other; every fifth document is a copy of an earlier one with two words changed. Memory
is the largest sum, over a command and its workers, of what each has to itself (USS). The last line is one JSON document;
`ratio` is the growth of the time for a document from the first size to the last.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.memory_growth import peak

WORDS = 150


def documents(pages: Path, count: int) -> Iterator[str]:
    """Yield `count` documents."""
    rng = random.Random(7)
    texts: list[list[str]] = []
    for shard in sorted((pages / "shards").glob("*.arrow")):
        texts += [
            words
            for text in pa.ipc.open_file(str(shard)).read_all()["text"].to_pylist()
            if len(words := text.split()) >= WORDS
        ]
        if len(texts) > 20_000:
            break
    recent: list[list[str]] = []
    for number in range(count):
        if number % 5 == 4:
            words = list(recent[rng.randrange(len(recent))])
            for _ in range(2):
                words[rng.randrange(WORDS)] = f"x{number}"
        else:
            source = texts[number % len(texts)]
            first = rng.randrange(len(source) - WORDS + 1)
            words = [
                f"w{rng.randrange(10**8)}" if place % 10 == 0 else word
                for place, word in enumerate(source[first : first + WORDS])
            ]
            recent.append(words)
            if len(recent) > 5000:
                recent.pop(rng.randrange(5000))
        yield " ".join(words)


def main() -> None:
    """Measure each size and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--max-memory", default="500MB")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (int(size) for size in arguments.sizes.split(",")):
            source, out = folder / f"{size}.jsonl", folder / f"out{size}"
            with source.open("w", encoding="utf-8") as file:
                for text in documents(arguments.pages, size):
                    file.write(json.dumps({"text": text}) + "\n")
            command = ["dedup", str(source), "-o", str(out), "--workers", "2", "--max-memory", arguments.max_memory]
            seconds, megabytes = peak(command)
            found = json.loads((out / "manifest.json").read_text())
            rows.append({
                "documents": size, "megabytes_of_text": round(found["counts"]["bytes_in"] / 1e6, 1),
                "processor_seconds": round(seconds, 2), "peak_megabytes": round(megabytes, 1), "kept": found["counts"]["kept"],
                "candidates": found["metrics"]["candidates"], "false_positives": found["metrics"]["false_positives"],
            })  # fmt: skip
            print(rows[-1])
            source.unlink()
            shutil.rmtree(out)
    growth = (rows[-1]["processor_seconds"] / rows[-1]["documents"]) / (
        rows[0]["processor_seconds"] / rows[0]["documents"]
    )
    print(json.dumps({"memory": arguments.max_memory, "sizes": rows, "ratio": round(growth, 3)}))


if __name__ == "__main__":
    main()
