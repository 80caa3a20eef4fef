"""Find the subcommands: one per file in gptctl/stages/, imported only when it is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gptctl.core import plugins

if TYPE_CHECKING:
    from gptctl.core.config import StageConfig

STAGES = "gptctl.stages"
PIPELINE = ("clean", "dedup", "split", "tokenize", "pretrain", "finetune", "eval", "generate")
COMMON_PANEL = "Common options"


def stage_names() -> list[str]:
    """List the subcommands: the pipeline in its order, then the rest."""
    found = plugins.names(STAGES)
    return [name for name in PIPELINE if name in found] + [name for name in found if name not in PIPELINE]


def headline(stage: str) -> str:
    """Read the one-line help of a subcommand, the first line of its file, without importing it."""
    spec = find_spec(STAGES)
    assert spec is not None and spec.submodule_search_locations
    with (Path(next(iter(spec.submodule_search_locations))) / f"{stage}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


def config_model(stage: str) -> type[StageConfig]:
    """Import a subcommand and return its config model, the class that is named like it."""
    model: type[StageConfig] = getattr(plugins.load(STAGES, stage), stage.capitalize())
    return model
