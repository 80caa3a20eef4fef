"""The folders of tokens that a pretraining run reads, and their weights. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptctl.core.errors import DataError
from gptctl.io.dataset import tokens as token_io
from gptctl.io.dataset.tokens import Tokens
from gptctl.io.input.names import name_sources
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.phases import MixturePhase
from gptctl.train.tasks.mixing_options import MixingOptions


@dataclass(frozen=True)
class TokenSources:
    """Folders of tokens with one tokenizer, by name. A single folder has no phases."""

    folders: dict[str, Tokens]
    tokenizer: Tokenizer
    phases: tuple[MixturePhase, ...] = ()

    @property
    def vocab_size(self) -> int:
        """Return the size of the tokenizer's vocabulary."""
        return next(iter(self.folders.values())).vocab_size

    @property
    def tokenizer_json(self) -> str:
        """Return the tokenizer as its file has it."""
        return next(iter(self.folders.values())).tokenizer_json

    def count(self, split: str) -> int:
        """Return the number of tokens in a split of all folders."""
        return sum(tokens.count(split) for tokens in self.folders.values())

    def inputs(self) -> dict[str, str]:
        """Return the fingerprint of each folder, as a run records it.

        Raises DataError (3) if a file has changed since the folders were opened.
        """
        prints = {name: tokens.fingerprint() for name, tokens in self.folders.items()}
        if len(prints) == 1:
            return {"tokens": next(iter(prints.values()))}
        return {f"tokens/{name}": content for name, content in prints.items()}


def open_token_sources(paths: Sequence[str], options: MixingOptions) -> TokenSources:
    """Open the folders that a run reads.

    Raises UsageError (2) for a folder that does not exist or is named twice and for wrong weights, DataError (3) for
    damaged folders and for different tokenizers.
    """
    names = name_sources(paths)
    folders = {name: token_io.open_tokens(path) for name, path in zip(names, paths, strict=True)}
    tokenizers = {path: tokenizer_of(path, tokens) for path, tokens in zip(paths, folders.values(), strict=True)}
    first, *others = tokenizers.items()
    for path, tokenizer in others:
        if tokenizer.hash != first[1].hash:
            raise DataError(
                f"{first[0]} and {path} were made with different tokenizers",
                f"make {path} again: gptctl tokenize ... --tokenizer {first[0]}",
            )
    counts = [tokens.count("train") for tokens in folders.values()]
    return TokenSources(folders, first[1], options.mixture_phases(counts) if others else ())


def tokenizer_of(path: str, tokens: Tokens) -> Tokenizer:
    """Return the tokenizer of a folder. Raises DataError (3) if its tokens were made with another one."""
    tokenizer = Tokenizer.from_json(tokens.tokenizer_json)
    if tokenizer.hash != tokens.manifest.tokenizer:
        raise DataError(
            f"{path}/tokenizer.json is not the tokenizer that the tokens were made with",
            "restore it, or make the tokens again: gptctl tokenize ... --force",
        )
    return tokenizer
