"""What cannot change an output is never a conflict: each such key, changed on a finished output, finds it up to date."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from gptctl.cli.stages import config_model
from gptctl.core import plugins
from gptctl.core.config import Values, bare, choices_of, declaration, is_list
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError

# Not tried: `recipe` stands for values of the table training; the rest need several machines, GPUs, Redis, or end early.
NOT_TRIED = {"recipe", "gpus", "nodes", "redis", "list_presets", "explain", "plugins", "out"}
# The folder of the workspace that holds the output, if one does, and the values of the command that makes it.
COMMANDS: dict[str, tuple[str, Values]] = {
    "clean": ("clean", {"inputs": ["raw.jsonl"]}),
    "dedup": ("unique", {"inputs": ["clean"]}),
    "split": ("", {"inputs": ["clean"]}),
    "tokenize": ("tokens", {"inputs": ["unique"], "vocab_size": 320, "val": 0.1, "test": 0.1}),
    "pretrain": ("run", {"tokens": ["tokens"], "preset": "test-modern", "steps": 20}),
    "finetune": ("classifier", {"base": "run", "data": ["labelled"], "epochs": 2}),
    "eval": ("", {"model": "classifier", "data": "labelled", "cache": "none", "metrics": ["f1", "ece"]}),
    "generate": ("", {"model": "run", "prompts": "prompts.jsonl", "max_tokens": 4}),
    "export": ("", {"model": "run"}),
}

CONFLICTS: dict[str, Values] = {
    "clean": {"html": "always"}, "dedup": {"threshold": 0.5}, "split": {"seed": 9}, "tokenize": {"val": 0.2}, "pretrain": {"eval_every": 5},
    "finetune": {"dropout": 0.3}, "eval": {"average": "micro"}, "generate": {"max_tokens": 5}, "export": {"dtype": "bfloat16"},
}  # fmt: skip


def another(name: str, field: FieldInfo, value: Any, workspace: Path, folder: Path) -> Any:
    """A valid value that differs from a key's own."""
    kind = bare(field.annotation)
    known = {
        "max_memory": "2GB", "draft": str(workspace / "run"), "executor": "processes", "device": "cpu",
        "rdzv_endpoint": "localhost:1", "fail_under": ["f1=0"], "fail_over": ["ece=2"],
    }  # fmt: skip
    if name in known:
        return known[name]
    if choices := choices_of(kind):
        return next(choice for choice in choices if choice != value)
    if is_list(kind):
        return ["tensorboard"]
    if kind is bool:
        return not value
    if kind is float:
        return 0.5
    return value + 1 if kind is int else str(folder / name)


@pytest.mark.parametrize("stage", COMMANDS)
def test_no_conflict(stage: str, workspace: Path, tmp_path: Path) -> None:
    made, values = COMMANDS[stage]
    out = tmp_path / "out"
    for name, value in values.items():  # names in the workspace become paths
        given = value if isinstance(value, list) else [value]
        if isinstance(given[0], str) and (workspace / given[0]).exists():
            values = values | {name: [str(workspace / given[0])] if value is given else str(workspace / given[0])}
    module, model = plugins.load("gptctl.stages", stage), config_model(stage)
    config = model.model_validate(values | {"out": str(out)})
    if made:
        shutil.copytree(workspace / made, out)
    else:
        assert module.run(config, Context()).status == "done"
    tried = []
    for name, field in model.model_fields.items():
        declared = declaration(field)
        if not declared.runtime or declared.reads or declared.form == "argument" or name in NOT_TRIED:
            continue
        changed = {name: another(name, field, getattr(config, name), workspace, tmp_path)}
        assert module.run(config.model_copy(update=changed), Context()).status == "up to date", changed
        tried.append(name)
    assert tried or stage == "export"
    with pytest.raises(ConflictError):
        module.run(config.model_copy(update=CONFLICTS[stage]), Context())
