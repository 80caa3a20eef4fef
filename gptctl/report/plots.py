"""The loss curve of a run, drawn from its events, as SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

Event = dict[str, Any]


def loss_curve(events: Sequence[Event], title: str, kind: Literal["svg", "png"] = "svg") -> bytes:
    """Draw training loss, validation loss and learning rate over the steps. Equal events give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

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
