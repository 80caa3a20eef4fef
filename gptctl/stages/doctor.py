"""Verify outputs, checkpoints and the machine; show what to run again; trace a metric back to the raw files."""

from __future__ import annotations

from dataclasses import replace

from gptctl.core.config import StageConfig, Values, argument, flag
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.summary import Summary, Table
from gptctl.evals.fingerprints import fingerprints_of, is_model
from gptctl.io import lineage
from gptctl.io.files import plain_path
from gptctl.io.lineage import Output
from gptctl.reporting.diagnosis import diagnose_all
from gptctl.reporting.lineage import lineage_json, lineage_lines
from gptctl.reporting.machine import describe_machine

EXAMPLES = (
    "gptctl doctor",
    "gptctl doctor clean unique run",
    "gptctl doctor classifier --lineage",
)


class Doctor(StageConfig):
    """Check outputs of gptctl, model folders, and this machine.

    Every file that a manifest or a checkpoint lists is compared with its checksum. Without PATH, only the machine is
    checked. The command exits with 3 if anything is damaged or unfinished, and shows the commands that repair it. It
    changes nothing.
    """

    paths: tuple[str, ...] = argument(
        (), "[PATH...]", "Outputs of stages, folders that contain some, or model folders.", reads=False
    )
    lineage: bool = flag(
        False,
        "Also check what PATH was made from, and show the lineage back to the raw files.",
        panel="Input",
        switch=True,
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return super().without_effect() | ({} if self.paths else {"lineage": "without PATH"})


def plan(config: Doctor, context: Context) -> Summary:
    """Return the same as run(), which changes nothing."""
    return run(config, context)


def run(config: Doctor, context: Context | None = None) -> Summary:
    """Check the outputs and models that PATH names, and return what was found."""
    context = context or Context()
    outputs: dict[str, Output] = {}
    lines: list[str] = []
    requested, models = find(config.paths)
    for folder in requested:
        traced = lineage.trace(folder, fingerprints_of if config.lineage else None)
        outputs |= {one.folder: one for one in (lineage.walk(traced) if config.lineage else [traced])}
        if config.lineage:
            lines += lineage_lines(traced)
    machine = describe_machine(config.paths)
    diagnosis = diagnose_all(list(outputs.values()), models, context)
    commands = diagnosis.repair_commands()
    lines += [f"{finding.level}: {finding.where}: {finding.what}" for finding in diagnosis.findings]
    lines += [f"run again: {command}" for command in commands]
    tables = []
    if not config.paths:
        tables.append(Table("machine", ("", ""), tuple((name, str(value)) for name, value in machine.items())))
    if outputs or models:
        tables.append(diagnosis.table())
    metrics: Values = {
        "healthy": not diagnosis.broken,
        "checked": [*outputs, *models],
        "findings": [finding.to_json() for finding in diagnosis.findings],
        "run_again": commands,
        "machine": machine,
    }
    if config.lineage:
        metrics["lineage"] = [lineage_json(outputs[folder]) for folder in requested]
    found = Summary("doctor", "done", metrics=metrics, lines=tuple(lines), tables=tuple(tables))
    return replace(found, failure=diagnosis.failure())


def find(paths: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the outputs and the model folders that the paths name or contain.

    Raises UsageError (2) for a missing path, DataError (3) for one without either.
    """
    outputs: list[str] = []
    models: list[str] = []
    for path in map(plain_path, paths):
        try:
            outputs += lineage.find(path)
        except DataError:
            if not is_model(path):
                raise
            models.append(path)
    return list(dict.fromkeys(outputs)), models
