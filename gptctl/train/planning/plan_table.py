"""What --dry-run found, for people: one line a question. `--json` has every number."""

from __future__ import annotations

from typing import Any

from gptctl.core.formatting import format_bytes, format_compact, format_duration, format_number
from gptctl.core.summary import Table
from gptctl.train.planning.gpu_specs import ACCELERATORS, Accelerator


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
        ("training", f"{facts['steps']:,} steps, {format_compact(facts['tokens'])} tokens"),
    ]
    memory = format_bytes(facts["memory_bytes_per_rank"])
    if accelerator:
        fits = "fits" if facts["fits"] else "does not fit"
        memory += f" of {format_bytes(ACCELERATORS[accelerator].memory)} ({accelerator}): {fits}"
    rows.append(("memory a rank", memory))
    rows += [(f"  {name}", format_bytes(part)) for name, part in facts["memory"].items() if part]
    rows.append(("arithmetic", f"{format_compact(facts['flops_per_step'])} FLOPs a step"))
    if facts["ranks"] > 1:
        rows.append(("a rank sends", f"{format_bytes(facts['bytes_communicated'])} a step"))
    if accelerator:
        step_time = format_duration(facts["seconds_per_step"])
        speed = f"{step_time} a step, {format_compact(facts['tokens_per_second'])} tokens/s"
        rows += [
            ("speed", f"{speed}, at {facts['assumed_efficiency']:.0%} of the peak"),
            ("in all", format_duration(3600 * facts["hours"])),
        ]
    for name in ("rehearsal", "packing"):
        rows += [(f"{name}: {key}", format_number(value)) for key, value in facts.get(name, {}).items()]
    return Table("plan", ("", "value"), tuple(rows))
