"""The table that --dry-run shows. `--json` has every number."""

from __future__ import annotations

from typing import Any

from gptctl.core.formatting import format_bytes, format_compact, format_duration, format_number
from gptctl.core.summary import Table
from gptctl.train.planning.gpu_specs import GPU_SPECS, Accelerator


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
        ("training", f"{facts['steps']:,} steps, {format_compact(facts['tokens'])} tokens"),
    ]
    if "epochs" in facts:
        rows.append(("epochs", format_number(facts["epochs"])))
    if "expected_loss" in facts:
        rows.append(("expected val loss", format_number(facts["expected_loss"])))
    memory = format_bytes(facts["memory_bytes_per_rank"])
    if accelerator:
        fits = "fits" if facts["fits"] else "does not fit"
        memory += f" of {format_bytes(GPU_SPECS[accelerator].memory)} ({accelerator}): {fits}"
    rows.append(("memory per rank", memory))
    rows += [(f"  {name}", format_bytes(part)) for name, part in facts["memory"].items() if part]
    rows.append(("compute", f"{format_compact(facts['flops_per_step'])} FLOPs per step"))
    if facts["ranks"] > 1:
        rows.append(("sent per rank", f"{format_bytes(facts['bytes_communicated'])} per step"))
    if accelerator:
        step_time = format_duration(facts["seconds_per_step"])
        speed = f"{step_time} per step, {format_compact(facts['tokens_per_second'])} tokens/s"
        rows += [
            ("speed", f"{speed}, assuming {facts['assumed_efficiency']:.0%} of the peak"),
            *link_rows(facts),
            ("total time", format_duration(3600 * facts["hours"])),
        ]
    elif "seconds" in facts:
        rows += [
            ("speed", f"{format_compact(facts['tokens_per_second'])} tokens/s on this machine"),
            ("training time", format_duration(facts["seconds"])),
        ]
        if evaluating := facts.get("evaluation_seconds"):
            rows += [
                ("evaluation time", f"{format_duration(evaluating)}, {facts['evaluations']:,} times the val split"),
                ("total time", format_duration(facts["seconds"] + evaluating)),
            ]
    rows += [
        (f"source {source['name']}", f"{format_compact(source['tokens'])} tokens, {source['epochs']:,.2f} epochs")
        for source in facts.get("sources", ())
    ]
    for name in ("simulated_step", "packing"):
        rows += [
            (f"{name.replace('_', ' ')}: {key}", format_number(value)) for key, value in facts.get(name, {}).items()
        ]
    return Table("plan", ("", "value"), tuple(rows))


def link_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row with the speed of the link between GPUs that the time was computed with, if there are several."""
    if facts["ranks"] == 1:
        return []
    speed = f"{format_bytes(facts['assumed_bytes_per_second'])}/s from each GPU"
    return [("link", f"assuming {speed}, {facts['assumed_link']}")]
