"""Add each plug-in's settings to a command's config, as a table under the plug-in's name."""

from __future__ import annotations

from typing import Any

from pydantic import create_model

from gptctl.core import plugins
from gptctl.core.config.fields import key
from gptctl.core.config.settings import StageConfig
from gptctl.core.errors import UsageError


def with_plugin_tables(model: type[StageConfig], package: str, names: tuple[str, ...]) -> type[StageConfig]:
    """Return a config model with a table for each of these plug-ins: its `Config`, with its defaults.

    Raises UsageError (2) if a plug-in cannot be loaded, or if its name is that of another key.
    """
    if not names:
        return model
    tables: dict[str, Any] = {}
    for name in names:
        if name.startswith("_") or hasattr(model, name) or name in model.model_fields:
            what = f"an option of {model.__name__.lower()}" if name in model.model_fields else "a reserved name"
            raise UsageError(f"a plug-in cannot be called '{name}': it is {what}", "rename the file or entry point")
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
