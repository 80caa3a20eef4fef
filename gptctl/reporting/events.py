"""The events that a training run records in events.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gptctl.io.files import read_if_exists
from gptctl.io.object_storage.address import join

Event = dict[str, Any]


def read_events(folder: str) -> list[Event]:
    """Return the events of an output, which may still be in progress. Without such a file, there are none."""
    lines = (read_if_exists(join(folder, "events.jsonl")) or b"").splitlines()
    return [event for line in lines if (event := parse_event(line))]


def parse_event(line: bytes) -> Event:
    """Return the event in one line. A line that is damaged or cut short is an empty event."""
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
    """Return the events without those that a resume or rollback discarded, because their steps were trained again."""
    kept: list[Event] = []
    for event in events:
        if event.get("event") in ("resumed", "rollback"):
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= event["step"]]
        kept.append(event)
    return kept


def points(events: Sequence[Event], kind: str, field: str) -> list[tuple[float, float]]:
    """Return (step, value) for each event of a kind in which a field is a number."""
    found = [event for event in lasting(events) if event.get("event") == kind]
    return [(e["step"], e[field]) for e in found if isinstance(e.get(field), int | float) and "step" in e]


def progress_at(events: Sequence[Event], field: str) -> Callable[[float], float] | None:
    """Return a function from a step to the tokens or the train_seconds up to it, or None if no event has the field.

    Between two "step" events the value is interpolated.
    """
    known = points(events, "step", field)
    if not known:
        return None
    steps, values = zip((0.0, 0.0), *known, strict=True)
    return lambda step: float(np.interp(step, steps, values))
