"""Make a real text classification task: is a line of the standard library code, a comment, or part of a docstring?

    python label_lines.py OUT_FOLDER [--per-class 4000] [--held-out 500]

Writes train.jsonl, val.jsonl and test.jsonl with one {"id", "text", "label"} per line. The labels come from Python's
own parser. What would give the answer away is removed: the # of comments, the quotes of docstrings, the indentation of
code. A whole module is in one split only, a text that train has is not in val or test, and every label has as many rows
as the others. The same Python gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from collect_stdlib import Source, documented, modules

LABELS = ("code", "comment", "docstring")
MIN_CHARS, MAX_CHARS = 12, 300
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
LAYOUT = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Row(NamedTuple):
    """One example; its id starts with the module's path."""

    id: str
    text: str
    label: str


def rows(module: Source) -> Iterator[Row]:
    """Return every usable line and sentence of a module."""
    for row in (*lines(module), *sentences(module)):
        if MIN_CHARS <= len(row.text) <= MAX_CHARS and any(character.isalpha() for character in row.text):
            yield row


def lines(module: Source) -> Iterator[Row]:
    """Return the lines that are wholly comment or wholly code.

    Left out: a comment behind code, string literals of several lines, and lines that are nothing but a string literal,
    which is where docstrings are.
    """
    kinds: dict[int, set[int]] = {}
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in LAYOUT:
            for number in range(token.start[0], token.end[0] + 1):
                spread = token.start[0] != token.end[0]
                kinds.setdefault(number, set()).add(-1 if spread else token.type)
    text = io.StringIO(module.text).readlines()  # splits where the tokenizer does, unlike str.splitlines
    for number, types in kinds.items():
        line = text[number - 1].strip()
        if types == {tokenize.COMMENT} and not line.startswith("#!") and "coding" not in line[:20]:
            yield Row(f"{module.path}:{number}", line.lstrip("#: ").rstrip("# "), "comment")
        elif tokenize.NAME in types and not types & {-1, tokenize.COMMENT}:
            yield Row(f"{module.path}:{number}", line, "code")


def sentences(module: Source) -> Iterator[Row]:
    """Return the sentences of all docstrings, without interactive examples."""
    for node in documented(module.tree):
        docstring = ast.get_docstring(node, clean=False)
        if not docstring:
            continue
        paragraphs = (part for part in re.split(r"\n\s*\n", inspect.cleandoc(docstring)) if ">>>" not in part)
        joined = (" ".join(paragraph.split()) for paragraph in paragraphs)
        found = [sentence for paragraph in joined for sentence in SENTENCE_END.split(paragraph)]
        line = node.body[0].lineno
        for number, sentence in enumerate(found, 1):
            yield Row(f"{module.path}:{line}.{number}", sentence, "docstring")


def split_of(path: str) -> str:
    """Return the split of a module: 8 of 10 train, 1 val, 1 test."""
    share = int(digest(path)[:8], 16) % 10
    return {8: "val", 9: "test"}.get(share, "train")


def digest(text: str) -> str:
    """Return a hash that is the same on every machine; sorting by it is shuffling."""
    return hashlib.sha256(text.encode()).hexdigest()


def without_repeats(found: list[Row], taken: set[str]) -> list[Row]:
    """Keep the first of equal texts and none that is `taken`; add what is kept to `taken`."""
    kept = []
    for row in found:
        if row.text not in taken:
            taken.add(row.text)
            kept.append(row)
    return kept


def balanced(found: list[Row], per_class: int) -> list[Row]:
    """Draw equally many rows of each label, at most `per_class`, shuffled."""
    shuffled = sorted(found, key=lambda row: digest(row.id))
    of_label = {label: [row for row in shuffled if row.label == label] for label in LABELS}
    size = min(per_class, *(len(members) for members in of_label.values()))
    return sorted((row for members in of_label.values() for row in members[:size]), key=lambda row: digest(row.id))


def main() -> None:
    """Write the three files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("--per-class", type=int, default=4000, help="training rows of each label (default: 4000)")
    parser.add_argument(
        "--held-out", type=int, default=500, help="rows of each label in val and in test (default: 500)"
    )
    options = parser.parse_args()
    splits: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for module in modules():
        splits[split_of(module.path)].extend(rows(module))
    options.out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for name, found in splits.items():
        limit = options.per_class if name == "train" else options.held_out
        chosen = balanced(without_repeats(found, taken), limit)
        with (options.out / f"{name}.jsonl").open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            for row in chosen:
                file.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
        print(f"{options.out / name}.jsonl: {len(chosen)} rows, {len(chosen) // len(LABELS)} of each label")


if __name__ == "__main__":
    main()
