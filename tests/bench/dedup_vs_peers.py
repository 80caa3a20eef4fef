"""Time gptctl dedup against plain loops over datasketch and rensa, and against datatrove's four steps, on the same pages.

    PEERS_PYTHON=/path/to/venv/bin/python python tests/bench/dedup_vs_peers.py PAGES [--sizes 6000,17056] [--runs 2]

PAGES is a folder that `gptctl clean` wrote. PEERS_PYTHON is a Python that has datasketch 2.0, rensa 0.5 and datatrove
0.10.1 with spacy, its xxhash below 4. All use 112 permutations in 14 bands of 8 and shingles of 5 words, and read the
same JSON lines; gptctl verifies its candidates at 0.8 and runs with two workers, as datatrove does; the loops are loops.
Each whole command is timed at both sizes: the cost of a document is the difference of the times over that of the sizes,
and what is left at size zero is start-up. The last line is one JSON document; `ratio` is the smallest of the measured
ratios over the wanted ones (datasketch 10, rensa 1.5 per document, datatrove 25 on the whole command).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

SHORT = 5.0  # seconds: commands that take less are run four times as often
WANTED = {"datasketch": 10.0, "rensa": 1.5, "datatrove": 25.0}
LOOP = """
import json, re, sys
source, out, tool = sys.argv[1:]
WORDS = re.compile(r"\\w+")
if tool == "datasketch":
    from datasketch import MinHash, MinHashLSH
    index = MinHashLSH(num_perm=112, params=(14, 8))
    def known(key, shingles):
        made = MinHash(num_perm=112, seed=1)
        made.update_batch([s.encode() for s in shingles])
        if index.query(made):
            return True
        index.insert(key, made)
        return False
else:
    from rensa import RMinHash, RMinHashLSH
    index = RMinHashLSH(threshold=0.8, num_perm=112, num_bands=14)
    def known(key, shingles):
        made = RMinHash(num_perm=112, seed=1)
        made.update(shingles)
        if index.query(made):
            return True
        index.insert(key, made)
        return False
kept = []
number = 0
for half in range(2):
    with open(f"{source}/{half}.jsonl", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            words = WORDS.findall(row["text"].lower())
            shingles = [" ".join(words[i : i + 5]) for i in range(len(words) - 4)] or [row["text"]]
            number += 1
            if not known(number, shingles):
                kept.append(row["id"])
json.dump(kept, open(out, "w"))
"""
DATATROVE = """
import json, sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

if __name__ == "__main__":
    source, work, out = sys.argv[1:]
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    steps = [
        ([JsonlReader(source), MinhashDedupSignature(f"{work}/signatures", config)], 2),
        ([MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], 14),
        ([MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)], 1),
        ([JsonlReader(source), MinhashDedupFilter(f"{work}/remove"), JsonlWriter(f"{work}/kept", compression=None)], 2),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=2, logging_dir=f"{work}/logs{number}").run()
    import glob
    kept = [json.loads(line)["id"] for path in sorted(glob.glob(f"{work}/kept/*.jsonl")) for line in open(path)]
    json.dump(kept, open(out, "w"))
"""


def lay_down(pages: Path, count: int, folder: Path) -> Path:
    """Write the first `count` documents as two files of JSON lines."""
    rows: list[dict[str, str]] = []
    for shard in sorted((pages / "shards").glob("*.arrow")):
        rows += pa.ipc.open_file(str(shard)).read_all().select(["id", "text"]).to_pylist()
        if len(rows) >= count:
            break
    rows = rows[:count]
    source = folder / f"source{count}"
    source.mkdir()
    middle = len(rows) // 2
    for half, part in enumerate((rows[:middle], rows[middle:])):
        (source / f"{half}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return source


def timed(command: list[str]) -> float:
    """Run a command; give its seconds."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[:4]}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def run(tool: str, peer: str, source: Path, folder: Path) -> tuple[float, set[str]]:
    """Run one tool on one folder; give its seconds and the ids that it keeps."""
    place = Path(tempfile.mkdtemp(dir=folder))
    if tool == "gptctl":
        command = [sys.executable, "-m", "gptctl", "dedup", str(source), "-o", str(place / "out"), "-q", "--workers", "2",
                   "--num-perm", "112", "--threshold", "0.8", "--set", "bands=14"]  # fmt: skip
        seconds = timed(command)
        shards = sorted((place / "out" / "shards").glob("*.arrow"))
        return seconds, {one for shard in shards for one in pa.ipc.open_file(str(shard)).read_all()["id"].to_pylist()}
    out = place / "kept.json"
    (place / "peer.py").write_text(DATATROVE if tool == "datatrove" else LOOP, encoding="utf-8")
    more = [str(place / "work"), str(out)] if tool == "datatrove" else [str(out), tool]
    seconds = timed([peer, str(place / "peer.py"), str(source), *more])
    return seconds, set(json.loads(out.read_text()))


def main() -> None:
    """Run all tools at both sizes and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", type=Path)
    parser.add_argument("--sizes", default="6000,17056")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--tools", default="gptctl,datasketch,rensa,datatrove")
    arguments = parser.parse_args()
    peer = os.environ.get("PEERS_PYTHON")
    if not peer:
        sys.exit("set PEERS_PYTHON to a Python that has datasketch, rensa and datatrove")
    sizes = [int(size) for size in arguments.sizes.split(",")]
    tools = arguments.tools.split(",")
    found: dict[str, dict[str, Any]] = {tool: {"seconds": {}} for tool in tools}
    kept: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {size: lay_down(arguments.pages, size, folder) for size in sizes}
        run("gptctl", peer, sources[sizes[0]], folder)  # compiled kernels are kept on disk from now on
        for _ in range(arguments.runs):
            for size in sizes:
                for tool in tools:
                    seconds, kept[tool] = run(tool, peer, sources[size], folder)
                    times = [found[tool]["seconds"].get(str(size), seconds), seconds]
                    if seconds < SHORT:  # a tenth of a second more or less is much of the difference
                        times += [run(tool, peer, sources[size], folder)[0] for _ in range(3)]
                    found[tool]["seconds"][str(size)] = round(min(times), 3)
    small, large = sizes[0], sizes[-1]
    for tool, figures in found.items():
        first, last = figures["seconds"][str(small)], figures["seconds"][str(large)]
        figures["documents_per_second"] = round((large - small) / (last - first), 1)
        figures["start_up_seconds"] = round(first - small / figures["documents_per_second"], 2)
        figures["whole_command_documents_per_second"] = round(large / last, 1)
        figures["kept"] = len(kept[tool])
        figures["kept_also_by_gptctl"] = len(kept[tool] & kept["gptctl"])
        print(f"{tool:10} {figures}")
    ours = found["gptctl"]
    ratios = {}
    for tool in tools[1:]:
        which = "whole_command_documents_per_second" if tool == "datatrove" else "documents_per_second"
        ratios[tool] = round(ours[which] / found[tool][which], 2)
    worst = min(ratio / WANTED[tool] for tool, ratio in ratios.items())
    print(json.dumps({"sizes": sizes, "tools": found, "ratios": ratios, "wanted": WANTED, "ratio": round(worst, 3)}))


if __name__ == "__main__":
    main()
