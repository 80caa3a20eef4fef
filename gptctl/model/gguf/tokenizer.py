"""A tokenizer as GGUF stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.hf.files import token_names
from gptctl.text.tokenization.convert import unicode_to_bytes
from gptctl.text.tokenization.split_patterns import PATTERNS
from gptctl.text.tokenizer import Tokenizer

# llama.cpp's names of the patterns that split text before merging.
SINGLE_DIGITS = PATTERNS["modern"].replace(r"\p{N}{1,3}", r"\p{N}")
PRE_TOKENIZERS = {PATTERNS["modern"]: "llama-bpe", PATTERNS["o200k"]: "gpt-4o", SINGLE_DIGITS: "qwen2"}
# llama.cpp opens no file without merges. No token is as long as these, so this merge is never applied.
NO_MERGE = "[none] [none]"
HINT = "export it with --format hf"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in GGUF's terms."""

    names: dict[int, str]  # tokens by id
    special_ids: frozenset[int]
    merges: list[str]
    pre_tokenizer: str
    end_of_text: int


def read_vocabulary(tokenizer_json: str, config: ModelConfig) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json.

    Raises UsageError (2) for a tokenizer that is not byte-level: its tokens must be bytes, or characters of one byte.
    """
    tokenizer = Tokenizer.from_json(tokenizer_json)
    definition = json.loads(tokenizer_json)
    model, names = definition["model"], token_names(tokenizer_json)
    special = frozenset(tokenizer.special_ids)
    if not (is_byte_level(definition) or (model["type"] == "WordLevel" and tokenizer.lossless)):
        raise UsageError(f"GGUF is written with byte-level tokenizers, not {model['type']} of this kind", HINT)
    if model["type"] == "WordLevel":
        symbols = {byte: symbol for symbol, byte in unicode_to_bytes().items()}
        wide = [name for number, name in names.items() if number not in special and len(name.encode()) > 1]
        if wide:
            raise UsageError(f"GGUF cannot store a token per character: {wide[0]!r} has several bytes", HINT)
        names = {i: name if i in special else symbols[name.encode()[0]] for i, name in names.items()}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []]
    pre_tokenizer = pre_tokenizer_name(definition) if merges else "gpt-2"
    if max(names) >= config.vocab_size:
        raise UsageError("the tokenizer has more tokens than the model", HINT)
    return Vocabulary(names, special, merges, pre_tokenizer, tokenizer.end_of_text_id)


def is_byte_level(definition: dict[str, Any]) -> bool:
    """Return whether a tokenizer is byte-level BPE. llama.cpp does not normalize text, which mostly is NFC already."""
    steps = pre_tokenizer_steps(definition)
    bytewise = [step for step in steps if step.get("type") == "ByteLevel" and not step.get("add_prefix_space")]
    normalizer = (definition.get("normalizer") or {}).get("type", "NFC")
    return definition["model"]["type"] == "BPE" and bool(bytewise) and normalizer == "NFC"


def pre_tokenizer_steps(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """List the steps by which a tokenizer splits text before merging."""
    first = definition.get("pre_tokenizer") or {}
    steps: list[dict[str, Any]] = first.get("pretokenizers", [first])
    return steps


def pre_tokenizer_name(definition: dict[str, Any]) -> str:
    """Return llama.cpp's name of the way a tokenizer splits text. Raises UsageError (2) if it has none."""
    steps = pre_tokenizer_steps(definition)
    patterns = [(step.get("pattern") or {}).get("Regex") for step in steps if step.get("type") == "Split"]
    if not patterns and any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps):
        return "gpt-2"
    if len(patterns) == 1 and patterns[0] in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[patterns[0]]
    raise UsageError("llama.cpp has no name for the way the tokenizer splits text", HINT)


def write_vocabulary(writer: Any, vocabulary: Vocabulary, config: ModelConfig, extra: dict[str, Any]) -> None:
    """Write the metadata of a tokenizer. End-of-text precedes each prompt, as it precedes each document in training."""
    from gguf import TokenType

    ids, names, special = range(config.vocab_size), vocabulary.names, vocabulary.special_ids
    tokens = [names.get(number, f"[unused {number}]") for number in ids]
    types = [
        TokenType.CONTROL if number in special else TokenType.NORMAL if number in names else TokenType.UNUSED
        for number in ids
    ]
    stops = extra.get("stop_ids") or [vocabulary.end_of_text]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary.merges or [NO_MERGE])
    writer.add_bos_token_id(vocabulary.end_of_text)
    writer.add_eos_token_id(stops[0])
    writer.add_pad_token_id(vocabulary.end_of_text)
    writer.add_add_bos_token(True)
    if extra.get("chat_template"):
        writer.add_chat_template(extra["chat_template"])
