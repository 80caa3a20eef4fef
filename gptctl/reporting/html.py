"""The HTML page about outputs and everything they were made from. It loads no scripts, fonts or pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gptctl import __version__
from gptctl.core.config import flatten
from gptctl.core.formatting import format_compact, format_duration, format_interval, format_number
from gptctl.core.redact import redact
from gptctl.core.visible import visible
from gptctl.io import lineage
from gptctl.io.lineage import Output
from gptctl.reporting import svg_charts
from gptctl.reporting.curves import Curve, by_progress, unit_of
from gptctl.reporting.events import read_events
from gptctl.reporting.sections.build import build_section
from gptctl.reporting.sections.section import SAMPLE_CHARACTERS, Section, counts_of, metrics_of

# Name: (in light mode, in dark mode). Every colour of text has a contrast of at least 4.5 to 1 on page and card.
PALETTE = {
    "page": ("#f7f7f4", "#12161b"),
    "card": ("#ffffff", "#1a2027"),
    "ink": ("#1b232d", "#e7ebf0"),
    "muted": ("#55606d", "#a6b1bd"),
    "rule": ("#dcdfe3", "#333c46"),
    "good": ("#19703a", "#74d394"),
    "bad": ("#ab2a1f", "#ff938a"),
    "c1": ("#1c5fae", "#7fb6f7"),
    "c2": ("#a8480f", "#f3aa72"),
    "c3": ("#1d6f63", "#6fd0c1"),
    "c4": ("#6a5a8c", "#bfaee6"),
}
HEADLINES = ("f1", "accuracy", "bits_per_byte", "exact_match", "bleu", "perplexity")
COMPARED = ("steps", "tokens", "parameters", "val_loss", "best_val_loss", "val_f1", "tokens_per_second", "time")


@dataclass(frozen=True)
class Figure:
    """One of the main figures at the top of the page."""

    name: str
    value: str
    about: str = ""


@dataclass(frozen=True)
class Comparison:
    """Outputs of one stage side by side: a row for each figure or setting, a column for each output."""

    stage: str
    folders: tuple[str, ...]
    figures: tuple[tuple[str, ...], ...]
    settings: tuple[tuple[str, ...], ...]
    charts: tuple[Markup, ...]


def page(requested: Sequence[Output]) -> tuple[str, list[Section]]:
    """Return the page about some outputs and everything they were made from, and its sections."""
    sections = [build_section(output, number) for number, output in enumerate(lineage.walk_all(requested), 1)]
    chain = {one.place for one in lineage.walk(requested[0])}
    first = [one for one in sections if one.output.place in chain]
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.filters |= {"cut": cut, "duration": format_duration}
    here = files("gptctl.reporting")
    template = environment.from_string((here / "report.html.j2").read_text(encoding="utf-8"))
    text = template.render(
        title=", ".join(Path(output.folder).name for output in requested),
        style=Markup(palette() + (here / "report.css").read_text(encoding="utf-8")),  # noqa: S704 part of gptctl, not data
        requested=requested,
        sections=sections,
        headlines=headlines(first),
        funnel=funnel(first),
        comparisons=comparisons(requested),
        commands=commands(sections),
        version=__version__,
        versions=requested[-1].record.get("versions") or {},
    )
    return redact(text), sections


def palette() -> str:
    """Return the colours as CSS properties for light and dark mode."""
    light, dark = ("".join(f"--{name}:{both[place]};" for name, both in PALETTE.items()) for place in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def headlines(sections: Sequence[Section]) -> list[Figure]:
    """Return the main figures: documents kept, tokens, val loss, a score with its interval, and the total time."""
    shown: list[Figure] = []
    counted = [one for one in sections if one.output.stage in ("clean", "dedup") and counts_of(one.output).documents_in]
    if counted:
        first, last = counts_of(counted[0].output), counts_of(counted[-1].output)
        shown.append(Figure("documents kept", f"{last.kept:,}", f"of {first.documents_in:,}"))
    for one in sections:
        metrics = metrics_of(one.output)
        if one.output.stage == "tokenize" and (train := metrics.get("train")):
            shown.append(Figure("training tokens", f"{train['tokens']:,}", f"{metrics['vocab_size']:,} symbols"))
        if one.output.stage == "pretrain" and "val_loss" in metrics:
            about = f"{format_compact(metrics['parameters'])} parameters, {format_compact(metrics['tokens'])} tokens"
            shown.append(Figure("val loss", format_number(metrics["val_loss"]), about))
        if one.output.stage == "eval" and (name := next((name for name in HEADLINES if name in metrics), "")):
            found = format_interval((metrics.get("intervals") or {}).get(name))
            shown.append(Figure(name.replace("_", " "), format_number(metrics[name]), found))
    seconds = sum(one.output.record.get("seconds") or 0.0 for one in sections)
    if seconds:
        shown.append(Figure("time of all stages", format_duration(seconds)))
    return shown


def funnel(sections: Sequence[Section]) -> Markup:
    """Draw how many documents are left after each data stage, if there are several."""
    rows: list[tuple[str, float, str, int]] = []
    for one in sections:
        counts = counts_of(one.output)
        if one.output.stage in ("clean", "dedup", "tokenize") and counts.documents_in:
            if not rows:
                rows.append(("documents in", float(counts.documents_in), f"{counts.documents_in:,}", 4))
            share = f"{counts.kept:,} ({counts.kept / rows[0][1]:.1%})"
            rows.append((f"after {one.title}", float(counts.kept), share, 1))
    return svg_charts.bars("Documents left after each stage", rows) if len(rows) > 2 else Markup("")


def comparisons(requested: Sequence[Output]) -> list[Comparison]:
    """Return a comparison for each stage that has several of the requested outputs."""
    found = []
    for stage in dict.fromkeys(output.stage for output in requested):
        group = [output for output in requested if output.stage == stage]
        if len(group) < 2:
            continue
        metrics = [metrics_of(output) | {"time": duration_of(output)} for output in group]
        names = [
            name
            for name in dict.fromkeys((*HEADLINES, "precision", "recall", *COMPARED))
            if any(name in m for m in metrics)
        ]
        figures = tuple((name.replace("_", " "), *(format_number(m.get(name)) for m in metrics)) for name in names)
        flat = [flatten(output.record.get("settings") or output.record.get("config") or {}) for output in group]
        keys = [
            key for key in dict.fromkeys(k for one in flat for k in one) if len({str(one.get(key)) for one in flat}) > 1
        ]
        curves = [
            Curve(output.folder, read_events(output.folder), "eval", "val_loss", place % 4 + 1, dots=True)
            for place, output in enumerate(group)
        ]
        drawn = by_progress("Validation loss of each", f"compared-{stage}", curves, unit_of(group[0]), "nats")
        found.append(Comparison(
            stage, tuple(output.folder for output in group), figures,
            tuple((key, *(str(one.get(key, "")) for one in flat)) for key in keys), (drawn,) if drawn else (),
        ))  # fmt: skip
    return found


def commands(sections: Sequence[Section]) -> list[str]:
    """Return the commands that make all outputs of the page again, in order."""
    lines: list[str] = []
    here = ""
    for one in sections:
        argv, folder = one.output.record.get("argv"), one.output.record.get("cwd") or ""
        if not argv:
            continue
        if folder != here and folder:
            lines.append(f"cd {shlex.quote(folder)}")
            here = folder
        lines.append(shlex.join(["gptctl", *argv]))
    return lines


def duration_of(output: Output) -> str:
    """Return how long an output took, or nothing if that was not recorded."""
    return format_duration(output.record["seconds"]) if output.record.get("seconds") else ""


def shown(value: Any) -> Any:
    """Return what the page shows of a value: texts from data without characters that act."""
    return visible(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def cut(text: str, length: int = SAMPLE_CHARACTERS) -> str:
    """Return a text of at most `length` characters, and its escape codes."""
    return visible(text if len(text) <= length else f"{text[:length]}…", lines=True)
