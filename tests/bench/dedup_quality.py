"""Plant near-duplicates of known similarity among real documents, and see which of them are found.

    python tests/bench/dedup_quality.py PAGES [--pairs 4000] [--threshold 0.8]

Each of some real documents of 100 words or more gets a copy in which words were replaced, so that the Jaccard similarity
of their 5-word shingles lies between 0.4 and 1. All go through `gptctl dedup` (112 permutations, 14 bands of 8), with
and without verification, and through datasketch's MinHashLSH with the same settings, one after the other. For each
bin of similarity: the share of pairs found, beside the theoretical curve 1 - (1 - s^8)^14. Precision is the share of the
pairs called duplicates whose similarity reaches the threshold. The last line is one JSON document; `ratio` is the
precision after verification.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

BANDS, ROWS = 14, 8
WORD = re.compile(r"[^\W_]+")


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return a text's word 5-grams, as a reader would write it."""
    words = WORD.findall(text.lower())
    return set(zip(*(words[place:] for place in range(5)), strict=False))


def plant(pages: Path, count: int) -> list[dict[str, Any]]:
    """Make pairs of a document and a changed copy, with their exact similarity."""
    rng = random.Random(1)
    pairs: list[dict[str, Any]] = []
    seen: set[str] = set()
    for shard in sorted((pages / "shards").glob("*.arrow")):
        for text in pa.ipc.open_file(str(shard)).read_all()["text"].to_pylist():
            words = [word for word in text.split() if word.isascii() and word.isalnum()][:400]
            start = " ".join(words[:30])
            if len(words) < 100 or start in seen:
                continue
            seen.add(start)
            rng.shuffle(words)  # pages repeat each other; shuffled, only the planted copies are near
            wanted = rng.uniform(0.4, 1.0)
            changed = 1 - (2 * wanted / (1 + wanted)) ** (1 / 5)
            copy = [f"new{rng.randrange(10**9)}" if rng.random() < changed else word for word in words]
            one, other = " ".join(words), " ".join(copy)
            first, second = shingles(one), shingles(other)
            pairs.append({"a": one, "b": other, "similarity": len(first & second) / len(first | second)})
            if len(pairs) == count:
                return pairs
    return pairs


def by_gptctl(pairs: list[dict[str, Any]], threshold: float, verify: bool, folder: Path) -> set[int]:
    """Return the numbers of the pairs that end up in one cluster."""
    source, out = folder / "pairs.jsonl", folder / f"out{int(verify)}"
    rows = [{"id": f"{side}{n}", "text": pair[side]} for side in "ab" for n, pair in enumerate(pairs)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [sys.executable, "-m", "gptctl", "dedup", str(source), "-o", str(out), "-q", "--num-perm", "112",
               "--threshold", str(threshold), "--set", f"bands={BANDS}", "--verify" if verify else "--no-verify"]  # fmt: skip
    subprocess.run(command, check=True)
    cluster: dict[str, str] = {}
    for part in sorted((out / "clusters").glob("*.arrow")):
        table = pa.ipc.open_file(str(part)).read_all()
        cluster |= dict(zip(table["id"].to_pylist(), table["cluster_id"].to_pylist(), strict=True))
    return {n for n in range(len(pairs)) if f"a{n}" in cluster and cluster[f"a{n}"] == cluster.get(f"b{n}")}


def by_datasketch(pairs: list[dict[str, Any]]) -> set[int]:
    """Return the numbers of the pairs whose copy datasketch's index finds."""
    from datasketch import MinHash, MinHashLSH

    def made(text: str) -> Any:
        one = MinHash(num_perm=BANDS * ROWS, seed=1)
        one.update_batch([" ".join(shingle).encode() for shingle in sorted(shingles(text))])
        return one

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for number, pair in enumerate(pairs):
        index.insert(number, made(pair["a"]))
    return {number for number, pair in enumerate(pairs) if number in index.query(made(pair["b"]))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", type=Path)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--threshold", type=float, default=0.8)
    arguments = parser.parse_args()
    pairs = plant(arguments.pages, arguments.pairs)
    with tempfile.TemporaryDirectory() as name:
        found = {
            "verified": by_gptctl(pairs, arguments.threshold, True, Path(name)),
            "candidates": by_gptctl(pairs, arguments.threshold, False, Path(name)),
            "datasketch": by_datasketch(pairs),
        }
    table = []
    print("similarity   pairs  theory  datasketch  candidates  verified")
    for low in range(40, 100, 5):
        chosen = [
            n
            for n, pair in enumerate(pairs)
            if low <= 100 * pair["similarity"] < low + 5 or (low == 95 and pair["similarity"] == 1)
        ]
        if not chosen:
            continue
        theory = sum(1 - (1 - pairs[n]["similarity"] ** ROWS) ** BANDS for n in chosen) / len(chosen)
        shares = {tool: round(sum(n in names for n in chosen) / len(chosen), 4) for tool, names in found.items()}
        table.append({"from": low / 100, "pairs": len(chosen), "theory": round(theory, 4), **shares})
        print(f"{low / 100:.2f}-{low / 100 + 0.05:.2f}  {len(chosen):6}  {theory:6.3f}  {shares['datasketch']:10.3f}  "
              f"{shares['candidates']:10.3f}  {shares['verified']:8.3f}")  # fmt: skip
    near = {n for n, pair in enumerate(pairs) if pair["similarity"] >= arguments.threshold}
    summary = {
        tool: {
            "precision": round(len(names & near) / max(len(names), 1), 4),
            "recall": round(len(names & near) / max(len(near), 1), 4),
        }
        for tool, names in found.items()
    }
    print(json.dumps({"pairs": len(pairs), "threshold": arguments.threshold, "bins": table, "at_threshold": summary, "ratio": summary["verified"]["precision"]}))  # fmt: skip


if __name__ == "__main__":
    main()
