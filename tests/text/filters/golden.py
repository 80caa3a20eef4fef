"""Decisions of datatrove 0.10.1 on real documents, made with the regex words and sentences that gptctl uses too."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gptctl.core.plugins import load
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch

DATA = Path(os.environ.get("GPTCTL_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


@cache
def _lines(name: str) -> dict[str, dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no such file: {path}")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {record["id"]: record for record in map(json.loads, file)}


@cache
def texts() -> pa.LargeStringArray:
    """Return the documents' texts."""
    return pa.array([record["text"] for record in _lines("mixed-docs.jsonl.gz").values()], pa.large_string())


def decisions(name: str) -> list[list[Any]]:
    """Return one filter's decisions in the documents' order: kept, reason, and a hash of what it rewrote."""
    made = _lines("mixed-docs.datatrove.jsonl.gz")
    return [made[identity]["regex"][name] for identity in _lines("mixed-docs.jsonl.gz")]


def reasons(
    name: str, text: pa.LargeStringArray | list[str], match_datatrove: bool = False, **settings: Any
) -> list[str | None]:
    """Return a filter's reasons to drop some texts."""
    module = load("gptctl.text.filters", name)
    config = module.Config(**settings)
    column = pa.array(text, pa.large_string()) if isinstance(text, list) else text
    figures = module.measure(DocumentBatch(column, match_datatrove=match_datatrove), config).figures
    found: list[str | None] = drop_reasons(name, module.rules(config), figures).to_pylist()
    return found


def datatrove_reasons(name: str, text: pa.LargeStringArray, **settings: Any) -> list[str | None]:
    """Return a filter's reasons by the names that datatrove has for them."""
    module = load("gptctl.text.filters", name)
    names = {f"{name}.{rule.key}": rule.datatrove for rule in module.rules(module.Config())}
    return [reason and names[reason] for reason in reasons(name, text, **settings)]
