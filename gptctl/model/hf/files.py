"""The other files of a model folder of transformers: tokenizer, chat template and generation settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.model.config import ModelConfig
from gptctl.text.tokenization import convert
from gptctl.text.tokenizer import END_OF_TEXT_NAMES

__all__ = ["read_tokenizer"]

Values = dict[str, Any]
TEMPLATE = "chat_template.jinja"


def write_tokenizer_files(folder: Path, config: ModelConfig, tokenizer_json: str, extra: Values) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json."""
    atomic.write_text(folder / "tokenizer.json", tokenizer_json)
    names = token_names(tokenizer_json)
    ids = {name: number for number, name in names.items()}
    known = [ids[name] for name in END_OF_TEXT_NAMES if name in ids]
    end = config.end_of_text if config.end_of_text >= 0 else next(iter(known), None)
    stops = list(extra.get("stop_ids") or ([] if end is None else [end]))
    settings: Values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": False,
    }
    name = None if end is None else names.get(end)
    if name is not None:  # one token begins, ends and pads texts, as in training
        settings |= {"bos_token": name, "eos_token": name, "pad_token": name}
    if extra.get("chat_template"):
        settings["chat_template"] = extra["chat_template"]
    atomic.write_json(folder / "tokenizer_config.json", settings)
    generation: Values = {"do_sample": True, "temperature": 1.0, "top_p": 1.0}
    if stops:
        first = stops[0] if end is None else end
        ends = stops if len(stops) > 1 else stops[0]
        generation |= {"bos_token_id": first, "eos_token_id": ends, "pad_token_id": first}
    atomic.write_json(folder / "generation_config.json", generation)


def token_names(tokenizer_json: str) -> dict[int, str]:
    """Return the tokens of a tokenizer.json by id, empty if it lists none."""
    definition = json.loads(tokenizer_json)
    vocabulary = (definition.get("model") or {}).get("vocab")
    names = {number: name for name, number in vocabulary.items()} if isinstance(vocabulary, dict) else {}
    return names | {token["id"]: token["content"] for token in definition.get("added_tokens") or []}


def read_tokenizer(folder: Path) -> str:
    """Return the text of a folder's tokenizer.json, which is created from older formats if necessary.

    Raises DataError (3) if there is no tokenizer.
    """
    names = convert.find_files([path.name for path in folder.iterdir()])
    if not names:
        raise DataError(f"{folder} has no tokenizer", f"put one beside the weights: {convert.FORMATS}")
    found = {name: (folder / name).read_bytes() for name in names}
    if len(found) > 1 and any(b"</w>" in data for data in found.values()):
        raise DataError(
            f"the tokenizer in {folder} is GPT-1's, which is not byte-level",
            "open it with transformers' AutoTokenizer, whose save_pretrained writes a tokenizer.json",
        )
    return convert.to_tokenizer_json(found)


def read_extra(folder: Path, config: Values) -> Values:
    """Return the chat template and the stop tokens of a folder that another program wrote.

    Raises DataError (3) if a stop token is not a number.
    """
    extra: Values = {}
    if template := read_template(folder):
        extra["chat_template"] = template
    ends = read_optional_json(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
    if ends is not None:
        extra["stop_ids"] = list(ends) if isinstance(ends, list) else [ends]
        if not all(type(number) is int for number in extra["stop_ids"]):
            raise DataError(f"{folder} has an eos_token_id that is not a number", "copy its JSON files again")
    return extra


def read_template(folder: Path) -> str:
    """Return the chat template of a folder, empty if it has none; if it has several, the default one."""
    if (folder / TEMPLATE).exists():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    found = read_optional_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, dict)]
        found = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else ""


def read_optional_json(path: Path) -> Values:
    """Return the JSON object of a file, empty if there is no such file. Raises DataError (3) if it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", "copy it again from its source") from error
    return found if isinstance(found, dict) else {}
