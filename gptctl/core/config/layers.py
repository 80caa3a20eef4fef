"""Merge config values from all sources and check the result. Higher layers win, and all errors are reported at once.

Precedence: flag > --set > GPTCTL_* environment > --config file > preset > default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gptctl.core.config import messages
from gptctl.core.config.fields import declaration, given_twice, is_list, spread, table_of
from gptctl.core.config.messages import ARGUMENT, ENVIRONMENT, FLAG, PRESET, SET
from gptctl.core.config.settings import Settings, StageConfig
from gptctl.core.config.values import Values, flatten, look_up, merge, plain, without
from gptctl.core.errors import UsageError

Model = TypeVar("Model", bound=Settings)


@dataclass(frozen=True)
class Layer:
    """Values from one place.

    origin: "flag", "--set", "environment", "preset", or the path of a file.
    shared: the values are meant for every command, so those that this one does not have are left out.
    """

    origin: str
    values: Values
    shared: bool = False


@dataclass(frozen=True)
class Others:
    """What a command knows of the other commands: their names, and whether one of them has a dotted key."""

    names: tuple[str, ...] = ()
    have: Callable[[str], bool] = lambda dotted: False


def build(
    model: type[Model], layers: Sequence[Layer], others: Others | None = None, placeholders: bool = False
) -> tuple[Model, dict[str, str]]:
    """Merge layers, lowest first, into a config; also return the origin of each dotted key.

    With `placeholders`, keys that are required need not be given.
    Raises UsageError (2), which names every bad key at once.
    """
    others = others or Others()
    layers, problems = known_keys(model, layers, others)
    config, invalid = validate(model, layers, placeholders)
    problems += invalid
    if isinstance(config, StageConfig):
        unused, used_layers = without_unused(config, layers, others)
        problems += unused
        if used_layers != layers and not problems:
            return build(model, used_layers, others, placeholders)
    if problems or config is None:
        missing = all(problem.endswith(messages.MISSING) for problem in problems)
        hint = (
            f"type {messages.usage(model)}" if missing else f"see {messages.command(model)} --help and --print-config"
        )
        raise UsageError("; ".join(problems), hint)
    return config, origins_of(layers)


def origins_of(layers: Sequence[Layer]) -> dict[str, str]:
    """Return the highest layer that gives each dotted key, or an empty table."""
    return {name: layer.origin for layer in layers for name in given_keys(layer.values)}


def given_keys(values: Values, prefix: str = "") -> list[str]:
    """List the dotted keys of nested values, and the tables that are empty."""
    found: list[str] = []
    for name, value in values.items():
        found += given_keys(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [prefix + name]
    return found


def merged(layers: Sequence[Layer]) -> Values:
    """Merge the values of layers, lowest first."""
    values: Values = {}
    for layer in layers:
        values = merge(values, layer.values)
    return values


def known_keys(model: type[BaseModel], layers: Sequence[Layer], others: Others) -> tuple[list[Layer], list[str]]:
    """Bring each layer into the form of the model, without the keys that it does not have; say which those are.

    A shared layer may hold keys of other commands. A table of this command must be right in all its keys, except that
    an environment variable may name a key of the same table in another command.
    """
    kept, problems = [], []
    for layer in layers:
        for path, name in given_twice(model, layer.values):
            given = messages.named(model, path, layer.origin)
            problems.append(f"{given} has no effect beside {messages.named(model, name, layer.origin)}")
        values = normalized(model, layer.values)
        unknown = unknown_keys(model, values)
        for name in unknown:
            of_another = layer.shared and ("." not in name or layer.origin == ENVIRONMENT)
            if not (of_another and others.have(name)):
                problems.append(messages.unknown(model, name, layer.origin, look_up(values, name), others.names))
        kept.append(replace(layer, values=without(values, set(unknown))))
    return kept, problems


def normalized(model: type[BaseModel], values: Values) -> Values:
    """Write short forms out: "a,b" or a table where a list is wanted, and keys that stand for keys of tables."""
    out: Values = {}
    for name, value in spread(model, values).items():
        info = model.model_fields.get(name)
        if info is None:
            out[name] = value
            continue
        table = table_of(info.annotation)
        if isinstance(value, dict) and table:
            value = normalized(table, value)
        elif isinstance(value, dict) and declaration(info).pairs:
            value = [f"{metric}={number}" for metric, number in value.items()]
        elif isinstance(value, str) and is_list(info.annotation):
            value = [item.strip() for item in value.split(",") if item.strip()]
        out[name] = value
    return out


def unknown_keys(model: type[BaseModel], values: Values, prefix: str = "") -> list[str]:
    """List the dotted keys that a config model does not have."""
    found: list[str] = []
    for name, value in values.items():
        info = model.model_fields.get(name)
        if info is None:
            found.append(prefix + name)
        elif isinstance(value, dict) and (table := table_of(info.annotation)):
            found += unknown_keys(table, value, f"{prefix}{name}.")
    return found


def validate(model: type[Model], layers: Sequence[Layer], placeholders: bool = False) -> tuple[Model | None, list[str]]:
    """Check merged layers against the model. Return the config, or None and what is wrong.

    Validators find the keys that only the preset gives in their context.
    """
    given, origins = merged(layers), origins_of(layers)
    of_preset = frozenset(name for name, origin in origins.items() if origin == PRESET)
    absent = {name: placeholder(info) for name, info in model.model_fields.items() if info.is_required()}
    try:
        values = absent | given if placeholders else given
        return model.model_validate(values, context={PRESET: of_preset}), []
    except ValidationError as error:
        problems = [messages.invalid(model, item, given, origins) for item in error.errors()]
        return None, list(dict.fromkeys(problems))


def placeholder(info: FieldInfo) -> Any:
    """Return a value for a required key that was not given."""
    return ["-"] if is_list(info.annotation) else "-"


def without_unused(config: StageConfig, layers: Sequence[Layer], others: Others) -> tuple[list[str], list[Layer]]:
    """Say which keys were given and have no effect; leave out those that were meant for other command lines.

    These are environment variables, keys of a file that other commands have too, and values that equal the default.
    """
    reasons = config.without_effect()
    below = [replace(layer, values=without(layer.values, set(reasons))) for layer in layers]
    default, _ = validate(type(config), below, placeholders=True)
    defaults, problems, kept = flatten(plain(default)), [], []
    for layer in layers:
        dropped = set()
        for name, value in flatten(layer.values).items():
            reason = next((reasons[one] for one in reasons if f"{name}.".startswith(f"{one}.")), None)
            if reason is None or layer.origin == PRESET:
                continue
            if layer.origin in (FLAG, SET, ARGUMENT) or not (
                layer.origin == ENVIRONMENT
                or defaults.get(name) == plain(value)
                or (layer.shared and others.have(name))
            ):
                problems.append(f"{messages.named(type(config), name, layer.origin)} has no effect {reason}")
            else:
                dropped.add(name)
        kept.append(replace(layer, values=without(layer.values, dropped)) if dropped else layer)
    return problems, kept
