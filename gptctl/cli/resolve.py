"""From flags, --set, variables and a config file to the config of a command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gptctl.cli.stages import config_model, stage_names
from gptctl.core import plugins
from gptctl.core.config import (
    Layer,
    Others,
    StageConfig,
    build,
    merge,
    plain,
    read_environment,
    read_sets,
    read_toml,
    spread,
    table_of,
)
from gptctl.core.errors import UsageError

# The option that chooses among the plug-ins of a kind.
CHOSEN_WITH = {
    "gptctl.text.filters": "--filters",
    "gptctl.evals.metrics": "--metrics",
    "gptctl.evals.tasks": "--set task=",
    "gptctl.train.loggers": "--set loggers=",
}


def resolve(
    stage: str,
    given: Layer,
    file: Path | None = None,
    sets: Sequence[str] = (),
    plugin_files: Sequence[str] = (),
    placeholders: bool = False,
) -> tuple[StageConfig, dict[str, str]]:
    """Merge default < preset < --config file < environment < --set < flag; also return where each key comes from.

    `given` holds the flags, or the arguments of a Python function. Plug-in files are loaded before the config is
    built, as they may add keys to it. With `placeholders`, what the command requires need not be given.
    Raises UsageError (2).
    """
    layers = [
        *(read_toml(file, stage, stage_names()) if file else ()),
        read_environment(os.environ),
        read_sets(sets),
        given,
    ]
    layers, named_files = name_plugin_files(layers)
    plugin_files = [*plugin_files, *named_files]
    chosen: dict[str, Any] = {}
    for layer in layers:
        chosen = merge(chosen, layer.values)
    plugins.begin_command((*list_of(chosen.get("plugins")), *plugin_files))
    if plugin_files:
        layers.append(Layer("flag", {"plugins": [*list_of(chosen.get("plugins")), *plugin_files]}))
    model = config_model(stage).for_values(chosen)
    preset = Layer("preset", model.preset_layer(chosen))
    others = Others(
        tuple(stage_names()), lambda dotted: any(has_key(config_model(one), dotted) for one in others_of(stage))
    )
    config, origins = build(model, [preset, *layers], others, placeholders)
    if not placeholders:
        check_used(config, [*plugin_files, *list_of(given.values.get("plugins"))])
    return config, origins


def name_plugin_files(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """Replace the paths of plug-in files by their names in the options that choose plug-ins; also return the paths.

    `--filters ./capitals.py` is the same as `--plugin ./capitals.py --filters capitals`.
    """
    keys = [chosen_key(option) for option in CHOSEN_WITH.values()]
    named: list[Layer] = []
    paths: list[str] = []
    for layer in layers:
        values = dict(layer.values)
        for key in keys:
            given = list_of(values.get(key))
            if found := [path for path in given if path.endswith(".py")]:
                names = [Path(item).stem if item in found else item for item in given]
                values[key] = names[0] if isinstance(values[key], str) and len(names) == 1 else names
                paths += found
        named.append(replace(layer, values=values))
    return named, list(dict.fromkeys(paths))


def chosen_key(option: str) -> str:
    """Return the config key of an option that chooses plug-ins."""
    return option.removeprefix("--").removeprefix("set ").rstrip("=")


def check_used(config: StageConfig, plugin_files: Sequence[str]) -> None:
    """Raise UsageError (2) if a plug-in file of the command line is chosen by none of the options.

    Plug-ins of a config file or a variable may be for other commands. Kinds that no option names are not checked.
    """
    names = set(texts_in({name: value for name, value in plain(config).items() if name != "plugins"}))
    for path in plugin_files:
        file = plugins.add_file(path)
        if (option := CHOSEN_WITH.get(file.package)) is None or file.name in names:
            continue
        key = chosen_key(option)
        command = type(config).__name__.lower()
        takes = key in type(config).model_fields
        raise UsageError(
            f"plug-in {file.name} is loaded but not used",
            f"add it to {option}" if takes else f"{command} uses no {plugins.kind_name(file.package)}: omit --plugin",
        )


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts among the values of nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(item)


def list_of(value: Any) -> list[str]:
    """Return a list as files, variables and Python give it: a list, or "a,b"."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return [str(item).strip() for item in items if str(item).strip()]


def others_of(stage: str) -> list[str]:
    """List the other commands."""
    return [name for name in stage_names() if name != stage]


def has_key(model: type[BaseModel] | None, dotted: str) -> bool:
    """Tell whether a config model has a dotted key."""
    for part in dotted.split("."):
        if model is None or part not in model.model_fields:
            return False
        model = table_of(model.model_fields[part].annotation)
    return True


def flag_values(model: type[StageConfig], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that were typed as config values; some set a key of a table."""
    return spread(model, {name: value for name, value in flags.items() if value is not None})
