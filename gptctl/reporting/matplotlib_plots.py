"""Pictures drawn with matplotlib: the loss curve of a run and the confusion matrix of an evaluation.

Equal figures give equal bytes. An SVG has a title and a description for screen readers.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from gptctl.core.formatting import format_compact
from gptctl.core.visible import escape_html, visible
from gptctl.reporting.curves import time_unit
from gptctl.reporting.events import Event, lasting, progress_at
from gptctl.reporting.fonts import find_fonts
from gptctl.reporting.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["svg", "png"]
MAX_NUMBERED = 30  # classes whose cells have room for their counts
MAX_LABEL = 40  # characters of a label beside the matrix
TRAIN, VAL, RATE = "#3f78b5", "#b8391f", "#6b6b6b"


def loss_curve(events: Sequence[Event], title: str, kind: Kind = "svg") -> bytes:
    """Draw the losses and the learning rate by step and by tokens, and the losses by training time if it is known."""
    import matplotlib
    from matplotlib.figure import Figure

    seconds = progress_at(events, "train_seconds")
    events = lasting(events)
    steps = [event for event in events if event.get("event") == "step" and event.get("loss") is not None]
    evaluations = [event for event in events if event.get("event") == "eval" and event.get("val_loss") is not None]
    with matplotlib.rc_context({"svg.hashsalt": "gptctl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11.0 if seconds else 7.2, 4.2), layout="constrained")
        figure.suptitle(visible(title), parse_math=False)
        panels = figure.subplots(1, 2 if seconds else 1, squeeze=False, sharey=True)[0]
        draw_losses(panels[0], steps, evaluations)
        panels[0].set(xlabel="step", ylabel="loss (nats)")
        add_tokens(panels[0], events)
        rate = panels[0].twinx()
        rate.plot([e["step"] for e in steps], [e["lr"] for e in steps], color=RATE, linewidth=0.8, linestyle=":")
        rate.set_ylabel("learning rate (dotted)", color=RATE)
        if seconds:
            scale, unit = time_unit(max((seconds(e["step"]) for e in (*steps, *evaluations)), default=0.0))
            timed = [[e | {"step": seconds(e["step"]) / scale} for e in found] for found in (steps, evaluations)]
            draw_losses(panels[1], *timed)
            panels[1].set(xlabel=f"training time ({unit})")
        last = [
            f"{name} {found[-1][name]:.4g}" for name, found in (("loss", steps), ("val_loss", evaluations)) if found
        ]
        return render(figure, kind, title, f"Loss by step, tokens and training time; at the end {', '.join(last)}")


def draw_losses(axes: Axes, steps: Sequence[Event], evaluations: Sequence[Event]) -> None:
    """Draw the training losses as a line, and the val losses as dots on a line."""
    axes.plot([e["step"] for e in steps], [e["loss"] for e in steps], color=TRAIN, linewidth=1, label="train loss")
    axes.plot(
        [e["step"] for e in evaluations],
        [e["val_loss"] for e in evaluations],
        color=VAL,
        marker="o",
        markersize=3,
        label="val loss",
    )
    axes.grid(alpha=0.25)
    axes.legend(loc="upper right", frameon=False)


def add_tokens(axes: Axes, events: Sequence[Event]) -> None:
    """Add an axis above that shows the tokens at each tick of the steps."""
    tokens = progress_at(events, "tokens")
    if tokens is None:
        return
    above = axes.secondary_xaxis("top")
    low, high = axes.get_xlim()
    places = [tick for tick in axes.get_xticks() if max(low, 0) <= tick <= high]
    above.set_xticks(places, [format_compact(tokens(tick)) for tick in places])
    above.set_xlabel("tokens")


def confusion_matrix(matrix: Matrix, title: str, kind: Kind = "svg") -> bytes:
    """Draw a confusion matrix with its counts, if they fit, and a scale of the colours, which are shares of a row."""
    import matplotlib
    from matplotlib.figure import Figure

    size = min(max(4.0, 0.55 * len(matrix.columns) + 2.2), 16.0)
    with matplotlib.rc_context(
        {
            "svg.hashsalt": "gptctl",
            "svg.fonttype": "none",
            "font.size": 8 if len(matrix.columns) <= MAX_NUMBERED else 4,
            "font.family": find_fonts("".join(matrix.columns)).names,
            "text.parse_math": False,  # a "$" in a label is a dollar sign and does not start a formula
        }
    ):
        figure = Figure(figsize=(size + 0.8, size), layout="constrained")
        axes = figure.add_subplot()
        picture = axes.imshow(matrix.shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(visible(title), fontsize=10)
        axes.set_xticks(
            range(len(matrix.columns)), [*map(cut, matrix.columns)], rotation=45, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(matrix.rows)), [*map(cut, matrix.rows)])
        figure.colorbar(picture, ax=axes, label="share of the true class (row)", format="{x:.0%}", fraction=0.046)
        for row, cells in enumerate(matrix.counts if len(matrix.columns) <= MAX_NUMBERED else ()):
            for column, count in enumerate(cells):
                colour = "white" if matrix.shares[row][column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}" if count else "", ha="center", va="center", color=colour)
        return render(figure, kind, title, matrix.describe())


def cut(label: str) -> str:
    """Return the beginning of a label that would leave no room for the picture."""
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"


def render(figure: Figure, kind: Kind, title: str, description: str) -> bytes:
    """Return a figure as a file. An SVG gets a title and a description."""
    sink = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # find_fonts tells the caller
        figure.savefig(sink, format=kind, **options)
    if kind == "png":
        return sink.getvalue()
    before, _, after = sink.getvalue().partition(b"<svg ")
    attributes, _, content = after.partition(b">")
    about = f"<title>{escape_html(title)}</title><desc>{escape_html(description)}</desc>".encode()
    return before + b'<svg role="img" ' + attributes + b">" + about + content
