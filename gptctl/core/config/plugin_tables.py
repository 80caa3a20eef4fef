"""Add each plug-in's settings to a command's config, as a table under the plug-in's name."""

from __future__ import annotations

from typing import Any

from pydantic import create_model

from gptctl.core import plugins
from gptctl.core.config.fields import key
from gptctl.core.config.settings import StageConfig


def with_plugin_tables(model: type[StageConfig], package: str, names: tuple[str, ...]) -> type[StageConfig]:
    """Return a config model with a table for each of these plug-ins: its `Config`, with its defaults.

    Raises UsageError (2) if a plug-in cannot be loaded.
    """
    if not names:
        return model
    tables: dict[str, Any] = {}
    for name in names:
        module = plugins.load(package, name)
        tables[name] = (module.Config, key(module.Config(), (module.__doc__ or name).splitlines()[0]))

    def reduce(config: StageConfig) -> tuple[Any, ...]:
        return restore, (model, package, names, {name: getattr(config, name) for name in type(config).model_fields})

    base = type(
        model.__name__, (model,), {"__module__": model.__module__, "__reduce__": reduce, "__doc__": model.__doc__}
    )
    return create_model(model.__name__, __base__=base, __module__=model.__module__, **tables)


def restore(model: type[StageConfig], package: str, names: tuple[str, ...], values: dict[str, Any]) -> StageConfig:
    """Rebuild such a config in another process. Its class is built again there, because no module holds it."""
    return with_plugin_tables(model, package, names).model_construct(**values)
