"""A tokenizer as GGUF stores it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.gguf.llama_cpp_tokens import adds_a_space, merge_scores, named_split
from gptctl.model.hf.files import token_names
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenization.convert import unicode_to_bytes
from gptctl.text.tokenizer import Tokenizer

# llama.cpp opens no file without merges. No token is as long as these, so this merge is never applied.
NO_MERGE = "[none] [none]"
BYTE = re.compile("<0x[0-9A-F]{2}>")
HINT = "export it with --format hf"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in GGUF's terms."""

    names: dict[int, str]  # tokens by id
    special_ids: frozenset[int]
    added_ids: frozenset[int]  # tokens that are found in text before it is split, such as Qwen3's <think>
    tokenizer: Tokenizer
    merges: list[str]
    pre_tokenizer: str = ""  # of byte-level BPE
    scores: dict[str, float] | None = None  # of SentencePiece's BPE
    adds_space: bool = False


def read_vocabulary(tokenizer_json: str, config: ModelConfig, extra: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json.

    Raises UsageError (2) for a tokenizer that llama.cpp would not compute: it takes byte-level BPE, SentencePiece's BPE
    with a token for each byte, and characters of one byte.
    """
    tokenizer = Tokenizer.from_json(tokenizer_json, SpecialTokens.from_extra(extra))
    definition = json.loads(tokenizer_json)
    model, names = definition["model"], token_names(tokenizer_json)
    special = frozenset(tokenizer.special_ids)
    if max(names) >= config.vocab_size:
        raise UsageError("the tokenizer has more tokens than the model", HINT)
    added = frozenset(token["id"] for token in definition.get("added_tokens") or [])
    if has_bytes(definition):
        scores = merge_scores(definition)
        if (adds_space := adds_a_space(definition, scores)) is None:
            raise UsageError("llama.cpp would make other tokens of a text than the tokenizer", HINT)
        return Vocabulary(names, special, added, tokenizer, [], scores=scores, adds_space=adds_space)
    if not (is_byte_level(definition) or (model["type"] == "WordLevel" and tokenizer.lossless)):
        raise UsageError(f"GGUF is written with byte-level tokenizers, not {model['type']} of this kind", HINT)
    if model["type"] == "WordLevel":
        symbols = {byte: symbol for symbol, byte in unicode_to_bytes().items()}
        wide = [name for number, name in names.items() if number not in special and len(name.encode()) > 1]
        if wide:
            raise UsageError(f"GGUF cannot store a token per character: {wide[0]!r} has several bytes", HINT)
        names = {i: name if i in special else symbols[name.encode()[0]] for i, name in names.items()}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []]
    pre_tokenizer = named_split(definition) if merges else "gpt-2"
    if pre_tokenizer is None:
        raise UsageError("llama.cpp has no name for the way the tokenizer splits text", HINT)
    return Vocabulary(names, special, added, tokenizer, merges, pre_tokenizer)


def has_bytes(definition: dict[str, Any]) -> bool:
    """Return whether a tokenizer is SentencePiece's BPE, which spells unknown characters with tokens of bytes."""
    model = definition["model"]
    return (
        model["type"] == "BPE"
        and bool(model.get("byte_fallback"))
        and all(f"<0x{byte:02X}>" in model["vocab"] for byte in range(256))
    )


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


def write_vocabulary(writer: Any, vocabulary: Vocabulary, config: ModelConfig, extra: dict[str, Any]) -> None:
    """Write the metadata of a tokenizer, with what begins and ends a text."""
    from gguf import TokenType

    ids, names, special = range(config.vocab_size), vocabulary.names, vocabulary.special_ids
    tokens = [names.get(number, f"[unused {number}]") for number in ids]
    types = dict.fromkeys(ids, TokenType.UNUSED) | dict.fromkeys(names, TokenType.NORMAL)
    types |= dict.fromkeys(vocabulary.added_ids, TokenType.USER_DEFINED) | dict.fromkeys(special, TokenType.CONTROL)
    tokenizer = vocabulary.tokenizer
    padding = (tokenizer.special and tokenizer.special.pad_token) or tokenizer.end_of_text
    if (scores := vocabulary.scores) is None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
        writer.add_token_merges(vocabulary.merges or [NO_MERGE])
    else:
        types |= {i: TokenType.BYTE for i, name in names.items() if BYTE.fullmatch(name)}
        if tokenizer.unknown_id is not None:
            types[tokenizer.unknown_id] = TokenType.UNKNOWN
            writer.add_unk_token_id(tokenizer.unknown_id)
        lowest = min(scores.values())
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([scores.get(token, lowest) for token in tokens])
        writer.add_add_space_prefix(vocabulary.adds_space)
    writer.add_token_list(tokens)
    writer.add_token_types([types[number] for number in ids])
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
