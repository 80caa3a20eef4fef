"""Resolve the revisions of the hub that a config names, once, so that everything is read at one commit.

run.json and config.toml then name the commit, and worker processes ask no server which it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from gptctl.core.config import Settings, declaration
from gptctl.core.context import Context
from gptctl.core.formatting import format_bytes
from gptctl.io.hub.uri import HubUri, is_hub

if TYPE_CHECKING:
    from gptctl.io.hub.data_files import Selection


Config = TypeVar("Config", bound=Settings)


def pin_config(config: Config, context: Context) -> Config:
    """Return a config whose URIs of the hub name commits, and say which files they select. Others are unchanged.

    Raises UsageError (2) for what the hub does not have, MachineError (4) if it refuses or does not answer.
    """
    pinned: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = None if declaration(field).folder else vars(config)[name]
        if isinstance(value, str) and is_hub(value):
            pinned[name] = pin(value, context)
        elif isinstance(value, Settings):
            inner = pin_config(value, context)
            pinned |= {} if inner is value else {name: inner}
        elif isinstance(value, tuple) and any(map(is_hub, value)):
            pinned[name] = tuple(pin(one, context) if is_hub(one) else one for one in value)
    return config.model_copy(update=pinned) if pinned else config


def pin(uri: str, context: Context) -> str:
    """Return a URI at a commit, and say what it selects of a dataset."""
    from gptctl.io.hub import client, data_files

    place = client.pin(HubUri.parse(uri))
    if place.kind == "dataset" and client.file_at(place) is None and client.file_at(place.at("manifest.json")) is None:
        context.info(f"{place}: {described(data_files.select(place))}")
    else:
        context.info(f"{uri} is read at {place}")
    return str(place)


def described(selection: Selection) -> str:
    """Return a sentence on the files that are read and on those that are not."""
    from gptctl.io.hub.data_files import named

    size = format_bytes(sum(file.size for file in selection.files))
    files = named(selection.files)
    left = f"; ignored: {named(selection.ignored)}" if selection.ignored else ""
    return f"reads {files} ({size}){left}"
