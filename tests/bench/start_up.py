"""How long `gptctl --help` and each command's `--help` take: the least of several starts of Python.

    python tests/bench/start_up.py [--starts 5]

Ends with a JSON line: seconds by command line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

COMMANDS = (
    "",
    "clean",
    "dedup",
    "tokenize",
    "pretrain",
    "finetune",
    "eval",
    "generate",
    "export",
    "inspect",
    "doctor",
    "report",
)


def seconds(command: str, starts: int) -> float:
    """Start a command's help several times; return the shortest time."""
    times = []
    for _ in range(starts):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "gptctl", *command.split(), "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    return round(min(times), 3)


def main() -> None:
    """Measure, print a line per command, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    starts = parser.parse_args().starts
    found = {}
    for command in COMMANDS:
        found[f"gptctl {command} --help".replace("  ", " ")] = seconds(command, starts)
        print(f"{list(found.values())[-1]:6.3f} s  gptctl {command} --help")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
