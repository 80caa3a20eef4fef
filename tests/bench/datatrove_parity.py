"""Compare the filters' decisions with those that datatrove made on the same documents, one by one.

    python tests/bench/datatrove_parity.py DOCS DECISIONS

DOCS: JSON lines with `id` and `text`. DECISIONS: JSON lines with `id` and, by splitter ("regex", "spacy") and filter,
[kept, reason, first 16 digits of the SHA-256 of the rewritten text]. "regex" decisions were made with the words and
sentences that gptctl uses, so every one must agree: reason included, text too where a filter rewrites it. "spacy" ones
were made with datatrove's own splitter: how often those agree is reported. Both files may end in .gz.

Exit code 1 if a "regex" decision differs. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from gptctl.core.plugins import load
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch

# Name in DECISIONS: filter, settings.
FILTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gopher_repetition": ("gopher_repetition", {}),
    "gopher_quality": ("gopher_quality", {}),
    "c4": ("c4", {}),
    "c4_keep_punct": ("c4", {"filter_no_terminal_punct": False}),
    "fineweb": ("fineweb", {}),
}
Decision = tuple[bool, str | None, str | None]


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, perhaps compressed."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return [json.loads(line) for line in file if line.strip()]


def decisions(name: str, texts: pa.LargeStringArray) -> list[Decision]:
    """Return a filter's decisions, with the reasons by the names that datatrove has for them."""
    module_name, settings = FILTERS[name]
    module = load("gptctl.text.filters", module_name)
    config = module.Config(**settings)
    result = module.measure(DocumentBatch(texts, match_datatrove=True), config)
    rules = module.rules(config)
    names = {f"{module_name}.{rule.key}": rule.datatrove for rule in rules} | {None: None}
    reasons = [names[reason] for reason in drop_reasons(module_name, rules, result.figures).to_pylist()]
    if result.text is None:
        return [(reason is None, reason, None) for reason in reasons]
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in result.text.to_pylist()]
    return [(reason is None, reason, digest) for reason, digest in zip(reasons, digests, strict=True)]


def differs(ours: Decision, theirs: list[Any]) -> bool:
    """Return whether two decisions differ; a text counts where the document is kept."""
    if (ours[0], ours[1]) != (theirs[0], theirs[1]):
        return True
    return bool(theirs[0]) and len(theirs) > 2 and ours[2] is not None and theirs[2] != ours[2]


def main() -> int:
    """Compare, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("decisions", type=Path)
    arguments = parser.parse_args()
    documents = {row["id"]: row["text"] for row in read(arguments.docs)}
    theirs = [row for row in read(arguments.decisions) if row["id"] in documents]
    if not theirs:
        print("no document has a decision")
        return 1
    texts = pa.array([documents[row["id"]] for row in theirs], pa.large_string())
    result: dict[str, Any] = {
        "documents": len(theirs),
        "without_decision": len(documents) - len(theirs),
        "agreement": {},
    }
    wrong = 0
    for name in FILTERS:
        ours = decisions(name, texts)
        for splitter in ("regex", "spacy"):
            made = [(mine, row[splitter][name], row["id"]) for mine, row in zip(ours, theirs, strict=True)
                    if name in row.get(splitter, {})]  # fmt: skip
            if not made:
                continue
            different = [item for item in made if differs(item[0], item[1])]
            share = 1 - len(different) / len(made)
            verdicts = sum(mine[0] != other[0] for mine, other, _ in made)
            print(f"{name:20} {splitter:6} {len(made) - len(different):6,} of {len(made):,} agree ({share:.2%}); "
                  f"{verdicts} differ in whether the document is kept")  # fmt: skip
            result["agreement"].setdefault(splitter, {})[name] = round(share, 6)
            if splitter == "regex":
                wrong += len(different)
                for mine, other, identity in different:
                    print(f"  {identity}: gptctl {list(mine)}, datatrove {other}")
    result["disagreements"] = wrong
    print(json.dumps(result))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
