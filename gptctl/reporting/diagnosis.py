"""The diagnosis of outputs and model folders: findings, a table of states, and the commands that repair the damage."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.formatting import format_bytes
from gptctl.core.summary import Table
from gptctl.io import diagnose
from gptctl.io.diagnose import Finding
from gptctl.io.files import read_if_exists
from gptctl.io.lineage import Output
from gptctl.io.object_storage.address import is_uri, join
from gptctl.text.tokenizer import Tokenizer

TRAINING_STAGES = ("pretrain", "finetune")


@dataclass(frozen=True)
class Diagnosis:
    """The outputs and model folders that were checked, in the order of the lineage, and what was found."""

    outputs: Sequence[Output]
    models: Sequence[str]
    findings: Sequence[Finding]

    @property
    def broken(self) -> list[Finding]:
        """Return the findings of outputs that no command can read: those of damage, then those of unfinished work."""
        levels = ("damage", "unfinished")
        return [finding for level in levels for finding in self.findings if finding.level == level]

    def levels(self, folder: str) -> set[str]:
        """Return the levels of the findings about a folder and the files in it."""
        return {f.level for f in self.findings if f.where == folder or f.where.startswith(f"{folder}/")}

    def state(self, folder: str) -> str:
        """Return the worst state that was found in a folder."""
        levels = self.levels(folder)
        return "damaged" if "damage" in levels else "unfinished" if "unfinished" in levels else "ok"

    def table(self) -> Table:
        """Return a table of what was checked, with the state of each."""
        rows = [(one.folder, one.stage, describe_files(one), self.state(one.folder)) for one in self.outputs]
        rows += [(folder, "model", "", self.state(folder)) for folder in self.models]
        return Table("checked", ("", "stage", "files", "state"), tuple(rows))

    def repair_commands(self) -> list[str]:
        """Return the commands that make damaged or unfinished outputs again, in the order of the lineage.

        The same command on the same input gives the same bytes. What was made from a damaged output stays valid.
        """
        commands = []
        for output in self.outputs:
            levels = self.levels(output.folder)
            argv = output.record.get("argv")
            if argv and levels & {"damage", "unfinished"}:
                force = ["--force"] if "damage" in levels and "--force" not in argv else []
                commands.append(command_in(output.record.get("cwd"), shlex.join(["gptctl", *argv, *force])))
        return commands

    def failure(self) -> DataError | None:
        """Return the error that names the worst finding and the command that repairs it, or None if all is in order."""
        if not self.broken:
            return None
        commands, first, count = self.repair_commands(), self.broken[0], len(self.broken)
        more = f" and {count - 1} more" if count > 1 else ""
        hint = f"run again: {commands[0]}" if commands else "copy it again from its source"
        found = f"{first.where}: {first.what}{more}"
        return DataError(f"damaged: {found}" if first.level == "damage" else f"unfinished: {found}", hint)


def diagnose_all(outputs: Sequence[Output], models: Sequence[str], context: Context) -> Diagnosis:
    """Check every output and every model folder, and report progress."""
    findings: list[Finding] = []
    for number, output in enumerate(outputs):
        context.progress(number, len(outputs), "outputs", output.folder)
        findings += check_output(output)
    for folder in models:
        from gptctl.model.files.diagnose import check_model

        findings += check_model(Path(folder))
    return Diagnosis(outputs, models, findings)


def check_output(output: Output) -> list[Finding]:
    """Check an output, the checkpoints and the model of a training run, and whether inputs have changed since."""
    findings = [*diagnose.check(output), *check_tokenizer(output)]
    is_filter = output.manifest is not None and output.manifest.kind == "filter"  # its manifest lists its files
    if output.stage in TRAINING_STAGES and not is_filter and not is_uri(output.folder):
        from gptctl.model.files.diagnose import check_run

        findings += check_run(output)
    for origin in output.origins:
        if origin.state == "changed":
            findings.append(
                Finding("note", output.folder, f"was made from another {origin.role} than {origin.path} is now")
            )
    return findings


def check_tokenizer(output: Output) -> Iterator[Finding]:
    """Yield damage if the tokenizer beside token shards is not the one that they were made with."""
    if output.manifest is None or output.manifest.kind != "tokens":
        return
    path = join(output.folder, "tokenizer.json")
    data = read_if_exists(path)
    try:
        same = data is not None and Tokenizer.from_json(data.decode()).hash == output.manifest.tokenizer
    except (DataError, UnicodeDecodeError):
        same = False
    if not same:
        yield Finding("damage", str(path), "is not the tokenizer that the shards were made with")


def command_in(folder: str | None, command: str) -> str:
    """Return a command that runs in a folder: with `cd` if that is not the current folder."""
    return command if not folder or folder == str(Path.cwd()) else f"cd {shlex.quote(folder)} && {command}"


def describe_files(output: Output) -> str:
    """Return the number and size of the shards that were verified."""
    shards = output.manifest.shards if output.manifest else ()
    return f"{len(shards):,}, {format_bytes(sum(shard.bytes for shard in shards))}" if shards else ""
