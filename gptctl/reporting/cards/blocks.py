"""Parts that the cards of models and of datasets share."""

from __future__ import annotations

import shlex

from gptctl.core.markdown import code, code_block, escape, raw_table
from gptctl.core.redact import redact
from gptctl.io import lineage
from gptctl.io.lineage import Output
from gptctl.reporting.cards.subjects import UNKNOWN, name_of, shorten

MAX_FILES = 20


def license_block(license_id: str, what: str) -> str:
    """Return the section on the license."""
    if license_id == UNKNOWN:
        return f"## License\n\nUnknown. Find out the license of {what} before you publish this."
    return f"## License\n\n{escape(license_id)}"


def source_block(output: Output) -> str:
    """Return a table of the raw files that an output goes back to, with their hashes."""
    rows = [
        (origin.role, code(redact(name)), code(value))
        for one in lineage.walk(output)
        for origin in one.origins
        if origin.output is None
        for name, value in origin.fingerprints.items()
        if name != "model"  # the base model, which is named above
    ]
    if not rows:
        return ""
    more = f"\n\nand {len(rows) - MAX_FILES:,} more" if len(rows) > MAX_FILES else ""
    return raw_table(("read as", "file", "xxh3-128"), rows[:MAX_FILES], left=True) + more


def commands_block(output: Output) -> str:
    """Return the commands that make an output from the raw files, and the versions that made it."""
    argvs = [one.record.get("argv") for one in lineage.walk(output)]
    lines = [shlex.join(["gptctl", *(shorten(redact(argument)) for argument in argv)]) for argv in argvs if argv]
    versions = output.record.get("versions") or {}
    used = ", ".join(f"{escape(str(name))} {escape(str(version))}" for name, version in versions.items())
    parts = ["## Make it again"]
    parts += [code_block("\n".join(lines), "sh")] if lines else []
    parts += [f"Made with {used}."] if used else []
    return "\n\n".join(parts)


def title_of(output: Output) -> str:
    """Return the name of an output's folder."""
    return name_of(output.folder)
