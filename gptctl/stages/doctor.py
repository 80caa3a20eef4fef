"""Verify outputs, checkpoints and the machine; say what to run again; trace a metric back to the raw files."""

from __future__ import annotations

import platform
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from gptctl.core.config import StageConfig, Values, argument, flag
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.formatting import format_bytes, format_number
from gptctl.core.machine import available_cpus
from gptctl.core.run_record import library_versions
from gptctl.core.summary import Summary, Table
from gptctl.evals import fingerprints
from gptctl.io import diagnose, lineage
from gptctl.io.diagnose import Finding
from gptctl.io.files import plain_path, read_if_exists
from gptctl.io.lineage import Origin, Output
from gptctl.io.object_storage.address import is_uri, join
from gptctl.text.tokenizer import Tokenizer

EXAMPLES = (
    "gptctl doctor",
    "gptctl doctor clean unique run",
    "gptctl doctor classifier --lineage",
)
RUNS = ("pretrain", "finetune")
LOW_BYTES = 10**9
MAX_FILES = 8  # of one origin, shown; --json has all


class Doctor(StageConfig):
    """Check outputs of gptctl, model folders, and this machine.

    Every file that a manifest or a checkpoint lists is compared with its checksum. Without PATH only the machine is
    looked at. Exits with 3 if anything is damaged, and says which commands make it again. Nothing is changed.
    """

    paths: tuple[str, ...] = argument(
        (), "[PATH...]", "Outputs of stages, folders that hold some, or model folders.", reads=False
    )
    lineage: bool = flag(
        False,
        "Check what PATH was made from too, and show the chain back to the raw files.",
        panel="Input",
        switch=True,
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return super().without_effect() | ({} if self.paths else {"lineage": "without PATH"})


def plan(config: Doctor, context: Context) -> Summary:
    """Looking changes nothing: the plan is the look."""
    return run(config, context)


def run(config: Doctor, context: Context | None = None) -> Summary:
    """Check, and show what was found."""
    context = context or Context()
    tables = []
    outputs: dict[str, Output] = {}
    asked, models = find(config.paths)
    for folder in asked:
        traced = lineage.trace(folder, fingerprints.fingerprints_of if config.lineage else None)
        outputs |= {one.folder: one for one in (lineage.walk(traced) if config.lineage else [traced])}
        if config.lineage:
            for line in chain(traced):
                context.info(line)
    machine = look_at_machine(config.paths)
    if not config.paths:
        tables.append(Table("machine", ("", ""), tuple((name, str(value)) for name, value in machine.items())))
    findings: list[Finding] = []
    for number, output in enumerate(outputs.values()):
        context.progress(number, len(outputs), "outputs", output.folder)
        findings += examine(output)
    for folder in models:
        from gptctl.model.files.diagnose import check_model

        findings += check_model(Path(folder))
    commands = remedies(list(outputs.values()), findings)
    if outputs or models:
        tables.append(verdicts(list(outputs.values()), models, findings))
    for finding in findings:
        context.info(f"{finding.level}: {finding.where}: {finding.what}")
    for command in commands:
        context.info(f"run again: {command}")
    damaged = [finding for finding in findings if finding.level == "damage"]
    metrics: Values = {
        "healthy": not damaged,
        "checked": [*outputs, *models],
        "findings": [finding.to_json() for finding in findings],
        "run_again": commands,
        "machine": machine,
    }
    if config.lineage:
        metrics["lineage"] = [as_json(outputs[folder]) for folder in asked]
    failure = None
    if damaged:
        hint = f"run again: {commands[0]}" if commands else "copy it again from its source"
        failure = DataError(f"damaged: {damaged[0].where}: {damaged[0].what}{others(damaged)}", hint)
    return Summary("doctor", "done", metrics=metrics, tables=tuple(tables), failure=failure)


def find(paths: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Find the outputs and the model folders that the arguments name or hold.

    Raises UsageError (2) for a missing path, DataError (3) for one with neither.
    """
    outputs: list[str] = []
    models: list[str] = []
    for path in map(plain_path, paths):
        try:
            outputs += lineage.find(path)
        except DataError:
            if not fingerprints.is_model(path):
                raise
            models.append(path)
    return list(dict.fromkeys(outputs)), models


def examine(output: Output) -> list[Finding]:
    """Check one output, and of a training run its checkpoints and model; say which inputs have changed since."""
    found = [*diagnose.check(output), *check_tokenizer(output)]
    if output.stage in RUNS and not is_uri(output.folder):
        from gptctl.model.files.diagnose import check_run

        found += check_run(output)
    for origin in output.origins:
        if origin.state == "changed":
            found.append(
                Finding("note", output.folder, f"was made from another {origin.role} than {origin.path} is now")
            )
    return found


def check_tokenizer(output: Output) -> Iterator[Finding]:
    """Compare the tokenizer beside token shards with the one that they were made with."""
    if output.manifest is None or output.manifest.kind != "tokens":
        return
    where = join(output.folder, "tokenizer.json")
    data = read_if_exists(where)
    try:
        same = data is not None and Tokenizer.from_json(data.decode()).hash == output.manifest.tokenizer
    except (DataError, UnicodeDecodeError):
        same = False
    if not same:
        yield Finding("damage", str(where), "is not the tokenizer that the shards were made with")


def remedies(outputs: list[Output], findings: list[Finding]) -> list[str]:
    """List the commands that make good what is damaged or unfinished, in the order of the chain.

    The same command on the same input gives the same bytes, so what was made from a damaged output stays as it is.
    """
    commands = []
    for output in outputs:
        levels = {f.level for f in findings if f.where == output.folder or f.where.startswith(f"{output.folder}/")}
        argv = output.record.get("argv")
        if argv and levels & {"damage", "unfinished"}:
            force = ["--force"] if "damage" in levels and "--force" not in argv else []
            commands.append(in_folder(output.record.get("cwd"), shlex.join(["gptctl", *argv, *force])))
    return commands


def in_folder(folder: str | None, command: str) -> str:
    """Say where a command has to be run, if not here."""
    return command if not folder or folder == str(Path.cwd()) else f"cd {shlex.quote(folder)} && {command}"


def verdicts(outputs: list[Output], models: list[str], findings: list[Finding]) -> Table:
    """Show each thing that was checked and the worst that was found."""

    def verdict(folder: str) -> str:
        levels = {f.level for f in findings if f.where == folder or f.where.startswith(f"{folder}/")}
        return "damaged" if "damage" in levels else "unfinished" if "unfinished" in levels else "ok"

    rows = [(one.folder, one.stage, files_of(one), verdict(one.folder)) for one in outputs]
    rows += [(folder, "model", "", verdict(folder)) for folder in models]
    return Table("checked", ("", "stage", "files", "state"), tuple(rows))


def files_of(output: Output) -> str:
    """Say how much was verified."""
    shards = output.manifest.shards if output.manifest else ()
    return f"{len(shards):,}, {format_bytes(sum(shard.bytes for shard in shards))}" if shards else ""


def others(damaged: list[Finding]) -> str:
    """Count the findings that are not named."""
    return f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""


def chain(output: Output, indent: str = "") -> Iterator[str]:
    """Show an output and below it what it was made from, back to the raw files with their hashes."""
    yield f"{indent}{output.folder}: {output.stage}{figures(output)}"
    for origin in output.origins:
        if origin.output:
            yield f"{indent}  {origin.role} {hash_of(origin)} ({origin.state})"
            yield from chain(origin.output, indent + "    ")
            continue
        where = origin.path if origin.path not in ("", "-") else "from a pipe" if origin.path else "place not recorded"
        yield f"{indent}  {origin.role} {where} ({origin.state})"
        for name, value in list(origin.fingerprints.items())[:MAX_FILES]:
            yield f"{indent}    {value}  {name}"
        if len(origin.fingerprints) > MAX_FILES:
            yield f"{indent}    and {len(origin.fingerprints) - MAX_FILES:,} more files; --json lists them"


def hash_of(origin: Origin) -> str:
    """Return the recorded hash of an origin that is one thing."""
    return next(iter(origin.fingerprints.values()), "not recorded")


def figures(output: Output) -> str:
    """Return the first figures of an output's result."""
    metrics = (output.record.get("summary") or {}).get("metrics") or {}
    shown = [f"{name} {format_number(value)}" for name, value in metrics.items() if isinstance(value, float)][:4]
    return f", {', '.join(shown)}" if shown else ""


def as_json(output: Output) -> Values:
    """Return a chain as nested tables."""
    record = output.record
    return {
        "folder": output.folder,
        "stage": output.stage,
        "argv": record.get("argv"),
        "content": output.manifest.content() if output.manifest else None,
        "metrics": (record.get("summary") or {}).get("metrics"),
        "versions": record.get("versions"),
        "origins": [
            {"role": o.role, "path": o.path, "state": o.state, "hashes": o.fingerprints}
            | ({"output": as_json(o.output)} if o.output else {})
            for o in output.origins
        ],
    }


def look_at_machine(paths: tuple[str, ...]) -> Values:
    """Look at processors, memory, GPUs, disks and versions."""
    import psutil

    memory = psutil.virtual_memory()
    found: Values = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": available_cpus(),
        "memory": f"{format_bytes(memory.available)} free of {format_bytes(memory.total)}",
    }
    for path in sorted({str(nearest(path)) for path in paths if not is_uri(path)} or {str(Path.cwd())}):
        usage = shutil.disk_usage(path)
        low = ", little" if usage.free < LOW_BYTES else ""
        found[f"disk of {path}"] = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)}{low}"
    if not paths:
        found["accelerators"] = accelerators()
    return found | library_versions()


def nearest(path: str) -> Path:
    """Return the folder itself or the nearest one above that exists."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def accelerators() -> str:
    """Name the GPUs that torch can use."""
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "Apple GPU" if torch.backends.mps.is_available() else "none"
