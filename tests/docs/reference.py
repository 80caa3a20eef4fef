"""Make docs/commands.md from the config models of the stages: python -m tests.docs.reference > docs/commands.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gptctl.cli.main import STAGES, config_model, stage_names
from gptctl.cli.params import bare, common_options, default_text, ordered
from gptctl.core import plugins
from gptctl.core.config import StageConfig, extra, plain

HEAD = """# Commands

Made from the stages' own definitions by `python -m tests.docs.reference`; a test compares. Each command, its arguments and flags,
and the keys that a `--config` file and `--set` take besides. `gptctl COMMAND --help` says the same of flags,
`gptctl COMMAND --print-config` shows what holds in a folder. A list is written `a,b`. Keys with a dot stand in tables.

The key of a flag is its name with `_` for `-`: `--vocab-size 8192`, `--set vocab_size=8192`, `GPTCTL_VOCAB_SIZE=8192` and
`vocab_size = 8192` in a file set the same.
"""


def reference() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for stage in stage_names():
        module = plugins.load(STAGES, stage)
        model = config_model(module, stage)
        shown = dict(ordered(model))
        shared = [name for name in shown if name in StageConfig.model_fields]
        arguments = [str(extra(field)["argument"]) for field in shown.values() if extra(field).get("argument")]
        own = {name: field for name, field in shown.items() if name not in shared}
        own = dict(sorted(own.items(), key=lambda item: not extra(item[1]).get("argument")))
        parts += [
            f"\n## {' '.join(['gptctl', stage, *arguments])}\n\n{model.__doc__ or ''}".rstrip().replace("\n    ", "\n")
            + "\n"
        ]
        parts.append("\n```sh check=parse\n" + "\n".join(module.EXAMPLES) + "\n```\n")
        parts.append(
            "\n| | default | |\n|---|---|---|\n" + "".join(flag_row(name, field) for name, field in own.items())
        )
        rows = [row for name, field in model.model_fields.items() if name not in shown for row in key_rows(name, field)]
        if rows:
            parts.append("\n| key | default | |\n|---|---|---|\n" + "".join(rows))
    parts.append("\n## Everywhere\n\n| | default | |\n|---|---|---|\n")
    parts += [flag_row(name, StageConfig.model_fields[name]) for name in StageConfig.model_fields]
    for annotation in common_options().values():
        option = annotation.__metadata__[0]
        names = [option.default, *option.param_decls]  # in Annotated the first name stands where a default would
        parts.append(f"| `{', '.join(names)}` | | {option.help} |\n")
    return "".join(parts)


def flag_row(name: str, field: FieldInfo) -> str:
    """Describe an argument or a flag."""
    notes = extra(field)
    shown = notes.get("argument") or "--" + name.replace("_", "-") + (
        f", {notes['short']}" if notes.get("short") else ""
    )
    default = default_text(field)
    return f"| `{shown}` | {f'`{default}`' if default else ''} | {cell(about(field))} |\n"


def key_rows(name: str, field: FieldInfo) -> Iterator[str]:
    """Describe a key, or the keys of a table."""
    kind = bare(field.annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for inner, one in kind.model_fields.items():
            yield from key_rows(f"{name}.{inner}", one)
        return
    yield f"| `{name}` | {value(plain(field.default))} | {cell(about(field))} |\n"


def about(field: FieldInfo) -> str:
    """Return a field's help, and its choices."""
    kind = bare(field.annotation)
    values = [str(one) for one in get_args(kind) if one != ""] if get_origin(kind) is Literal else []
    choices = f" One of {', '.join(values)}." if values else ""
    return f"{field.description or ''}{choices}"


def value(default: Any) -> str:
    """Show a default as it would be written."""
    if default is None or str(default) == "PydanticUndefined" or default in ("", []):
        return ""
    shown = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
    written = ",".join(map(str, shown)) if isinstance(shown, list) else str(shown)
    return "`" + written.replace("\n", "\\n") + "`"


def cell(text: str) -> str:
    """Keep a text inside its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(reference())
