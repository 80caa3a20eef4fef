"""What a run wrote down of itself, from its events.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gptctl.io.files import read_if_exists
from gptctl.io.object_storage.address import join

Event = dict[str, Any]


def read_events(folder: str) -> list[Event]:
    """Read the events of an output, which may still be made; none where there is no such file."""
    lines = (read_if_exists(join(folder, "events.jsonl")) or b"").splitlines()
    return [event for line in lines if (event := parse_event(line))]


def parse_event(line: bytes) -> Event:
    """Read one line; one that is damaged or that a full disk or a kill cut short gives nothing."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(event, dict) or not isinstance(event.get("step", 0), int | float):
        return {}
    drawn = {"step": ("step", "loss", "lr"), "eval": ("step", "val_loss")}.get(str(event.get("event")), ())
    whole = all(name in event and isinstance(event[name], int | float | None) for name in drawn)
    needs_step = event.get("event") in ("resumed", "rollback")
    return event if whole and ("step" in event or not needs_step) else {}


def lasting(events: Sequence[Event]) -> list[Event]:
    """Leave out what a resume or a rollback went back behind: steps after the one it began from are done again."""
    kept: list[Event] = []
    for event in events:
        if event.get("event") in ("resumed", "rollback"):
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= event["step"]]
        kept.append(event)
    return kept


def points(events: Sequence[Event], kind: str, field: str) -> list[tuple[float, float]]:
    """Return (step, value) of the events of one kind that have a number for a field."""
    found = [event for event in lasting(events) if event.get("event") == kind]
    return [(e["step"], e[field]) for e in found if isinstance(e.get(field), int | float) and "step" in e]
