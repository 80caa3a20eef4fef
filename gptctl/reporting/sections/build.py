"""Building the section of an output by its stage."""

from __future__ import annotations

from collections.abc import Callable

from gptctl.core.errors import GptctlError
from gptctl.io import diagnose
from gptctl.io.lineage import Output
from gptctl.reporting.sections.data import show_clean, show_dedup, show_generate, show_split, show_tokenize
from gptctl.reporting.sections.evaluation import show_eval
from gptctl.reporting.sections.section import Section, metrics_of, show_figures
from gptctl.reporting.sections.training import show_training


def build_section(output: Output, number: int) -> Section:
    """Return the section of an output at a place on the page. What cannot be read becomes a remark, never an error."""
    section = Section(output, number, [(f.level, f.what) for f in diagnose.check_state(output)])
    for origin in output.origins:
        if origin.state in ("gone", "changed"):
            what = "is gone" if origin.state == "gone" else "has changed since"
            section.remarks.append(("note", f"{origin.role}: {origin.path} {what}"))
    try:
        CONTENT.get(output.stage, show_others)(section)
    except (GptctlError, OSError, KeyError, TypeError, ValueError) as error:
        section.remarks.append(
            ("damage", f"not all of it can be shown: {' '.join(str(error).split()) or type(error).__name__}")
        )
    return section


def show_others(section: Section) -> None:
    """Show the figures of any other stage."""
    metrics = metrics_of(section.output)
    show_figures(section, metrics, tuple(metrics))


CONTENT: dict[str, Callable[[Section], None]] = {
    "clean": show_clean,
    "dedup": show_dedup,
    "split": show_split,
    "tokenize": show_tokenize,
    "pretrain": show_training,
    "finetune": show_training,
    "eval": show_eval,
    "generate": show_generate,
}
