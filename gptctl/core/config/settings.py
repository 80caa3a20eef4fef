"""The base classes of all config models: a group of keys, and the config of a command."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from gptctl.core.config.fields import choices_of, declaration, key, spread, table_of
from gptctl.core.config.values import Values, merge, plain

# What other tools write as one file; the first are often compressed.
TEXT_SUFFIXES = (".csv", ".html", ".json", ".jsonl", ".md", ".ndjson", ".tar", ".tsv", ".txt")
FILE_SUFFIXES = (*TEXT_SUFFIXES, ".arrow", ".feather", ".gguf", ".npy", ".parquet", ".safetensors", ".zip")
COMPRESSION_SUFFIXES = (".bz2", ".gz", ".lz4", ".xz", ".zst")


class Settings(BaseModel):
    """A frozen group of config keys. An unknown key is an error.

    A table that is given in part keeps the other values of its default, also where that default is an instance whose
    values differ from those of its class. So setting one key changes that key alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def complete(cls, values: Any) -> Any:
        """Lay what is given over what holds without it."""
        if not isinstance(values, dict):
            return values
        given = spread(cls, given_in(values))
        return merge(cls.below(given), given)

    def without_effect(self) -> dict[str, str]:
        """Return the dotted keys and tables that have no effect beside the other values, each with the reason.

        A reason ends the sentence "KEY has no effect ...": "without --lora", "with --method exact".
        """
        tables = [(name, value) for name, value in vars(self).items() if isinstance(value, Settings)]
        return {f"{name}.{inner}": reason for name, table in tables for inner, reason in table.without_effect().items()}

    @classmethod
    def below(cls, given: Values) -> Values:
        """Return the values that lie below those given: the defaults of tables that are given in part."""
        fields = cls.model_fields
        return {
            name: plain(fields[name].default)
            for name, value in given.items()
            if isinstance(value, dict) and name in fields and isinstance(fields[name].default, Settings)
        }


def given_in(value: Any) -> Any:
    """Reduce groups of keys to those that were set on them, so that Recipe(lr=1) as a value gives that key alone."""
    if isinstance(value, Settings):
        return {name: given_in(vars(value)[name]) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {name: given_in(item) for name, item in value.items()}
    return value


class StageConfig(Settings):
    """The config of a command. Option groups and commands add the keys.

    instead: for keys that a user may expect here and that the command does not have, what to use instead.
    """

    instead: ClassVar[dict[str, str]] = {}

    plugins: tuple[str, ...] = key((), "Plug-in files to load, as --plugin does.", runtime=True)

    @classmethod
    def for_values(cls, chosen: Values) -> type[StageConfig]:
        """Return the model for these values: a command whose plug-ins have settings adds their tables to itself."""
        return cls

    @classmethod
    def below(cls, given: Values) -> Values:
        """Return the values of the chosen preset over the defaults of tables."""
        preset = cls.preset_layer(given)
        return merge(super().below(merge(preset, given)), preset)

    @model_validator(mode="after")
    def names_a_folder(self) -> StageConfig:
        """Refuse a file's name for an output folder: nobody who types it expects a folder."""
        for name, field in type(self).model_fields.items():
            value = vars(self)[name] if declaration(field).folder else None
            if str(value or "").startswith("hf://"):
                raise ValueError("-o names the Hugging Face hub, which is only read: write a folder, then 'hf upload'")
            if (folder := without_suffix(str(value or ""))) != (value or ""):
                more = ""
                if ".jsonl" in str(value):
                    more = f"; gptctl inspect {folder} --limit 0 --format jsonl prints rows"
                elif str(value).endswith(".parquet") and "parquet" in choices_of(formats_of(type(self))):
                    more = " --format parquet"
                raise ValueError(f"-o {value} names a file, but this command writes a folder: use -o {folder}{more}")
        return self

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the values that the chosen preset stands for. They lie above the defaults and below all else."""
        return {}

    @classmethod
    def own_keys(cls) -> list[str]:
        """List the keys of this group of options, without those that every command has."""
        return [name for name in cls.model_fields if name not in StageConfig.model_fields]

    def recorded(self) -> Values:
        """Return all keys, in TOML's types, as --print-config shows them and config.toml keeps them."""
        return dict(plain(self))

    def settings(self) -> Values:
        """Return the keys that can change a result, in TOML's types."""
        fields, values = type(self).model_fields, plain(self)
        left_out = {name for name, info in fields.items() if declaration(info).runtime or is_short(info)}
        return {name: value for name, value in values.items() if name not in left_out}

    def sources(self) -> dict[str, list[str]]:
        """Return what is read, by the key that names it: absolute paths, URIs, or "-" for a pipe."""
        found: dict[str, list[str]] = {}
        for name, field in type(self).model_fields.items():
            value = vars(self)[name] if declaration(field).reads else None
            if value:
                found[name] = [absolute(str(one)) for one in ([value] if isinstance(value, str) else value)]
        return found


def formats_of(model: type[BaseModel]) -> Any:
    """Return the type of a command's key `format`, or None if it has no such key."""
    return model.model_fields["format"].annotation if "format" in model.model_fields else None


def is_short(info: FieldInfo) -> bool:
    """Tell whether a key only stands for keys of tables."""
    return bool(declaration(info).paths) and table_of(info.annotation) is None


def without_suffix(path: str) -> str:
    """Return a path or URI without the suffixes of a file: "out.jsonl.gz" becomes "out".

    Names like "crawl.warc.gz" and "web.parquet.gz" stay, because nobody expects such a file from gptctl.
    """
    bare, suffix = os.path.splitext(path.partition("?")[0])  # noqa: PTH122 (it may be a URI)
    if suffix.lower() in COMPRESSION_SUFFIXES:
        inner = os.path.splitext(bare)[1].lower()  # noqa: PTH122
        return without_suffix(bare) if not inner or inner in TEXT_SUFFIXES else path
    return without_suffix(bare) if suffix.lower() in FILE_SUFFIXES else path


def absolute(path: str) -> str:
    """Return a path that holds in any working directory. URIs and "-" do already."""
    return path if path == "-" or "://" in path else os.path.abspath(path)  # noqa: PTH100 (a glob is not a path yet)
