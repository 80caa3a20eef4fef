"""The lineage of an output, back to the raw files: as lines for people and as nested tables for --json."""

from __future__ import annotations

from collections.abc import Iterator

from gptctl.core.config import Values
from gptctl.core.formatting import format_number
from gptctl.io.lineage import Origin, Output

MAX_FILES = 8  # files of one origin that are listed; --json lists all
MAX_FIGURES = 4


def lineage_lines(output: Output, indent: str = "") -> Iterator[str]:
    """Yield a line for an output, and indented below it its origins with their hashes."""
    yield f"{indent}{output.folder}: {output.stage}{first_figures(output)}"
    for origin in output.origins:
        if origin.output:
            yield f"{indent}  {origin.role} {first_hash(origin)} ({origin.state})"
            yield from lineage_lines(origin.output, indent + "    ")
            continue
        yield f"{indent}  {origin.role} {place_of(origin)} ({origin.state})"
        for name, value in list(origin.fingerprints.items())[:MAX_FILES]:
            yield f"{indent}    {value}  {name}"
        if len(origin.fingerprints) > MAX_FILES:
            yield f"{indent}    and {len(origin.fingerprints) - MAX_FILES:,} more files; --json lists them"


def place_of(origin: Origin) -> str:
    """Return the path of an origin, or the reason why there is none."""
    if origin.path == "-":
        return "from a pipe"
    return origin.path or "place not recorded"


def first_hash(origin: Origin) -> str:
    """Return the first recorded hash of an origin, which is the only one if the origin is an output."""
    return next(iter(origin.fingerprints.values()), "not recorded")


def first_figures(output: Output) -> str:
    """Return the first figures of an output's result as text that follows its stage."""
    metrics = (output.record.get("summary") or {}).get("metrics") or {}
    figures = [f"{name} {format_number(value)}" for name, value in metrics.items() if isinstance(value, float)]
    return f", {', '.join(figures[:MAX_FIGURES])}" if figures else ""


def lineage_json(output: Output) -> Values:
    """Return an output and its origins as nested tables."""
    record = output.record
    return {
        "folder": output.folder,
        "stage": output.stage,
        "argv": record.get("argv"),
        "content": output.manifest.content() if output.manifest else None,
        "metrics": (record.get("summary") or {}).get("metrics"),
        "versions": record.get("versions"),
        "origins": [
            {"role": origin.role, "path": origin.path, "state": origin.state, "hashes": origin.fingerprints}
            | ({"output": lineage_json(origin.output)} if origin.output else {})
            for origin in output.origins
        ],
    }
