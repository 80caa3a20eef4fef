"""A tokenizer as GGUF stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.hf.files import token_names
from gptctl.text.special_tokens import SpecialTokens
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
    added_ids: frozenset[int]  # tokens that are found in text before it is split, such as Qwen3's <think>
    merges: list[str]
    pre_tokenizer: str
    tokenizer: Tokenizer


def read_vocabulary(tokenizer_json: str, config: ModelConfig, extra: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json.

    Raises UsageError (2) for a tokenizer that is not byte-level: its tokens must be bytes, or characters of one byte.
    """
    tokenizer = Tokenizer.from_json(tokenizer_json, SpecialTokens.from_extra(extra))
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
    added = frozenset(token["id"] for token in definition.get("added_tokens") or [])
    return Vocabulary(names, special, added, merges, pre_tokenizer, tokenizer)


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
    """Write the metadata of a tokenizer, with what begins and ends a text."""
    from gguf import TokenType

    ids, names, special = range(config.vocab_size), vocabulary.names, vocabulary.special_ids
    tokens = [names.get(number, f"[unused {number}]") for number in ids]
    types = dict.fromkeys(ids, TokenType.UNUSED) | dict.fromkeys(names, TokenType.NORMAL)
    types |= dict.fromkeys(vocabulary.added_ids, TokenType.USER_DEFINED) | dict.fromkeys(special, TokenType.CONTROL)
    tokenizer = vocabulary.tokenizer
    padding = (tokenizer.special and tokenizer.special.pad_token) or tokenizer.end_of_text
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([types[number] for number in ids])
    writer.add_token_merges(vocabulary.merges or [NO_MERGE])
    if tokenizer.bos_token is not None:
        writer.add_bos_token_id(tokenizer.start_id)
    end, *more = extra.get("stop_ids") or [tokenizer.end_of_text_id]
    writer.add_eos_token_id(end)
    if more:
        writer.add_eot_token_id(more[0])  # llama.cpp stops at both
    writer.add_pad_token_id(tokenizer.token_to_id(padding))
    writer.add_add_bos_token(bool(tokenizer.prefix_ids))
    if extra.get("chat_template"):
        writer.add_chat_template(extra["chat_template"])
