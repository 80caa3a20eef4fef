"""The other files of a model folder of transformers: tokenizer, chat template and generation settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.core.regular_files import read_small
from gptctl.model.config import ModelConfig
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenization import convert
from gptctl.text.tokenizer import END_OF_TEXT_NAMES

__all__ = ["read_tokenizer"]

Values = dict[str, Any]
TEMPLATE = "chat_template.jinja"
TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
SPECIAL_MAP, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"
COMPANIONS = (TOKENIZER_CONFIG, GENERATION_CONFIG, SPECIAL_MAP, ADDED_TOKENS, TEMPLATE)
SPECIAL_KINDS = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")
NOT_SETTINGS = ("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config")


def files_read(folder: Path) -> tuple[str, ...]:
    """Return the names of all files that `read_tokenizer` and `read_extra` look at."""
    return files_among([path.name for path in folder.iterdir()])


def files_among(present: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the files that are read beside the weights and config.json, if these are present."""
    return (*convert.find_files(present), *COMPANIONS)


def write_tokenizer_files(folder: Path, config: ModelConfig, tokenizer_json: str, extra: Values) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json."""
    atomic.write_text(folder / "tokenizer.json", tokenizer_json)
    settings: Values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": False,
    }
    special = SpecialTokens.from_extra(extra)
    end = None if special else own_end(config, tokenizer_json)
    if special:
        settings |= special.to_json()
    elif (name := token_names(tokenizer_json).get(-1 if end is None else end)) is not None:
        # One token begins, ends and pads texts, as in training.
        settings |= {"bos_token": name, "eos_token": name, "pad_token": name}
    if extra.get("chat_template"):
        settings["chat_template"] = extra["chat_template"]
    atomic.write_json(folder / TOKENIZER_CONFIG, settings)
    generation: Values = extra.get("generation_config") or {"do_sample": True, "temperature": 1.0, "top_p": 1.0}
    atomic.write_json(folder / GENERATION_CONFIG, generation | generation_ids(tokenizer_json, extra, end))


def own_end(config: ModelConfig, tokenizer_json: str) -> int | None:
    """Return the end-of-text token of a model of gptctl's own."""
    ids = {name: number for number, name in token_names(tokenizer_json).items()}
    known = [ids[name] for name in END_OF_TEXT_NAMES if name in ids]
    return config.end_of_text if config.end_of_text >= 0 else next(iter(known), None)


def generation_ids(tokenizer_json: str, extra: Values, end: int | None) -> Values:
    """Return the ids in generation_config.json: those of the special tokens, and the tokens that end a text."""
    named = token_ids(tokenizer_json, extra)
    stops = list(extra.get("stop_ids") or ([] if end is None else [end]))
    if not stops:
        return named
    first = stops[0] if end is None else end
    own = {} if named else {"bos_token_id": first, "pad_token_id": first}
    return named | own | {"eos_token_id": stops if len(stops) > 1 else stops[0]}


def token_ids(tokenizer_json: str, extra: Values) -> Values:
    """Return the ids of the special tokens of another program's model, as in its config.json; else nothing."""
    special = SpecialTokens.from_extra(extra)
    if special is None:
        return {}
    ids = {name: number for number, name in token_names(tokenizer_json).items()}
    return {
        f"{kind}_id": ids.get(name or "") for kind, name in special.to_json().items() if name or kind != "pad_token"
    }


def token_names(tokenizer_json: str) -> dict[int, str]:
    """Return the tokens of a tokenizer.json by id, empty if it lists none or is damaged."""
    try:
        definition = json.loads(tokenizer_json)
        vocabulary = (definition.get("model") or {}).get("vocab") or {}
        if isinstance(vocabulary, list):  # of Unigram: tokens and their scores
            vocabulary = {name: number for number, (name, _) in enumerate(vocabulary)}
        names = {number: name for name, number in vocabulary.items()}
        return names | {token["id"]: token["content"] for token in definition.get("added_tokens") or []}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}  # whoever parses the tokenizer says what is wrong with it


def read_tokenizer(folder: Path) -> str:
    """Return the text of a folder's tokenizer.json, which is created from older formats if necessary.

    Tokens that only the other files of the tokenizer name are added. Raises DataError (3) if there is no tokenizer.
    """
    names = convert.find_files([path.name for path in folder.iterdir()])
    if not names:
        raise DataError(f"{folder} has no tokenizer", f"put one beside the weights: {convert.FORMATS}")
    found = {name: read_small(folder / name) for name in names}
    if len(found) > 1 and any(b"</w>" in data for data in found.values()):
        raise DataError(
            f"the tokenizer in {folder} is GPT-1's, which is not byte-level",
            "open it with transformers' AutoTokenizer, whose save_pretrained writes a tokenizer.json",
        )
    text = convert.to_tokenizer_json(found)
    settings = tokenizer_settings(folder)
    begins = settings.get("add_bos_token") and len(found) > 1  # a tokenizer.json tells it by its post-processor
    return convert.extend(text, added_tokens(folder, settings), name_of(settings.get("bos_token")) if begins else None)


