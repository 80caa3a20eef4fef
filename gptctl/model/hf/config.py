"""A model's shape as transformers' config.json tells it, there and back. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from gptctl.core.config import plain
from gptctl.core.errors import DataError
from gptctl.model.config import ModelConfig
from gptctl.model.hf import layer_norm, rms_norm
from gptctl.model.hf.family import Family

# The tables follow transformers 5, src/transformers/models/*/configuration_*.py.
FAMILIES = (
    layer_norm.OPENAI, layer_norm.GPT2, layer_norm.GPT_NEO, rms_norm.LLAMA, rms_norm.ARCEE, rms_norm.QWEN3,
    rms_norm.MIXTRAL, rms_norm.QWEN3_MOE,
)  # fmt: skip
Values = dict[str, Any]


def family_of(config: ModelConfig) -> Family:
    """Return the class that is nearest to a config; `refusal` tells whether it computes the same."""
    if config.norm_position == "post":
        return layer_norm.OPENAI
    if config.norm == "layernorm":
        return layer_norm.GPT_NEO if is_banded(config) else layer_norm.GPT2
    if config.experts:
        return rms_norm.QWEN3_MOE if config.qk_norm else rms_norm.MIXTRAL
    if config.qk_norm:
        return rms_norm.QWEN3
    return rms_norm.LLAMA if config.activation == "swiglu" else rms_norm.ARCEE


def refusal(config: ModelConfig) -> str:
    """Say why no class of transformers computes what a config does; empty where one does.

    What depends on the weights, biases that a class has no place for, is told by `tensors.to_theirs`.
    """
    family = family_of(config)
    values = plain(config)
    found = [f"{key} = {values[key]}" for key, allowed in family.needs.items() if values[key] not in allowed]
    if config.activation not in family.activations:
        found.append(f"activation = {config.activation}")
    if is_banded(config) and family is not layer_norm.GPT_NEO:
        found.append(f"layer_pattern = {','.join(config.layer_pattern)}")
    if config.resolved_kv_heads != config.heads and "kv_heads" not in {ours for ours, _, _ in family.keys}:
        found.append(f"kv_heads = {config.kv_heads}")
    if family is layer_norm.OPENAI and config.intermediate_size != 4 * config.hidden_size:
        found.append(f"intermediate_size = {config.intermediate_size}, not 4 * hidden_size")
    return f"{family.architecture} has no {', '.join(found)}" if found else ""


def is_banded(config: ModelConfig) -> bool:
    """Return whether a layer looks back less far than the context reaches."""
    return any(0 < config.layer_window(layer) < config.max_seq_len for layer in range(config.layers))


def to_values(config: ModelConfig, dtype: str = "float32") -> Values:
    """Return the settings that transformers reads."""
    family = family_of(config)
    ours = plain(config) | {"kv_heads": config.resolved_kv_heads, "tie_embeddings": ties(config)}
    values: Values = {"architectures": [family.architecture], "model_type": family.model_type, "dtype": dtype}
    values |= {theirs: ours[key] for key, theirs, _ in family.keys}
    values[family.activation_key] = family.activations[config.activation]
    values |= {key: value for key, (value, _) in family.constants.items()}
    if config.positions == "rope":
        values |= {
            "head_dim": config.head_dim,
            "rope_theta": config.rope_theta,  # as transformers 4 and others read it
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        }
    if family is layer_norm.GPT_NEO:
        reach = ["local" if config.layer_window(layer) else "global" for layer in range(config.layers)]
        values |= {"attention_types": [[reach, 1]], "attention_layers": reach}
    end = config.end_of_text if config.end_of_text >= 0 else None
    return values | {"bos_token_id": end, "eos_token_id": end, "use_cache": True}


def ties(config: ModelConfig) -> bool:
    """Return whether transformers' embedding serves as its head: not where it holds sqrt(width) times ours."""
    return config.tie_embeddings and not config.embedding_scale


def family_named(values: Values, where: str) -> Family:
    """Return the class of a config.json. Raises DataError (3) that lists those that are known."""
    told = values.get("architectures")
    named = told[0] if isinstance(told, list) and told else None
    for family in FAMILIES:
        if values.get("model_type") == family.model_type and named in (family.architecture, None):
            return family
    raise DataError(
        f"{where} is of an unknown architecture: {named or values.get('model_type')}",
        f"known are {', '.join(family.architecture for family in FAMILIES)}",
    )


