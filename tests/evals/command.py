"""The real command line, run inside this process: what a user types, without a new Python for each of a hundred."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptctl.cli.main import main
from tests.conftest import Ran


def gptctl(*args: object, stdin: bytes = b"", cwd: Path) -> Ran:
    """Run `gptctl ARGS` in a folder."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv = ["gptctl", *map(str, args)]
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)), "utf-8")
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv, sys.stdin = before
        restore_floating_point()
    out.flush()
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return Ran(code, out.buffer.getvalue(), err.getvalue())


def restore_floating_point() -> None:
    """Compute with denormal numbers again, which Hypothesis needs: a command flushes them in its process."""
    if "torch" in sys.modules:
        import torch

        from gptctl.evals.inference import worker

        torch.set_flush_denormal(False)
        worker.configure_once.cache_clear()


def pairs(labels: Sequence[Any], predicted: Sequence[Any]) -> list[dict[str, Any]]:
    """Make rows of predictions."""
    return [
        {"id": number, "label": label, "pred": pred}
        for number, (label, pred) in enumerate(zip(labels, predicted, strict=True))
    ]


def lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Write rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows to a file of JSON lines."""
    path.write_bytes(lines(rows))
    return path
