"""Where config values come from and how they are written: TOML files, GPTCTL_* variables, and --set."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from gptctl.core.config.layers import Layer
from gptctl.core.config.messages import DEFAULT, ENVIRONMENT, SET, command
from gptctl.core.config.settings import StageConfig
from gptctl.core.config.values import Values, merge, nest
from gptctl.core.errors import UsageError
from gptctl.core.redact import redacted

PREFIX = "GPTCTL_"
NOT_KEYS = ("GPTCTL_CACHE", "GPTCTL_NATIVE")


def parse_set(text: str) -> Values:
    """Parse one `--set a.b=value`: a TOML value, else a string."""
    name, equals, raw = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text!r} is not key=value", "write for example --set split.by=text")
    try:
        value: Any = tomllib.loads(f"v = {raw}")["v"]
    except (ValueError, RecursionError):  # tomllib raises them for 5,000 digits and for 1,000 brackets
        value = raw
    return nest(name.strip(), value)


def read_sets(texts: Iterable[str]) -> Layer:
    """Read all --set options; later ones win."""
    values: Values = {}
    for text in texts:
        values = merge(values, parse_set(text))
    return Layer(SET, values)


def read_toml(path: Path, stage: str, stages: Iterable[str]) -> list[Layer]:
    """Read a config file. A table named like a command is for that command alone, other keys are for all of them."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"no such config file: {path}", "check the path after --config") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "see https://toml.io for the format") from error
    own = values.get(stage, {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: '{stage}' must be a table", f"write its keys below [{stage}]")
    shared = {name: value for name, value in values.items() if name not in stages}
    return [Layer(str(path), shared, shared=True), Layer(str(path), own)]


def read_environment(environment: Mapping[str, str]) -> Layer:
    """Read GPTCTL_KEY and GPTCTL_TABLE__KEY variables."""
    values: Values = {}
    for name, raw in sorted(environment.items()):
        if name.startswith(PREFIX) and name not in NOT_KEYS:
            dotted = name.removeprefix(PREFIX).lower().replace("__", ".")
            values = merge(values, parse_set(f"{dotted}={raw}"))
    return Layer(ENVIRONMENT, values, shared=True)


def to_toml(values: Values) -> str:
    """Write settings as TOML. Keys that are unset (None) are left out, which means their default."""

    def without_none(table: Values) -> Values:
        return {k: without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}

    return tomli_w.dumps(without_none(values))


def show(config: StageConfig, origins: Mapping[str, str]) -> str:
    """Print a resolved config as TOML, each key with its origin. Passwords in URIs are hidden.

    Keys that are required and were not given stand in a comment.
    """
    fields = type(config).model_fields
    absent = [name for name, info in fields.items() if info.is_required() and name not in origins]
    values = {name: value for name, value in redacted(config.recorded()).items() if name not in absent}
    lines = [f"# required by {command(type(config))}: {', '.join(absent)}"] if absent else []
    table, listed = "", DEFAULT  # the origin of a list of tables is that of its keys
    for line in to_toml(values).splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
            listed = origins.get(table.removesuffix("."), DEFAULT) if line.startswith("[[") else DEFAULT
        name = line.split(" = ")[0] if " = " in line and not line.startswith("[") else ""
        lines.append(f"{line}  # {origins.get(table + name, listed)}" if name else line)
    return "\n".join(lines) + "\n"
