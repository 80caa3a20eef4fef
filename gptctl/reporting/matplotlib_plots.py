"""Pictures drawn with matplotlib: the loss curve of a run and the confusion matrix of an evaluation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from gptctl.reporting.events import Event, lasting


def loss_curve(events: Sequence[Event], title: str, kind: Literal["svg", "png"] = "svg") -> bytes:
    """Draw training loss, validation loss and learning rate over the steps. Equal events give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    events = lasting(events)
    steps = [event for event in events if event.get("event") == "step" and event.get("loss") is not None]
    evaluations = [event for event in events if event.get("event") == "eval" and event.get("val_loss") is not None]
    with matplotlib.rc_context({"svg.hashsalt": "gptctl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            [e["step"] for e in steps], [e["loss"] for e in steps], color="#7aa6d8", linewidth=1, label="train loss"
        )
        axes.plot(
            [e["step"] for e in evaluations],
            [e["val_loss"] for e in evaluations],
            color="#c4442c",
            marker="o",
            markersize=3,
            label="val loss",
        )
        axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper right", frameon=False)
        rate = axes.twinx()
        rate.plot([e["step"] for e in steps], [e["lr"] for e in steps], color="#999999", linewidth=0.8, linestyle=":")
        rate.set_ylabel("learning rate", color="#999999")
        (FigureCanvasSVG if kind == "svg" else FigureCanvasAgg)(figure)
        sink = io.BytesIO()
        figure.savefig(sink, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return sink.getvalue()


def confusion_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]], invalid: Sequence[int]) -> bytes:
    """Draw a confusion matrix as SVG: a row for each true class, coloured by shares, with counts if they fit.

    `invalid` counts the predictions that are none of the labels. They are the last column if there are any. Equal
    counts give equal bytes.
    """
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [*labels, *(["invalid"] if any(invalid) else [])]
    cells = np.array([[*row, *([more] if any(invalid) else [])] for row, more in zip(counts, invalid, strict=True)])
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    size = min(max(3.0, 0.55 * len(shown) + 1.6), 16.0)
    font = 8 if len(shown) <= 30 else 4
    with matplotlib.rc_context(
        # a "$" in a label is a dollar sign and does not start a formula
        {"svg.hashsalt": "gptctl", "svg.fonttype": "none", "font.size": font, "text.parse_math": False}
    ):
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_xticks(range(len(shown)), shown, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        for row, column in np.argwhere(cells > 0).tolist() if len(shown) <= 30 else []:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{cells[row, column]:,}", ha="center", va="center", color=colour)
        FigureCanvasSVG(figure)
        sink = io.BytesIO()
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()
