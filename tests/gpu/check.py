"""What a check is, and how all of them are run: one table, and one JSON document."""

from __future__ import annotations

import atexit
import importlib
import json
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

SUITES = {"right": ("training", "ranks", "decoding", "memory"), "fast": ("speed", "generation", "variants")}
SECONDS = 180.0  # after this time no further check is started on a GPU, so that a suite takes at most 4 minutes


@dataclass(frozen=True)
class Setting:
    """Where the checks run: at full size on a GPU, or at a small size on the CPU."""

    device: torch.device

    @property
    def is_small(self) -> bool:
        """Return whether the checks run on the CPU."""
        return self.device.type == "cpu"

    @cached_property
    def folder(self) -> Path:
        """Return a temporary folder for runs."""
        found = tempfile.mkdtemp(prefix="gptctl-gpu-")
        atexit.register(shutil.rmtree, found, ignore_errors=True)
        return Path(found)

    def new_folder(self) -> Path:
        """Return a new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


@dataclass(frozen=True)
class Row:
    """One figure that a check found. Without a bound it is only shown."""

    name: str
    value: float | None  # None where the check was not possible
    bound: float | None = None
    at_least: bool = False  # whether the bound is a lower one
    note: str = ""
    is_goal: bool = False  # whether missing the bound is no failure

    @property
    def verdict(self) -> str:
        """Return "ok", "failed", "below goal" or ""."""
        if self.bound is None or self.value is None:
            return ""
        if (self.value >= self.bound) if self.at_least else (self.value <= self.bound):
            return "ok"
        return "below goal" if self.is_goal else "failed"


@dataclass(frozen=True)
class Check:
    """A named function that yields rows."""

    name: str
    summary: str
    function: Callable[[Setting], Iterator[Row]]


REGISTERED: list[Check] = []


def check(function: Callable[[Setting], Iterator[Row]]) -> Callable[[Setting], Iterator[Row]]:
    """Register a function as a check: its name, and the first line of its docstring."""
    group = function.__module__.rpartition(".")[2]
    summary = (function.__doc__ or "").partition("\n")[0]
    REGISTERED.append(Check(f"{group}.{function.__name__}", summary, function))
    return function


def load(suite: str) -> list[Check]:
    """Return the checks of a suite."""
    groups = SUITES[suite]
    for group in groups:
        importlib.import_module(f"tests.gpu.{group}")
    return [each for each in REGISTERED if each.name.partition(".")[0] in groups]


def run(checks: list[Check], setting: Setting, out: Path | None) -> int:
    """Run checks until time is up, show the table, write the JSON, and return 1 if a check failed."""
    began, results, not_run = time.monotonic(), [], []
    for each in checks:
        start, failure = time.monotonic(), ""
        rows: list[Row] = []
        if start - began > SECONDS and not setting.is_small:
            not_run.append(each.name)
            rows.append(Row(each.name, None, note="not run: time is up"))
        else:
            try:
                rows += each.function(setting)
            except Exception as error:
                traceback.print_exc()
                failure = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        seconds = round(time.monotonic() - start, 1)
        results.append(
            {"check": each.name, "seconds": seconds, "error": failure, "rows": [as_json(row) for row in rows]}
        )
        show(each.name, seconds, rows, failure)
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    failed = [
        found["check"] for found in results if found["error"] or "failed" in (r["verdict"] for r in found["rows"])
    ]
    seconds = round(time.monotonic() - began, 1)
    verdict = f"failed: {', '.join(failed)}" if failed else "none failed" if not_run else "all passed"
    left_out = f"; not run: {', '.join(not_run)}" if not_run else ""
    sys.stdout.write(f"{len(results) - len(not_run)} checks in {seconds} s: {verdict}{left_out}\n")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(
            json.dumps({**machine(setting), "seconds": seconds, "failed": failed, "checks": results}, indent=1)
        )
    return 1 if failed else 0


def as_json(row: Row) -> dict[str, Any]:
    """Return a row for the JSON document."""
    return asdict(row) | {"verdict": row.verdict}


def show(name: str, seconds: float, rows: list[Row], failure: str) -> None:
    """Print the lines of one check."""
    sys.stdout.write(f"{name} ({seconds} s)\n")
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.4g}"
        bound = "" if row.bound is None else f"{'>=' if row.at_least else '<='} {row.bound:.4g}"
        sys.stdout.write(f"  {row.name:52} {value:>12} {bound:>12} {row.verdict:10} {row.note}\n".rstrip() + "\n")
    if failure:
        sys.stdout.write(f"  {failure}\n")
    sys.stdout.flush()


def machine(setting: Setting) -> dict[str, Any]:
    """Return what the figures were measured on."""
    on_gpu = setting.device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version()}
