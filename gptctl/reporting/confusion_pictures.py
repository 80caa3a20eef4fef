"""The pictures of the confusion matrix in the folder of an evaluation."""

from __future__ import annotations

from pathlib import Path

from gptctl.core import atomic
from gptctl.core.config import Values
from gptctl.core.context import Context
from gptctl.reporting.matrix import Matrix

MAX_NAMED = 8  # characters that a warning lists


def write(folder: Path, report: Values, context: Context) -> None:
    """Write confusion.svg and confusion.png, if the result of an evaluation has a whole confusion matrix."""
    if "matrix" not in (report.get("confusion") or {}):
        return
    from gptctl.reporting.fonts import find_fonts
    from gptctl.reporting.matplotlib_plots import confusion_matrix

    matrix = Matrix.from_report(report["confusion"])
    title = f"Confusion matrix, {report['split']}: {report['n']:,} texts"
    atomic.write_bytes(folder / "confusion.svg", confusion_matrix(matrix, title))
    atomic.write_bytes(folder / "confusion.png", confusion_matrix(matrix, title, "png"))
    if missing := find_fonts("".join(matrix.columns)).missing:
        context.warn(
            f"no installed font has the characters {missing[:MAX_NAMED]} of the labels: confusion.png shows boxes "
            "instead, and confusion.svg shows them where such a font is installed"
        )