def tokenizer_settings(folder: Path) -> Values:
    """Return the values of tokenizer_config.json, and the roles of tokens in an older folder's special_tokens_map.json.

    As in transformers, the older file decides unless the newer one lists the added tokens.
    """
    settings, roles = read_optional_json(folder / TOKENIZER_CONFIG), read_optional_json(folder / SPECIAL_MAP)
    return roles | settings if "added_tokens_decoder" in settings else settings | roles


def added_tokens(folder: Path, settings: Values) -> list[Values]:
    """Return the tokens that a tokenizer has besides its vocabulary, in the order of their ids.

    They stand in tokenizer_config.json as added_tokens_decoder, or in older folders in added_tokens.json, with the
    special ones in special_tokens_map.json. A special token that has a role is added, too, where it is missing.
    """
    decoder = settings.get("added_tokens_decoder")
    more = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    more = list(more.values()) if isinstance(more, dict) else more if isinstance(more, list) else []
    roles = [name_of(value) for value in (*map(settings.get, SPECIAL_KINDS), *more)]
    special = [name for name in roles if name]
    if decoder:
        found = [decoder[number] for number in sorted(decoder, key=int)]
    else:
        numbered = read_optional_json(folder / ADDED_TOKENS)
        names = sorted(numbered, key=numbered.__getitem__)
        found = [{"content": name, "special": name in special, "normalized": name not in special} for name in names]
    return found + [{"content": name, "special": True, "normalized": False} for name in special]


def name_of(value: object) -> str | None:
    """Return the name of a token, which is stored as text or as a table with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def read_extra(folder: Path, config: Values, tokenizer_json: str) -> Values:
    """Return what the files of another program's folder say about its texts.

    That is the special tokens, the tokens that end a generated text, the chat template, and generation settings. Raises
    DataError (3) if a stop token is not a number.
    """
    extra: Values = {}
    if template := read_template(folder):
        extra["chat_template"] = template
    generation = read_optional_json(folder / GENERATION_CONFIG)
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    if ends is not None:
        extra["stop_ids"] = list(ends) if isinstance(ends, list) else [ends]
        if not all(type(number) is int for number in extra["stop_ids"]):
            raise DataError(f"{folder} has an eos_token_id that is not a number", "copy its JSON files again")
    if special := read_special_tokens(folder, generation | config, tokenizer_json):
        extra["special_tokens"] = special.to_json()
    if kept := {name: value for name, value in generation.items() if name not in NOT_SETTINGS}:
        extra["generation_config"] = kept
    return extra


def check_vocabulary(tokenizer_json: str, vocab_size: int, folder: Path) -> None:
    """Raise DataError (3) for a tokenizer with more tokens than the model has embeddings."""
    size = max(token_names(tokenizer_json), default=-1) + 1
    if size > vocab_size:
        raise DataError(
            f"the tokenizer in {folder} has {size:,} tokens, the model has embeddings for {vocab_size:,}",
            "save the model again after resize_token_embeddings, or take the tokenizer that it was trained with",
        )


def read_special_tokens(folder: Path, ids: Values, tokenizer_json: str) -> SpecialTokens | None:
    """Return the special tokens of a folder; None if nothing names the one that ends a text.

    The files of the tokenizer decide, then the ids in config.json.
    """
    names = token_names(tokenizer_json)
    known = set(names.values())
    settings = tokenizer_settings(folder)

    def named(kind: str) -> str | None:
        if kind in settings:
            found = name_of(settings[kind])
        else:
            number = ids.get(f"{kind}_id")
            number = number[0] if isinstance(number, list) and number else number
            found = names.get(number) if isinstance(number, int) else None
        return found if found in known else None

    end = named("eos_token") or next((name for name in END_OF_TEXT_NAMES if name in known), None)
    return SpecialTokens(named("bos_token"), end, named("pad_token")) if end else None


def read_template(folder: Path) -> str:
    """Return the chat template of a folder, empty if it has none; if it has several, the default one."""
    if (folder / TEMPLATE).exists():
        return read_small(folder / TEMPLATE).decode()
    found = read_optional_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, dict)]
        found = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else ""


def read_optional_json(path: Path) -> Values:
    """Return the JSON object of a file, empty if there is no such file. Raises DataError (3) if it is damaged."""
    try:
        found = json.loads(read_small(path))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", "copy it again from its source") from error
    return found if isinstance(found, dict) else {}
