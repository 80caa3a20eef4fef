"""What --dry-run found, for people: one line a question. `--json` has every number."""

from __future__ import annotations

from typing import Any

from gptctl.core.summary import Table
from gptctl.train.planning.gpu_specs import ACCELERATORS, Accelerator

UNITS = ("", "thousand", "million", "billion", "trillion")


def plan_table(facts: dict[str, Any], accelerator: Accelerator | None) -> Table:
    """Say how large, how much memory, how much sending and how long, from what `estimate` gave."""
    parameters = f"{facts['parameters']:,}"
    if facts["active_parameters"] != facts["parameters"]:
        parameters += f", {facts['active_parameters']:,} of them at work on a token"
    sequences = f"{facts['micro_batches']} x {facts['micro_batch']} sequences a rank"
    rows = [
        ("parameters", parameters),
        ("ranks", f"{facts['ranks']}, {facts['parallel']}"),
        ("a step", f"{facts['tokens_per_step']:,} tokens, in {sequences}"),
        ("training", f"{facts['steps']:,} steps, {count(facts['tokens'])} tokens"),
    ]
    memory = size(facts["memory_bytes_per_rank"])
    if accelerator:
        fits = "fits" if facts["fits"] else "does not fit"
        memory += f" of {size(ACCELERATORS[accelerator].memory)} ({accelerator}): {fits}"
    rows.append(("memory a rank", memory))
    rows += [(f"  {name}", size(part)) for name, part in facts["memory"].items() if part]
    rows.append(("arithmetic", f"{count(facts['flops_per_step'])} FLOPs a step"))
    if facts["ranks"] > 1:
        rows.append(("a rank sends", f"{size(facts['bytes_communicated'])} a step"))
    if accelerator:
        speed = f"{facts['seconds_per_step']:.3g} s a step, {count(facts['tokens_per_second'])} tokens/s"
        rows += [
            ("speed", f"{speed}, at {facts['assumed_efficiency']:.0%} of the peak"),
            ("in all", duration(facts["hours"])),
        ]
    for name in ("rehearsal", "packing"):
        rows += [(f"{name}: {key}", plain(value)) for key, value in facts.get(name, {}).items()]
    return Table("plan", ("", "value"), tuple(rows))


def size(number: float) -> str:
    """Show bytes: 1.49 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def count(number: float) -> str:
    """Show a large number in words: 300 billion."""
    for power in reversed(range(1, len(UNITS))):
        if 1000**power <= number < 1000 ** (power + 1):
            return f"{number / 1000**power:.3g} {UNITS[power]}"
    return f"{number:.3g}" if number >= 1000 else f"{number:,.0f}"


def duration(hours: float) -> str:
    """Show how long: 3.2 minutes, 5.1 hours, 34 days."""
    if hours < 1:
        return f"{hours * 60:.2g} minutes"
    return f"{hours:.3g} hours" if hours < 48 else f"{hours / 24:.3g} days"


def plain(value: Any) -> str:
    """Show one figure of a part of the plan."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
