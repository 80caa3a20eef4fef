"""One frozen config model per stage: the only source of each default, bound, help text, flag, TOML key and document.

Precedence: flag > --set > GPTCTL_* environment > --config file > preset > default. All errors are reported at once.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import tomli_w
import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from gptctl.core.errors import UsageError
from gptctl.core.machine import available_cpus
from gptctl.core.plugins import did_you_mean
from gptctl.core.redact import redacted

Values = dict[str, Any]


def argument(default: Any, metavar: str, help: str, *, reads: bool = True) -> Any:
    """Declare a positional argument. It names what is read, so it is never part of a run's settings."""
    notes: Values = {"argument": metavar, "runtime": True, "reads": reads}
    return Field(default, description=help, json_schema_extra=notes)


def flag(
    default: Any,
    help: str,
    *,
    panel: str = "Options",
    short: str = "",
    runtime: bool = False,
    switch: bool = False,
    path: str = "",
    reads: bool = False,
    choices: Callable[[], Iterable[str]] | None = None,
    **bounds: Any,
) -> Any:
    """Declare a config key that is a command-line flag too.

    `runtime` keys (paths, worker counts) cannot change a result and are left out of the fingerprint. A `switch` has no
    --no- form. `path` is the key that the flag sets where it is a table's. A flag that `reads` names files or folders;
    `choices` lists the values that the shell completes.
    """
    extra: Values = {"flag": True, "panel": panel, "short": short, "runtime": runtime, "switch": switch, "path": path}
    extra |= {"reads": reads, "choices": choices}
    return Field(default, description=help, json_schema_extra=extra, **bounds)


def key(default: Any, help: str, *, runtime: bool = False, **bounds: Any) -> Any:
    """Declare a config key for TOML files and --set only."""
    return Field(default, description=help, json_schema_extra={"runtime": runtime}, **bounds)


def extra(field: FieldInfo) -> Values:
    """Return what `argument`, `flag` or `key` noted about a field."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


class Settings(BaseModel):
    """A frozen group of config keys; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=Settings)


class StageConfig(Settings):
    """What every stage has."""

    workers: int = flag(
        0, "Worker processes; 0 takes one per processor. The output is the same for any number.",
        panel="Runtime", runtime=True, ge=0,
    )  # fmt: skip
    engine: Literal["processes", "serial", "ray"] = flag(
        "processes", "What runs the shard tasks. The output is the same for each.", panel="Runtime", runtime=True
    )
    ray_address: str | None = flag(
        None, "HOST:PORT of a Ray cluster for --engine ray, else RAY_ADDRESS; without one, this machine.",
        panel="Runtime", runtime=True,
    )  # fmt: skip
    seed: int = flag(0, "Seed of everything random.", panel="Runtime")

    @model_validator(mode="before")
    @classmethod
    def over_preset(cls, values: Any) -> Any:
        """Lay what is given over the preset: Clean(preset="basic") from Python is what the command line makes."""
        return merge(cls.preset_layer(values), values) if isinstance(values, dict) else values

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the values that the chosen preset stands for; they lie above the defaults and below everything
        else."""
        return {}

    def settings(self) -> Values:
        """Return the keys that can change a result, in TOML's types."""
        return {
            name: plain(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not extra(field).get("runtime")
        }

    def sources(self) -> dict[str, list[str]]:
        """Return what is read, by the key that names it: absolute paths, URIs, or "-" for a pipe."""
        found: dict[str, list[str]] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name) if extra(field).get("reads") else None
            if value:
                found[name] = [absolute(str(one)) for one in ([value] if isinstance(value, str) else value)]
        return found

    def executor_options(self) -> Values:
        """Return what the engine's run() must know besides the number of workers."""
        return {"address": self.ray_address} if self.engine == "ray" else {}

    def worker_count(self) -> int:
        """Resolve 0 to the number of processors this process may use; with Ray it stays 0, all of the cluster's."""
        if self.engine == "serial":
            return 1
        if self.engine == "ray":
            return self.workers
        return self.workers or available_cpus()


class DataConfig(StageConfig):
    """What every stage that reads documents has."""

    text_column: str = flag("text", "Column that holds the text.", panel="Input")
    id_column: str = flag(
        "id", "Column that holds the document's id; without it ids are made from file and position.", panel="Input"
    )
    limit: int = flag(0, "Read only the first N documents; 0 reads all.", panel="Input", ge=0)
    max_bad: float = key(0.001, "Share of unreadable records above which the stage fails.", runtime=True, ge=0, le=1)
    max_doc_bytes: int = key(16 * 2**20, "Longest record read, in bytes; longer ones are quarantined.", ge=1024)


def absolute(path: str) -> str:
    """Return a path that holds in any working directory; URIs and "-" do already."""
    return path if path == "-" or "://" in path else os.path.abspath(path)  # noqa: PTH100 (a glob is no path yet)


