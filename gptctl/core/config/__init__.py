"""Config models: the only source of each default, bound, help text, flag, TOML key and row of docs/commands.md.

A command has one frozen model. fields.py declares its keys, option_groups.py holds the options that several commands
share, sources.py reads files, variables and --set, layers.py merges them and checks the result, and messages.py says
what is wrong.
"""

from gptctl.core.config.fields import (
    Declaration,
    argument,
    bare,
    choices_of,
    declaration,
    flag,
    is_list,
    key,
    output,
    spread,
    table_of,
)
from gptctl.core.config.layers import Layer, Others, build
from gptctl.core.config.option_groups import (
    DeviceOption,
    ProcessOptions,
    ReadingOptions,
    SeedOption,
    StorageOptions,
    WorkerOptions,
)
from gptctl.core.config.plugin_tables import with_plugin_tables
from gptctl.core.config.settings import Settings, StageConfig, given_in
from gptctl.core.config.sources import parse_set, read_environment, read_sets, read_toml, show, to_toml
from gptctl.core.config.values import Values, differing, fingerprint, flatten, look_up, merge, nest, plain, without

__all__ = [
    "Declaration",
    "DeviceOption",
    "Layer",
    "Others",
    "ProcessOptions",
    "ReadingOptions",
    "SeedOption",
    "Settings",
    "StageConfig",
    "StorageOptions",
    "Values",
    "WorkerOptions",
    "argument",
    "bare",
    "build",
    "choices_of",
    "declaration",
    "differing",
    "fingerprint",
    "flag",
    "flatten",
    "given_in",
    "is_list",
    "key",
    "look_up",
    "merge",
    "nest",
    "output",
    "parse_set",
    "plain",
    "read_environment",
    "read_sets",
    "read_toml",
    "show",
    "spread",
    "table_of",
    "to_toml",
    "with_plugin_tables",
    "without",
]
