"""What cards are written about: the last models and the last datasets of a chain of outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from gptctl.io import lineage
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.lineage import Output

UNKNOWN = "unknown"
MISSING = "[More Information Needed]"  # the hub's own words for what the author has to write
NOT_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")


def find_models(outputs: Sequence[Output]) -> list[Output]:
    """Return the finished training runs from which no other of them was trained."""
    return last_of([one for one in outputs if one.stage in ("pretrain", "finetune") and one.manifest is not None])


def find_datasets(outputs: Sequence[Output]) -> list[Output]:
    """Return the finished datasets of documents from which no other of them was made; else those of tokens."""
    finished = [one for one in outputs if one.manifest is not None]
    for kind in ("documents", "tokens"):
        if found := [one for one in finished if one.manifest and one.manifest.kind == kind]:
            return last_of(found)
    return []


def find_evaluations(model: Output, outputs: Sequence[Output]) -> list[Output]:
    """Return the finished evaluations of a model."""
    return [
        one
        for one in outputs
        if one.stage == "eval"
        and one.manifest is not None
        and any(o.role == "model" and o.output and o.output.place == model.place for o in one.origins)
    ]


def last_of(outputs: Sequence[Output]) -> list[Output]:
    """Return the outputs that are not in the lineage of another one."""
    earlier = {before.place for one in outputs for before in lineage.walk(one)[:-1]}
    return [one for one in outputs if one.place not in earlier]


def name_of(path: str) -> str:
    """Return the last part of a path as the hub accepts it in the name of a repository, or that of one on the hub."""
    if is_hub(path):
        return HubUri.parse(path).repo
    return NOT_AN_ID.sub("-", PurePosixPath(path.rstrip("/")).name)[:96].strip(".-") or "unnamed"


def shorten(argument: str) -> str:
    """Return an argument of a command without the folders of this machine."""
    before, equals, value = argument.rpartition("=")
    return before + equals + (PurePosixPath(value).name if value.startswith("/") else value)


def unique(names: Iterable[str]) -> list[str]:
    """Return names without repetition, in order."""
    return list(dict.fromkeys(names))
