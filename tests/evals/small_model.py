"""A small language model on bytes, whose 256 symbols are the 255 bytes that UTF-8 can hold and end-of-text."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.save import save_model
from gptctl.text.tokenizer import END_OF_TEXT

END_ID = 255  # the byte 0xFF, which occurs in no UTF-8 text, gives its place to end-of-text


def tokenizer_json() -> str:
    """Make a tokenizer of one byte a token."""
    from tokenizers.pre_tokenizers import ByteLevel

    spelt = {bytes_of(symbol): symbol for symbol in ByteLevel.alphabet()}
    vocabulary = {spelt[number]: number for number in range(END_ID)}
    special = {"id": END_ID, "content": END_OF_TEXT, "special": True, "single_word": False, "lstrip": False,
               "rstrip": False, "normalized": False}  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps(
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
            "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {**vocabulary, END_OF_TEXT: END_ID}, "merges": []},
        }
    )  # fmt: skip


def bytes_of(symbol: str) -> int:
    """Return the byte that a symbol of the byte-level alphabet stands for."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [number for number in range(256) if number not in printable]
    return ord(symbol) if ord(symbol) in printable else hidden[ord(symbol) - 256]


def save(folder: Path, zero_head: bool = False, seed: int = 0, context: int = 32) -> Path:
    """Write a model folder: random weights, or an output head of zeros, to which every byte is as likely."""
    torch.manual_seed(seed)
    model = GPT(
        ModelConfig(
            layers=1,
            heads=2,
            hidden_size=16,
            intermediate_size=32,
            max_seq_len=context,
            vocab_size=END_ID + 1,
            tie_embeddings=False,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    assert model.head is not None
    if zero_head:
        torch.nn.init.zeros_(model.head.weight)
    save_model(folder, model, tokenizer_json(), {"stage": "test"})
    return folder
