"""Count what torch allocates on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_allocated(function: Callable[[], Any], mapped: Path | None = None) -> tuple[int, Any]:
    """Call a function. Return the largest sum of bytes that it had allocated at a time, and its result.

    torch counts a mapped file as allocated. `mapped` is one that does not count.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        result = function()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    if mapped:
        changes = [change for change in changes if abs(change) != mapped.stat().st_size]
    return max(accumulate(changes), default=0), result
