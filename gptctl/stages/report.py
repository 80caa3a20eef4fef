"""Write an HTML page about outputs and everything they were made from: charts, scores, samples, lineage, commands."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import field_validator

from gptctl.core import atomic
from gptctl.core.config import StageConfig, Values, argument, flag
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_bytes, format_count
from gptctl.core.summary import Summary
from gptctl.io import lineage
from gptctl.io.lineage import Output
from gptctl.reporting.cards.subjects import UNKNOWN

EXAMPLES = (
    "gptctl report classifier -o report.html",
    "gptctl report run -o run.html",
    "gptctl report unique -o report.html --card --license cc-by-4.0",
)


class Report(StageConfig):
    """Write one self-contained HTML page about outputs.

    The page shows every stage from the raw files to PATH, also runs that are in progress or were killed. It compares
    outputs of the same stage. It works offline, in light and dark mode, and on a phone. --card also writes a model card
    and a dataset card in the format of the Hugging Face hub.
    """

    paths: tuple[str, ...] = argument(..., "PATH...", "Outputs of stages, or folders that contain some.", reads=False)
    out: str = flag(
        "report.html",
        "Write the page to this file, and replace an older one.",
        panel="Output",
        short="-o",
        runtime=True,
    )
    card: bool = flag(
        False,
        "Also write model-card.md and dataset-card.md beside the page.",
        panel="Output",
        switch=True,
        runtime=True,
    )
    license: str = flag(
        UNKNOWN, "License in the cards, as the hub names it: mit, apache-2.0, cc-by-4.0, other.", panel="Output",
        runtime=True,
    )  # fmt: skip

    @field_validator("license")
    @classmethod
    def check_license(cls, value: str) -> str:
        """Return the license in lower case. Raises ValueError for text that is no identifier."""
        if not re.fullmatch("[a-z0-9][a-z0-9.+-]*", value.lower()):
            raise ValueError(f"'{value}' is not a license as the hub names it, such as apache-2.0 or cc-by-4.0")
        return value.lower()

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return {} if self.card else {"license": "without --card"}


def plan(config: Report, context: Context) -> Summary:
    """Check the arguments and return the outputs that the page would show."""
    facts: Values = {"outputs": [one.folder for one in lineage.walk_all(outputs(config))]}
    return Summary("report", "planned", (config.out,), plan=facts)


def outputs(config: Report) -> list[Output]:
    """Return the requested outputs with everything they were made from.

    Raises UsageError (2) if the page cannot be written to --out.
    """
    out = Path(config.out)
    if out.is_dir() or lineage.owner_of(str(out.parent)) is not None:
        raise UsageError(
            f"{out} is {'a folder' if out.is_dir() else 'inside an output'}", "name a file: -o report.html"
        )
    return [lineage.trace(folder) for path in config.paths for folder in lineage.find(path)]


def run(config: Report, context: Context | None = None) -> Summary:
    """Write the page."""
    context = context or Context()
    from gptctl.reporting.cards import write
    from gptctl.reporting.html import page
    from gptctl.reporting.sections.section import metrics_of

    requested = outputs(config)
    text, sections = page(requested)
    out = Path(config.out)
    cards = write.card_texts(requested, config.license) if config.card else {}
    atomic.write_text(out, text)
    for name, card in cards.items():
        atomic.write_text(out.with_name(name), card)
    metrics: Values = {
        "bytes": len(text.encode()),
        "outputs": [
            {
                "folder": one.output.folder,
                "stage": one.output.stage,
                "state": one.state,
                "metrics": metrics_of(one.output),
            }
            for one in sections
        ],
    }
    context.info(f"{format_count(len(sections), 'output')}, {format_bytes(metrics['bytes'])}; open {out} in a browser")
    if config.card and config.license == UNKNOWN:
        context.warn("the cards say license: unknown; name the license of the data and the model with --license")
    return Summary("report", "done", (str(out), *(str(out.with_name(name)) for name in cards)), metrics=metrics)
