"""Make docs/commands.md from the config models of the commands: python -m tests.docs.reference > docs/commands.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from gptctl.cli.params import common_options, default_text, few_choices, ordered
from gptctl.cli.stages import STAGES, config_model, stage_names
from gptctl.core import plugins
from gptctl.core.config import Values, declaration, flatten, look_up, plain, table_of

HEAD = """# Commands

Made from the commands' own definitions by `python -m tests.docs.reference`; a test compares. Each command, its arguments and flags,
and the keys that a `--config` file and `--set` take besides. `gptctl COMMAND --help` shows the same flags,
`gptctl COMMAND --print-config` the values that hold for a command line. A list is written `a,b`. Keys with a dot stand in tables.

The key of a flag is its name with `_` for `-`: `--vocab-size 8192`, `--set vocab_size=8192`, `GPTCTL_VOCAB_SIZE=8192` and
`vocab_size = 8192` in a file set the same.

A config file has a table for each command, such as `[pretrain]`. Keys outside of these tables are for every command that has them. An option
that nothing uses together with the others is an error. Only variables, and keys that several commands share, are passed over then.

The column *default* shows what holds where nothing is set. *(preset)* marks a value of the default preset: other presets have others.
"""


def reference() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for stage in stage_names():
        model = config_model(stage)
        shown = dict(ordered(model))
        arguments = [declaration(field).metavar for field in shown.values() if declaration(field).form == "argument"]
        usage = " ".join(["gptctl", stage, *arguments])
        parts.append(f"\n## {usage}\n\n{model.__doc__ or ''}".rstrip().replace("\n    ", "\n") + "\n")
        parts.append("\n```sh check=parse\n" + "\n".join(plugins.load(STAGES, stage).EXAMPLES) + "\n```\n")
        parts.append("\n| | default | |\n|---|---|---|\n")
        preset = model.preset_layer({})
        parts += [flag_row(name, field, preset) for name, field in shown.items()]
        rows = [
            row
            for name, field in model.model_fields.items()
            if name not in shown
            for row in key_rows(name, field, field.default, preset)
        ]
        if rows:
            parts.append("\n| key | default | |\n|---|---|---|\n" + "".join(rows))
    parts.append("\n## Common options\n\n| | default | |\n|---|---|---|\n")
    for annotation in common_options().values():
        option = annotation.__metadata__[0]
        names = [option.default, *option.param_decls]  # in Annotated the first name stands where a default would
        parts.append(f"| `{', '.join(names)}` | | {option.help} |\n")
    return "".join(parts)


def flag_row(name: str, field: FieldInfo, preset: Values) -> str:
    """Describe an argument or a flag."""
    declared = declaration(field)
    flag = "--" + name.replace("_", "-") + (f", {declared.short}" if declared.short else "")
    shown = declared.metavar if declared.form == "argument" else flag
    default = default_text(field)
    held = in_preset(name, preset) or (f"`{default}`" if default else "")
    return f"| `{shown}` | {held} | {cell(about(field))} |\n"


def key_rows(name: str, field: FieldInfo, default: Any, preset: Values) -> Iterator[str]:
    """Describe a key, or the keys of a table with the values of its default."""
    if table := table_of(field.annotation):
        for inner, one in table.model_fields.items():
            yield from key_rows(f"{name}.{inner}", one, vars(default)[inner], preset)
        return
    yield f"| `{name}` | {in_preset(name, preset) or value(plain(default))} | {cell(about(field))} |\n"


def in_preset(name: str, preset: Values) -> str:
    """Return the value that the default preset has for a key, or nothing."""
    return f"{value(plain(look_up(preset, name)))} *(preset)*" if name in flatten(preset) else ""


def about(field: FieldInfo) -> str:
    """Return a field's help, and its choices."""
    values = few_choices(field)
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
