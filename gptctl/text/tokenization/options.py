"""The options of `gptctl tokenize` that decide what a token is and how documents are divided."""

from __future__ import annotations

from typing import Literal

from gptctl.core.config import SeedOption, Settings, flag, key

DEFAULT_VOCAB_SIZE = 8192


class Split(Settings):
    """How documents are divided into train, val and test."""

    by: Literal["cluster", "text", "position"] = key(
        "cluster", "cluster: near-duplicates stay together (without dedup, as text); text: by a hash of the text; "
        "position: val and test are the last part of the input.",
    )  # fmt: skip
    salt: str = key("gptctl", "Text that is hashed too; another one divides documents differently.")


class TokenizeOptions(SeedOption):
    """The tokenizer, the splits and their order."""

    algorithm: Literal["bpe", "words", "chars", "bytes"] = flag("bpe", "What tokens consist of.", panel="Tokenizer")
    vocab_size: int = flag(
        DEFAULT_VOCAB_SIZE, "Tokens in the vocabulary (bpe, words).", panel="Tokenizer", ge=3, le=2**24
    )
    tokenizer: str | None = flag(
        None,
        "File or folder of a tokenizer to use instead of training one.",
        panel="Tokenizer",
        runtime=True,
        reads=True,
    )
    split_pattern: Literal["gpt2", "modern", "o200k"] | None = flag(
        None, "Pattern that splits text before merging: gpt2 unless given, modern (as cl100k) or o200k. "
        "A *.tiktoken file of unknown name needs it.", panel="Tokenizer",
    )  # fmt: skip
    val: float = flag(0.01, "Share of documents for validation.", panel="Splits", ge=0, lt=1)
    test: float = flag(0.01, "Share of documents for testing.", panel="Splits", ge=0, lt=1)
    shuffle: bool = flag(
        False, "Order the documents of each split by a hash of seed and id.", panel="Splits", switch=True
    )
    split: Split = key(Split(), "How documents are divided.")
    train_bytes: int = key(2**30, "Bytes of text to train a tokenizer on, about; more is sampled by a hash.", ge=1024)
    train_chars_per_doc: int = key(10_000, "Characters of each document to train a tokenizer on; 0 takes all.", ge=0)
    encoder: Literal["auto", "gigatoken", "tokenizers"] = key(
        "auto", "auto: gigatoken, if it returns the ids of tokenizers for samples; gigatoken: fail if it does not. "
        "The output is the same.", runtime=True,
    )  # fmt: skip

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if not self.shuffle:
            found["seed"] = "without --shuffle"
        if self.split.by == "position":
            found["split.salt"] = "with split.by position"
        unused = {
            "bytes": ("vocab_size", "train_bytes", "train_chars_per_doc"),
            "chars": ("vocab_size", "train_chars_per_doc"),
        }
        found |= dict.fromkeys(unused.get(self.algorithm, ()), f"with --algorithm {self.algorithm}")
        if self.algorithm != "bpe":
            found["split_pattern"] = f"with --algorithm {self.algorithm}"
        if self.tokenizer:
            found.pop("split_pattern", None)  # a *.tiktoken file may need it
            of_training = ("algorithm", "vocab_size", "train_bytes", "train_chars_per_doc")
            found |= dict.fromkeys(of_training, "with --tokenizer")
        return found
