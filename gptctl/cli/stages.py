"""Find the subcommands: one per file in gptctl/stages/, imported only when it is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gptctl.core import plugins

if TYPE_CHECKING:
    from gptctl.core.config import StageConfig
    from gptctl.core.context import Context
    from gptctl.core.summary import Summary

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


def plan(stage: str, config: StageConfig, context: Context) -> Summary:
    """Plan a subcommand. Raises ConflictError (5) if its folder is in use or has files of others, as the run does."""
    from gptctl.core.config import declaration
    from gptctl.core.run_folder import check_free

    for name, field in type(config).model_fields.items():
        if declaration(field).folder:
            check_free(vars(config)[name], stage)
    summary: Summary = plugins.load(STAGES, stage).plan(config, context)
    return summary