def candidates(values: Values, where: str) -> Iterator[tuple[Family, ModelConfig]]:
    """Return what a config.json says: first in our words, where they still agree with transformers' own, then in those.

    A folder that gptctl wrote may have been changed by transformers since; then only transformers' words count.
    Raises DataError (3) for what no config of ours can say.
    """
    family = family_named(values, where)
    told = from_values(values, family, where)
    if "gptctl" in values:
        ours = validated(values["gptctl"], where)
        same = {"end_of_text": told.end_of_text}
        if from_values(to_values(ours), family_of(ours), where).model_copy(update=same) == told:
            yield family, ours
    yield family, told


def from_values(values: Values, family: Family, where: str) -> ModelConfig:
    """Read transformers' settings. Raises DataError (3) for those that no config of ours can say."""
    try:
        return translate(values, family, where)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{where} has a setting of the wrong kind: {error}", "copy it again from its source") from error


def translate(values: Values, family: Family, where: str) -> ModelConfig:
    """Return the config that transformers' settings stand for. Raises what wrong types raise, too."""
    values = {family.synonyms.get(key, key): value for key, value in values.items()}
    ours: Values = {key: allowed[0] for key, allowed in family.needs.items()}
    ours |= {"layer_pattern": ["full"], "embedding_scale": False, "bias": ours["norm"] == "layernorm"}
    for key, theirs, default in family.keys:
        value = values.get(theirs, default)
        ours[key] = (ours[key] or value) if key == "bias" else value
    if not ours.get("intermediate_size"):
        ours["intermediate_size"] = 4 * ours["hidden_size"]
    if "kv_heads" in ours and not ours["kv_heads"]:
        ours["kv_heads"] = ours["heads"]
    stands = {key: values.get(key, absent) for key, (_, absent) in family.constants.items()}
    strange = [
        f"{key} = {stands[key]}"
        for key, (value, _) in family.constants.items()
        if (stands[key] or None) != (value or None)
    ]
    activation = values.get(family.activation_key, next(iter(family.activations.values())))
    activation = family.synonyms.get(activation, activation)
    known = {theirs: mine for mine, theirs in family.activations.items()}
    if activation not in known:
        strange.append(f"{family.activation_key} = {activation}")
    ours["activation"] = known.get(activation)
    if ours["positions"] == "rope":
        head_dim = ours["hidden_size"] // ours["heads"]
        if values.get("head_dim", 128 if family is rms_norm.QWEN3 else None) not in (None, head_dim):
            strange.append(f"head_dim = {values.get('head_dim', 128)}, not hidden_size / num_attention_heads")
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        if (rope.get("rope_type") or rope.get("type") or "default") != "default":
            strange.append(f"rope_type = {rope.get('rope_type') or rope.get('type')}")
        default = 1e6 if family is rms_norm.MIXTRAL else 1e4
        ours["rope_theta"] = rope.get("rope_theta") or values.get("rope_theta") or default
    if family is layer_norm.GPT_NEO:
        ours["layer_pattern"] = ["sliding" if reach == "local" else "full" for reach in reach_of(values)]
    if strange:
        raise DataError(f"{where} has what gptctl does not compute: {', '.join(strange)}", "export a model without it")
    return validated(ours | {"end_of_text": end_of_text(values)}, where)


def read_model_config(values: Values, where: str) -> ModelConfig:
    """Return the shape that a config.json tells, in our words or transformers'. Raises DataError (3) if it tells
    none."""
    if "model_type" in values:
        return next(candidates(values, where))[1]
    if "gptctl" not in values:
        raise DataError(f"{where} describes no model", "it names no model_type of transformers")
    return validated(values["gptctl"], where)


def reach_of(values: Values) -> list[str]:
    """Return "global" or "local" for each layer of a GPT-Neo."""
    if values.get("attention_layers"):
        return list(values["attention_layers"])
    kinds = values.get("attention_types") or [[["global", "local"], 12]]
    return [kind for pattern, times in kinds for _ in range(times) for kind in pattern]


def end_of_text(values: Values) -> int:
    """Return the id of the first token that ends a text, -1 if none is named."""
    found = values.get("eos_token_id")
    if isinstance(found, list):
        found = found[0] if found else None
    return -1 if found is None else int(found)


def validated(values: Values, where: str) -> ModelConfig:
    """Make a config of its values. Raises DataError (3) where they do not fit together."""
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where} describes no model: {place or 'sizes'}: {first['msg']}", "check the file") from error
