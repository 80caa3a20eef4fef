"""Time gptctl clean against datatrove on the same pages with the same filters, two workers each, in turn.

    DATATROVE_PYTHON=/path/to/venv/bin/python python tests/bench/clean_vs_datatrove.py DOCS [--documents 6000] [--runs 3]

DOCS is a folder written by `gptctl clean` (for example from HTML pages with --preset none) or JSON lines with `id` and
`text`. DATATROVE_PYTHON is a Python that has datatrove 0.10.1 and spacy, with xxhash below 4. Both read the same JSON
lines and run gopher_repetition, gopher_quality, c4 (without its rule on line ends) and fineweb, as they come: datatrove
splits words with spaCy and writes compressed JSON lines, gptctl splits them with its pattern and writes Arrow shards.
Whole commands are timed, start-up included; each runs once before, uncounted (compiled kernels are then kept on disk).
The last line is one JSON document with both figures and `ratio`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

FILTERS = "gopher_repetition,gopher_quality,c4,fineweb"
PEER = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

if __name__ == "__main__":
    source, out, logs = sys.argv[1:]
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(source), GopherRepetitionFilter(), GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter(), JsonlWriter(out),
        ],
        tasks=2, workers=2, logging_dir=logs,
    ).run()
"""


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """Read documents from a dataset folder or from JSON lines."""
    if path.is_dir():
        import pyarrow as pa

        for shard in sorted((path / "shards").glob("*.arrow")):
            for batch in pa.ipc.open_file(str(shard)).read_all().select(["id", "text"]).to_batches():
                yield from batch.to_pylist()
    else:
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def seconds(command: list[str], folder: Path) -> float:
    """Time a whole command; what it wrote before is removed first."""
    for name in ("ours", "theirs", "logs"):
        if str(folder / name) in command:
            shutil.rmtree(folder / name, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    peer = os.environ.get("DATATROVE_PYTHON")
    if not peer:
        sys.exit("set DATATROVE_PYTHON to a Python that has datatrove 0.10.1, spacy and xxhash<4")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        chosen = list(islice(documents(arguments.docs), arguments.documents))
        for half in range(2):
            lines = [json.dumps({"id": str(row["id"]), "text": row["text"]}) + "\n" for row in chosen[half::2]]
            (folder / "source" / f"{half}.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "peer.py").write_text(PEER, encoding="utf-8")
        ours = [sys.executable, "-m", "gptctl", "clean", str(folder / "source"), "-o", str(folder / "ours"), "-q",
                "--workers", "2", "--filters", FILTERS, "--set", "c4.filter_no_terminal_punct=false"]  # fmt: skip
        theirs = [peer, str(folder / "peer.py"), *(str(folder / part) for part in ("source", "theirs", "logs"))]
        seconds(ours, folder), seconds(theirs, folder)
        times: dict[str, list[float]] = {"gptctl": [], "datatrove": []}
        for _ in range(arguments.runs):
            times["gptctl"].append(seconds(ours, folder))
            times["datatrove"].append(seconds(theirs, folder))
        kept = json.loads((folder / "ours" / "manifest.json").read_text())["counts"]["kept"]
        stats = json.loads((folder / "logs" / "stats.json").read_text())
        kept_by_peer = (
            stats[-1]["stats"]["total"]["total"]
            if isinstance(stats[-1]["stats"].get("total"), dict)
            else stats[-1]["stats"].get("total")
        )
        size = sum(len(row["text"].encode()) for row in chosen)
    rate = {tool: len(chosen) / statistics.median(taken) for tool, taken in times.items()}
    for tool, taken in times.items():
        print(f"{tool:10} {rate[tool]:8,.0f} documents/s   {', '.join(f'{second:.2f}' for second in taken)} s")
    print(json.dumps({
        "documents": len(chosen), "text_bytes": size, "seconds": {tool: [round(s, 3) for s in taken] for tool, taken in times.items()},
        "documents_per_second": {tool: round(value, 1) for tool, value in rate.items()},
        "kept": {"gptctl": kept, "datatrove": kept_by_peer}, "ratio": round(rate["gptctl"] / rate["datatrove"], 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