def plain(value: Any) -> Any:
    """Reduce a config value to TOML's types: models to tables, tuples to lists, paths to strings."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def fingerprint(values: Values) -> str:
    """Hash settings: equal settings give equal fingerprints, whatever the order of their keys."""
    return xxhash.xxh3_128_hexdigest(repr(sorted(flatten(values).items())).encode())


def flatten(values: Mapping[str, Any], prefix: str = "") -> Values:
    """Turn nested tables into dotted keys."""
    flat: Values = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def differing(old: Values, new: Values) -> list[str]:
    """Name the dotted keys on which two settings differ, each with both values."""
    left, right = flatten(old), flatten(new)
    return [
        f"{name} (was {left.get(name, 'unset')!r}, now {right.get(name, 'unset')!r})"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def to_toml(values: Values) -> str:
    """Write settings as TOML; keys that are unset (None) are left out, which means their default."""

    def without_none(table: Values) -> Values:
        return {k: without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}

    return tomli_w.dumps(without_none(values))


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


def nest(dotted: str, value: Any) -> Values:
    """Turn "a.b", 1 into {"a": {"b": 1}}."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def read_toml(path: Path, stage: str, stages: list[str]) -> Values:
    """Read a config file. A table named like a stage is for that stage alone, other keys for every stage."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"no such config file: {path}", "check the path after --config") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "see https://toml.io for the format") from error
    own = values.get(stage, {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: '{stage}' is no table", f"write its keys below [{stage}]")
    shared = {name: value for name, value in values.items() if name not in stages}
    return merge(shared, own)


def read_environment(
    model: type[Settings], environment: Mapping[str, str], known_elsewhere: Callable[[str], bool]
) -> Values:
    """Read GPTCTL_KEY and GPTCTL_TABLE__KEY variables; a key of another stage is passed over."""
    values: Values = {}
    for name, raw in sorted(environment.items()):
        if not name.startswith("GPTCTL_") or name == "GPTCTL_CACHE":
            continue
        dotted = name.removeprefix("GPTCTL_").lower().replace("__", ".")
        if dotted.split(".")[0] in model.model_fields:
            values = merge(values, parse_set(f"{dotted}={raw}"))
        elif not known_elsewhere(dotted.split(".")[0]):
            near = did_you_mean(dotted, list(model.model_fields))
            raise UsageError(f"environment variable {name} names no config key{near}", f"unset it: unset {name}")
    return values


def merge(low: Values, high: Values) -> Values:
    """Lay `high` over `low`, table by table."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def build(model: type[Model], layers: list[tuple[str, Values]]) -> tuple[Model, dict[str, str]]:
    """Merge layers, lowest first, into a config; also say which layer each dotted key came from.

    Raises UsageError (exit code 2) that names every bad key at once.
    """
    merged: Values = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        merged = merge(merged, values)
        origins |= dict.fromkeys(flatten(values), origin)
    problems = unknown_keys(model, merged)
    known = without(merged, [name for name, _ in problems])
    messages = [message for _, message in problems]
    try:
        config = model.model_validate(split_lists(model, known))
    except ValidationError as error:
        messages += [describe(model, item) for item in error.errors()]
        config = None
    if messages or config is None:
        raise UsageError("; ".join(messages), "see --help and --print-config for the keys and their defaults")
    return config, origins


def unknown_keys(model: type[BaseModel], values: Values, prefix: str = "") -> list[tuple[str, str]]:
    """List the keys that a config model does not have, as (dotted key, message)."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            near = did_you_mean(name, list(model.model_fields))
            found.append((prefix + name, f"config key '{prefix}{name}' is not known{near}"))
        elif isinstance(value, dict) and (table := as_model(field.annotation)):
            found += unknown_keys(table, value, f"{prefix}{name}.")
    return found


def without(values: Values, dotted: list[str], prefix: str = "") -> Values:
    """Copy nested values, leaving out some dotted keys."""
    return {
        name: without(value, dotted, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if prefix + name not in dotted
    }


def as_model(annotation: Any) -> type[BaseModel] | None:
    """Return the config model a field holds, if it is a table."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def split_lists(model: type[BaseModel], values: Values) -> Values:
    """Split "a,b" where a list is wanted, so that flags, --set and the environment can write it short."""
    out: Values = {}
    for name, value in values.items():
        annotation = model.model_fields[name].annotation
        table = as_model(annotation)
        if isinstance(value, dict) and table:
            value = split_lists(table, value)
        elif isinstance(value, str) and is_list(annotation):
            value = [item.strip() for item in value.split(",") if item.strip()]
        out[name] = value
    return out


def is_list(annotation: Any) -> bool:
    """Return whether a field holds a list."""
    return get_origin(annotation) in (list, tuple) or any(get_origin(a) in (list, tuple) for a in get_args(annotation))


def describe(model: type[BaseModel], item: Any) -> str:
    """Turn one pydantic error into words: the key, what is wrong, what was given."""
    dotted = ".".join(str(part) for part in item["loc"])
    field = model.model_fields.get(str(item["loc"][0])) if item["loc"] else None
    if item["type"] == "missing" and field is not None:
        name = extra(field).get("argument") or f"--{dotted.replace('_', '-')}"
        return f"{name} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"config key '{dotted}': {message[0].lower()}{message[1:]}" if dotted else message


def show(config: StageConfig, origins: Mapping[str, str]) -> str:
    """Print a resolved config as TOML, each key with where its value came from; passwords in URIs are hidden."""
    lines, table = [], ""
    for line in to_toml(redacted(plain(config))).splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
            lines.append(line)
            continue
        name = line.split(" = ")[0] if " = " in line else ""
        lines.append(f"{line}  # {origins.get(table + name, 'default')}" if name else line)
    return "\n".join(lines) + "\n"
