"""Sliding windows in the config.json of transformers, in both directions. Needs no torch."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf.config_values import MAX_LAYERS
from gptctl.model.hf.family_spec import Values, WindowKeys

LAYER_TYPES = {"full_attention": "full", "sliding_attention": "sliding", "global": "full", "local": "sliding"}


def read_windows(values: Values, keys: WindowKeys, layers: int, unsupported: list[str]) -> Values:
    """Return the keys of our config. Settings that gptctl does not compute are added to `unsupported`."""
    if keys.style == "attention_layers":
        found = attention_layers(values)
        if values.get("attention_layers") not in (None, found):
            unsupported.append("attention_layers that are not those of attention_types")
        check_length("attention_types", found, layers, unsupported)
        return {"layer_pattern": [LAYER_TYPES.get(kind, kind) for kind in found]}
    window = values.get("sliding_window", keys.default)
    if keys.switch and not values.get(keys.switch, False):
        window = None
    if window == 0:
        unsupported.append("sliding_window = 0")
    if keys.style == "all":
        return {"layer_pattern": ["sliding"], "sliding_window": window} if window else {}
    told = values.get("layer_types")
    if told is not None:
        check_length("layer_types", told, layers, unsupported)
    elif keys.default_types and (window or not keys.switch):
        told = keys.default_types(values, layers)
    kinds = [LAYER_TYPES.get(kind) for kind in (told or ["full_attention"])]
    if None in kinds:
        unsupported.append(f"layer_types = {','.join(sorted(set(told or [])))}")
        return {}
    if "sliding" not in kinds:
        return {}
    if not window:
        unsupported.append("layer_types with sliding_attention, without sliding_window")
        return {}
    return {"layer_pattern": kinds[:layers], "sliding_window": window}


def attention_layers(values: Values) -> list[str]:
    """Return "global" or "local" for each layer, which GPT-Neo gives as patterns and repetitions."""
    patterns = values.get("attention_types") or [[["global", "local"], 12]]
    return [kind for pattern, times in patterns for _ in range(min(times, MAX_LAYERS)) for kind in pattern]


def check_length(name: str, told: list[str], layers: int, unsupported: list[str]) -> None:
    """Add a list that does not have one entry for each layer to `unsupported`."""
    if len(told) != layers:
        unsupported.append(f"{name} of {len(told)} layers, not {layers}")


def write_windows(config: ModelConfig, keys: WindowKeys) -> Values:
    """Return the keys of config.json."""
    windows = effective_windows(config)
    if keys.style == "attention_layers":
        kinds = ["local" if config.layer_window(layer) else "global" for layer in range(config.layers)]
        return {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": config.sliding_window}
    found: Values = {"sliding_window": config.sliding_window if any(windows) else None}
    if keys.switch:
        found[keys.switch] = any(windows)
    if keys.style == "layer_types":
        found["layer_types"] = ["sliding_attention" if window else "full_attention" for window in windows]
    return found


def effective_windows(config: ModelConfig) -> list[int]:
    """Return how many tokens each layer sees; 0 means all that a sequence can have."""
    found = [config.layer_window(layer) for layer in range(config.layers)]
    return [window if window < config.max_seq_len else 0 for window in found]
