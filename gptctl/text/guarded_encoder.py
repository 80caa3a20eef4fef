"""An encoder for text that must not be able to spell special tokens.

Its special tokens have other names, which no text can guess. So "</s>" in a document is encoded as any other text, also
by vocabularies that contain it as a whole word. The ids stay the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import orjson


class GuardedEncoder:
    """A tokenizer with renamed special tokens."""

    def __init__(self, definition: Mapping[str, Any], ids: Mapping[str, int]) -> None:
        """Take the definition of a tokenizer.json, and the ids of its special tokens by name."""
        from tokenizers import Tokenizer as Backend

        key = secrets.token_hex(8)
        self.names = {name: f"\ufdd0{key}{number}\ufdd1" for number, name in enumerate(ids)}
        renamed = rename_tokens(definition, self.names, ids)
        self.backend = Backend.from_str(orjson.dumps(renamed).decode())
        self.backend.no_truncation()
        self.backend.no_padding()
        # Tokens that only added_tokens has get new ids.
        found = {self.backend.token_to_id(token["content"]): token["id"] for token in renamed["added_tokens"]}
        self.original_ids = {number: before for number, before in found.items() if number != before}

    def encode(self, pieces: Iterable[tuple[str, bool]]) -> list[int]:
        """Return the ids of a text that is given in pieces; those that are flagged are names of special tokens."""
        return self.encode_spans((piece, is_special, False) for piece, is_special in pieces)[0]

    def encode_spans(self, pieces: Iterable[tuple[str, bool, bool]]) -> tuple[list[int], list[bool]]:
        """Return the ids of a text in pieces, and for each whether it contains text of a marked piece.

        A piece is its text, whether that is the name of a special token, and whether the piece is marked.
        """
        texts: list[str] = []
        marks: list[int] = [0]  # how many marked characters come before each place
        for piece, is_special, is_marked in pieces:
            texts.append(self.names[piece] if is_special else piece)
            start, size = marks[-1], len(texts[-1])
            marks += range(start + 1, start + size + 1) if is_marked else [start] * size
        self.backend.encode_special_tokens = False
        encoding = self.backend.encode("".join(texts), add_special_tokens=False)
        return self.original(encoding.ids), [marks[end] > marks[start] for start, end in encoding.offsets]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of texts without special tokens."""
        self.backend.encode_special_tokens = True
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self.original(encoding.ids) for encoding in encodings]

    def original(self, ids: list[int]) -> list[int]:
        """Return the ids that tokens have in the definition."""
        return [self.original_ids.get(number, number) for number in ids]


def rename_tokens(definition: Mapping[str, Any], names: Mapping[str, str], ids: Mapping[str, int]) -> dict[str, Any]:
    """Return a definition in which tokens have other names, in the vocabulary and among the added tokens.

    A token that merges need keeps its name in the vocabulary, too.
    """
    model = dict(definition["model"])
    needed: set[str] = set()
    for pair in model.get("merges") or ():
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        needed |= {left, right, left + right} & names.keys()
    new = {name: other for name, other in names.items() if name not in needed}
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {new.get(name, name): number for name, number in model["vocab"].items()}
    elif model.get("vocab"):
        model["vocab"] = [[new.get(name, name), score] for name, score in model["vocab"]]
    if model.get("unk_token") in new:
        model["unk_token"] = new[model["unk_token"]]
    added = [
        token | ({"content": names[token["content"]], "normalized": False} if token["content"] in names else {})
        for token in definition.get("added_tokens") or []
    ]
    known = {token["content"] for token in added}
    flags = {"special": True, **dict.fromkeys(("normalized", "single_word", "lstrip", "rstrip"), False)}
    added += [{"id": ids[name], "content": other} | flags for name, other in names.items() if other not in known]
    return {**definition, "model": model, "added_tokens": added, "post_processor": None}


def can_be_spelled(definition: Mapping[str, Any], special: Iterable[str]) -> bool:
    """Return whether text may be encoded as a special token: a vocabulary without merges finds whole words."""
    model = definition["model"]
    if model.get("type") == "BPE" and not model.get("ignore_merges"):
        return False
    vocabulary = model.get("vocab") or ()
    known = vocabulary.keys() if isinstance(vocabulary, dict) else {name for name, _ in vocabulary}
    return not known.isdisjoint(special)
