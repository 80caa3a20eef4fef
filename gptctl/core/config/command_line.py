"""Command lines made of a config: the options that another command needs to read the same data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

from gptctl.core.config.fields import declaration
from gptctl.core.config.settings import StageConfig


def options_text(config: StageConfig, names: Iterable[str]) -> str:
    """Return those of the named keys that differ from their defaults, as they are typed, each after a blank.

    A command takes them if it has the same keys: " --text-column body --set max_bad=0.05".
    """
    fields, values = type(config).model_fields, vars(config)
    return "".join(
        f" {typed(name, values[name], declaration(fields[name]).form == 'flag')}"
        for name in names
        if name in fields and values[name] != fields[name].default
    )


def typed(name: str, value: Any, is_flag: bool) -> str:
    """Return a key with its value as it is typed."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"--{name.replace('_', '-')} {shlex.quote(text)}" if is_flag else f"--set {shlex.quote(f'{name}={text}')}"
