"""Write an HTML page about outputs and everything they were made from: charts, scores, samples, lineage, commands."""

from __future__ import annotations

from pathlib import Path

from gptctl.core import atomic
from gptctl.core.config import StageConfig, Values, argument, flag
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_bytes
from gptctl.core.summary import Summary
from gptctl.io import lineage
from gptctl.io.lineage import Output

EXAMPLES = (
    "gptctl report classifier -o report.html",
    "gptctl report run -o run.html",
    "gptctl report run classifier -o both.html",
)


class Report(StageConfig):
    """Write one self-contained HTML page about outputs.

    The page shows every stage from the raw files to PATH, also runs that are in progress or were killed. It compares
    outputs of the same stage. It works offline, in light and dark mode, and on a phone.
    """

    paths: tuple[str, ...] = argument(..., "PATH...", "Outputs of stages, or folders that contain some.", reads=False)
    out: str = flag(
        "report.html",
        "Write the page to this file, and replace an older one.",
        panel="Output",
        short="-o",
        runtime=True,
    )


def plan(config: Report, context: Context) -> Summary:
    """Check the arguments and return the outputs that the page would show."""
    folders = dict.fromkeys(one.folder for output in outputs(config) for one in lineage.walk(output))
    facts: Values = {"outputs": list(folders)}
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
    from gptctl.reporting.html import page
    from gptctl.reporting.sections.section import metrics_of

    text, sections = page(outputs(config))
    out = Path(config.out)
    atomic.write_text(out, text)
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
    context.info(f"{len(sections)} outputs, {format_bytes(metrics['bytes'])}; open {out} in a browser")
    return Summary("report", "done", (str(out),), metrics=metrics)
