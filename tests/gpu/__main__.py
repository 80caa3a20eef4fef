"""Run the checks, print a table, and write JSON: python -m tests.gpu right|fast.

--list      say what would run, and stop
--cpu       run at a small size on the CPU
--out FILE  where the JSON is written; without it $OUT/gpu-right.json (or gpu-fast.json) if OUT is set
--only TEXT run the checks whose name contains this text

It ends with exit code 1 if a check fails, and with 4 if a package or the GPU is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.gpu import packages


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=("right", "fast"))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    if problem := packages.provide(os.environ.get("WHEELS", "")):
        sys.stderr.write(f"{problem}\n")
        return 4
    import torch

    from tests.gpu import check

    if not options.list and not options.cpu and not torch.cuda.is_available():
        sys.stderr.write("torch finds no CUDA GPU; --cpu runs the checks at a small size on the CPU\n")
        return 4
    chosen = [each for each in check.load(options.suite) if options.only in each.name]
    if options.list:
        sys.stdout.write("".join(f"{each.name:34} {each.summary}\n" for each in chosen))
        return 0
    out = options.out or (Path(os.environ["OUT"]) / f"gpu-{options.suite}.json" if os.environ.get("OUT") else None)
    return check.run(chosen, check.Setting(torch.device("cpu" if options.cpu else "cuda")), out)


if __name__ == "__main__":
    sys.exit(main())
