"""Measure the constants of gptctl/train/planning/compute_optimal.py: val loss by size, tokens and FLOPs.

    python tests/bench/scaling_ladder.py TOKENS --points ladder.json [--widths 32,48,64,96,128,192,256]
        [--budgets 8e11,2.5e12,8e12,2.5e13] [--picture docs/pictures/scaling.svg] [--fit-only]

For each budget of FLOPs and each width, `gptctl pretrain` trains the model and the recipe of compute_optimal.py for
budget / FLOPs per token. Lengths are counted in steps, so a busy machine only takes longer. Each finished point is
appended to the JSON file at once, and points that are there are not measured again: the ladder may be stopped and
started. At the end it fits L(N, D) = E + A / N^a + B / D^a, prints a table in Markdown, and draws the picture. Models
as small as these do not tell two powers: fitted freely, that of N is 0.8 or more, and a large model would need a
number of tokens that nobody has. Hoffmann et al. 2022 found nearly equal powers, so there is one here.

The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import gptctl
from gptctl.core.config import Settings, plain
from gptctl.io.dataset import tokens as token_io
from gptctl.train.planning.compute_optimal import (
    Candidate,
    LossFit,
    candidate_of_width,
    effective_tokens,
    optimal_tokens,
    predicted_loss,
)
from gptctl.train.recipe import PretrainRecipe

Point = dict[str, Any]
POWERS = np.arange(0.10, 1.001, 0.01)  # tried for a = b
FEWEST_STEPS = 20
FEWEST_STEPS_OF_FIT, FEWEST_FLOPS = 100, 2.4e12  # of points that are fitted


def configuration(candidate: Candidate) -> dict[str, Any]:
    """Return the keyword arguments with which gptctl.pretrain trains a candidate and nothing else."""
    recipe = plain(candidate.recipe)
    recipe = PretrainRecipe.model_validate({name: recipe[name] for name in PretrainRecipe.model_fields})
    training = with_effect(recipe, "aux_loss_weight", "router_z_weight")  # of experts
    model = with_effect(candidate.model, "vocab_size", "end_of_text", "rope_scaling")
    return {"preset": "char-modern", "model": model, "training": training, "eval_every": 0, "checkpoint": {"every": 0}}


def with_effect(settings: Settings, *without: str) -> dict[str, Any]:
    """Return the values of some settings, without the keys that have no effect beside the others."""
    left_out = {*settings.without_effect(), *without}
    return {name: value for name, value in plain(settings).items() if name not in left_out}


def measure(tokens: Path, candidate: Candidate, budget: float) -> Point:
    """Train one point."""
    with tempfile.TemporaryDirectory() as folder:
        run = gptctl.pretrain(tokens, out=f"{folder}/run", quiet=True, **configuration(candidate))
    return {
        "budget": budget,
        "layers": candidate.model.layers,
        "hidden_size": candidate.model.hidden_size,
        "parameters": candidate.parameters,
        "tokens": candidate.tokens,
        "steps": candidate.recipe.steps,
        "flops": candidate.tokens * candidate.flops_per_token,
        "val_loss": run.metrics["val_loss"],
        "train_seconds": run.metrics["train_seconds"],
    }


def climb(tokens: Path, budgets: list[float], widths: list[int], kept: Path) -> list[Point]:
    """Measure all points that the file does not have, cheapest budget first."""
    points: list[Point] = json.loads(kept.read_text()) if kept.exists() else []
    done = {(point["budget"], point["hidden_size"]) for point in points}
    vocab_size = token_io.open_tokens(str(tokens)).vocab_size
    for budget in sorted(budgets):
        for width in widths:
            candidate = candidate_of_width(width, vocab_size, 1)
            candidate = candidate_of_width(width, vocab_size, int(budget / candidate.flops_per_token))
            if (budget, width) in done or candidate.recipe.steps < FEWEST_STEPS:
                continue
            points.append(measure(tokens, candidate, budget))
            kept.write_text(json.dumps(points, indent=1) + "\n")
            print(json.dumps(points[-1]), file=sys.stderr, flush=True)
    return points


def fit_loss(points: list[Point], unique_tokens: float) -> tuple[LossFit, float]:
    """Fit E, A, B and a = b by least squares of the relative error, and return its root mean square.

    For a given power the rest is linear, so all powers of a grid are tried. Points of few FLOPs or steps do not count.
    """
    points = [point for point in points if point["flops"] >= FEWEST_FLOPS and point["steps"] >= FEWEST_STEPS_OF_FIT]
    sizes = np.array([point["parameters"] for point in points], dtype=float)
    data = np.array([effective_tokens(point["tokens"], unique_tokens) for point in points])
    losses = np.array([point["val_loss"] for point in points])
    best, error = LossFit(0, 0, 1, 0, 1), math.inf
    for power in POWERS:
        columns = np.stack([np.ones_like(sizes), sizes**-power, data**-power], axis=1) / losses[:, None]
        scale = columns.max(axis=0)
        solution = np.linalg.lstsq(columns / scale, np.ones_like(losses), rcond=None)[0] / scale
        found = float(np.sqrt(np.mean((columns @ solution - 1) ** 2)))
        if found < error and (solution >= 0).all():
            best, error = LossFit(solution[0], solution[1], power, solution[2], power), found
    return LossFit(*(float(f"{value:.4g}") for value in best)), error


def table(points: list[Point], fit: LossFit, unique_tokens: float) -> str:
    """Return the points as Markdown; the lowest loss of each budget is bold."""
    lowest = {budget: min(p["val_loss"] for p in points if p["budget"] == budget) for budget in budgets_of(points)}
    rows = ["| FLOPs | Layers | Width | N | Tokens | Steps | Val loss | Fit |", "|---|---|---|---|---|---|---|---|"]
    for point in sorted(points, key=lambda point: (point["budget"], point["hidden_size"])):
        loss = f"{point['val_loss']:.3f}"
        if point["val_loss"] == lowest[point["budget"]]:
            loss = f"**{loss}**"
        fitted = predicted_loss(point["parameters"], point["tokens"], unique_tokens, fit)
        rows.append(
            f"| {point['budget']:.1e} | {point['layers']} | {point['hidden_size']} | {point['parameters'] / 1e6:.2f} M "
            f"| {point['tokens'] / 1e6:.2f} M | {point['steps']:,} | {loss} | {fitted:.3f} |"
        )
    return "\n".join(rows)


def budgets_of(points: list[Point]) -> list[float]:
    """Return the budgets, smallest first."""
    return sorted({point["budget"] for point in points})


def draw(points: list[Point], fit: LossFit, vocab_size: int, unique_tokens: float) -> bytes:
    """Draw loss against FLOPs as SVG: measured points, the fit for each size, and the fit's own choice."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    widths = sorted({point["hidden_size"] for point in points})
    flops = np.geomspace(min(p["flops"] for p in points) / 2, 10 * max(p["flops"] for p in points), 60)
    with matplotlib.rc_context({"svg.hashsalt": "gptctl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(widths)))
        for width, colour in zip(widths, colours, strict=True):
            chosen = [point for point in points if point["hidden_size"] == width]
            candidate = candidate_of_width(width, vocab_size, chosen[0]["tokens"])
            curve = [
                predicted_loss(candidate.parameters, one / candidate.flops_per_token, unique_tokens, fit)
                for one in flops
            ]
            axes.plot(flops, curve, color=colour, linewidth=1)
            axes.plot(
                [point["flops"] for point in chosen], [point["val_loss"] for point in chosen], "o", color=colour,
                markersize=4, label=f"{candidate.model.layers} x {width}",
            )  # fmt: skip
        best = [point for point in points if point["val_loss"] == lowest_of(points, point["budget"])]
        axes.plot(
            [p["flops"] for p in best], [p["val_loss"] for p in best], "o", markersize=10, markerfacecolor="none",
            markeredgecolor="#c4442c", label="lowest of a budget",
        )  # fmt: skip
        axes.set(xscale="log", xlabel="FLOPs", ylabel="val loss (nats per token)", title="Loss by size and computation")
        highest = max(point["val_loss"] for point in points)
        axes.set_ylim(0.75 * min(point["val_loss"] for point in points), 1.05 * highest)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, title="layers x width")
        FigureCanvasSVG(figure)
        sink = io.BytesIO()
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def lowest_of(points: list[Point], budget: float) -> float:
    """Return the lowest loss of a budget."""
    return float(min(point["val_loss"] for point in points if point["budget"] == budget))


def main() -> None:
    """Measure what is missing, fit, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--points", type=Path, required=True, help="JSON file of finished points")
    parser.add_argument("--widths", default="32,48,64,96,128,192,256")
    parser.add_argument("--budgets", default="8e11,2.5e12,8e12,2.5e13")
    parser.add_argument("--picture", type=Path, help="SVG file to draw")
    parser.add_argument("--fit-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    budgets = [] if options.fit_only else [float(budget) for budget in options.budgets.split(",")]
    points = climb(options.tokens, budgets, [int(width) for width in options.widths.split(",")], options.points)
    data = token_io.open_tokens(str(options.tokens))
    unique = data.count("train")
    fit, error = fit_loss(points, unique)
    print(table(points, fit, unique))
    if options.picture:
        options.picture.write_bytes(draw(points, fit, data.vocab_size, unique))
    sizes = {f"{n:.0e}": optimal_tokens(int(n), fit) for n in (1e6, 1e7, 1e8)}
    print(json.dumps({"fit": fit._asdict(), "relative_error": round(error, 5), "optimal_tokens": sizes}))


if __name__ == "__main__":
    main()
