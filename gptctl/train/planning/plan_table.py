"""The table that --dry-run shows. `--json` has every number."""

from __future__ import annotations

from typing import Any

from gptctl.core.summary import Table
from gptctl.train.planning.gpu_specs import GPU_SPECS, Accelerator

UNITS = ("", "thousand", "million", "billion", "trillion")


def plan_table(facts: dict[str, Any], accelerator: Accelerator | None) -> Table:
    """Return size, memory, communication and duration as a table, from the result of `estimate`."""
    parameters = f"{facts['parameters']:,}"
    if facts["active_parameters"] != facts["parameters"]:
        parameters += f", {facts['active_parameters']:,} active per token"
    sequences = f"{facts['micro_batches']} x {facts['micro_batch_size']} sequences per rank"
    rows = [
        ("parameters", parameters),
        ("ranks", f"{facts['ranks']}, {facts['parallel']}"),
        ("per step", f"{facts['tokens_per_step']:,} tokens: {sequences}"),
        ("training", f"{facts['steps']:,} steps, {count(facts['tokens'])} tokens"),
    ]
    memory = size(facts["memory_bytes_per_rank"])
    if accelerator:
        fits = "fits" if facts["fits"] else "does not fit"
        memory += f" of {size(GPU_SPECS[accelerator].memory)} ({accelerator}): {fits}"
    rows.append(("memory per rank", memory))
    rows += [(f"  {name}", size(part)) for name, part in facts["memory"].items() if part]
    rows.append(("compute", f"{count(facts['flops_per_step'])} FLOPs per step"))
    if facts["ranks"] > 1:
        rows.append(("sent per rank", f"{size(facts['bytes_communicated'])} per step"))
    if accelerator:
        speed = f"{facts['seconds_per_step']:.3g} s per step, {count(facts['tokens_per_second'])} tokens/s"
        rows += [
            ("speed", f"{speed}, at {facts['assumed_efficiency']:.0%} of the peak"),
            ("total time", duration(facts["hours"])),
        ]
    for name in ("simulated_step", "packing"):
        rows += [(f"{name.replace('_', ' ')}: {key}", plain(value)) for key, value in facts.get(name, {}).items()]
    return Table("plan", ("", "value"), tuple(rows))


def size(number: float) -> str:
    """Return bytes as text: 1.49 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def count(number: float) -> str:
    """Return a large number in words: 300 billion."""
    for power in reversed(range(1, len(UNITS))):
        if 1000**power <= number < 1000 ** (power + 1):
            return f"{number / 1000**power:.3g} {UNITS[power]}"
    return f"{number:.3g}" if number >= 1000 else f"{number:,.0f}"


def duration(hours: float) -> str:
    """Return a duration as text: 3.2 minutes, 5.1 hours, 34 days."""
    if hours < 1:
        return f"{hours * 60:.2g} minutes"
    return f"{hours:.3g} hours" if hours < 48 else f"{hours / 24:.3g} days"


def plain(value: Any) -> str:
    """Return one number of a part of the plan as text."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
