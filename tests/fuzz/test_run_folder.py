"""A run folder under everything that can happen to it: a finished output is whole, or it is told that it is not.

Hypothesis writes, kills at any file operation, fills the disk, damages files, resumes with the same or other settings,
verifies and reads, in any order. The model knows what each settings' output must be and whether a file was damaged.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gptctl.core.context import Context
from gptctl.core.errors import GptctlError
from gptctl.core.summary import Counts
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.dataset.schema import with_kind
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.stages.clean import Clean
from gptctl.stages.clean import run as clean
from gptctl.stages.doctor import Doctor
from gptctl.stages.doctor import run as doctor
from tests import file_faults
from tests.conftest import documents, tree_bytes
from tests.fuzz.child import Outcome, outcome
from tests.fuzz.profile import examples

LEAST = (1, 300)  # two settings: characters of the shortest document kept; the second drops some
OPERATIONS = 40  # of a whole run; a fault beyond its last operation never comes
UNLISTED = ("events.jsonl", "log.txt", "config.toml")  # nothing that is read again


def dataset(folder: Path) -> None:
    """Make the input: three shards of real text, so that a run has three tasks."""
    made = []
    rows = documents(24, words=40) + documents(12, words=60)
    for number in range(3):
        part = pa.Table.from_pylist([row | {"source": "s"} for row in rows[12 * number : 12 * number + 12]])
        part = part.set_column(1, "text", part["text"].cast(pa.large_string()))
        part = part.replace_schema_metadata(with_kind(part.schema, "documents").metadata)
        made.append(shards.write_shard(folder, f"shards/part-{number:05d}.arrow", part))
    counts = Counts(documents_in=36, kept=36)
    Manifest("documents", "clean", {}, {"made": "here"}, tuple(made), counts).write(folder)


def run(source: Path, out: Path, least: int, *, force: bool = False, fault: str = "") -> Outcome:
    """Clean the input in a child, with a fault; give the status, or the error."""

    def work() -> str:
        file_faults.install(fault)
        config = Clean(
            inputs=(str(source),),
            out=str(out),
            executor="serial",
            preset="none",
            filters=("length",),
            identify_language=False,
            length={"min_chars": least},
        )
        return clean(config, Context(force=force, argv=("clean", "input", "-o", "out"))).status

    return outcome(work)


def rows_of(folder: Path) -> list[tuple[str, str]]:
    """Read a dataset folder as the next stage does."""
    found = []
    for task in Inputs((str(folder),), ReadOptions()).tasks():
        table = read_task(task, ReadOptions()).documents
        found += list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return found


class Good:
    """What undisturbed runs make: the files and the rows by setting. Made once."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gptctl-fuzz-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.input = self.folder / "input"
        dataset(self.input)
        self.files: dict[int, dict[str, bytes]] = {}
        self.rows: dict[int, list[tuple[str, str]]] = {}
        for least in LEAST:
            out = self.folder / f"out{least}"
            assert run(self.input, out, least) == {"value": "done"}
            self.files[least], self.rows[least] = tree_bytes(out), rows_of(out)
        assert len(self.rows[LEAST[0]]) > len(self.rows[LEAST[1]]) > 0


@cache
def good() -> Good:
    return Good()


class RunFolder(RuleBasedStateMachine):
    """The folder `out`, and what is known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gptctl-fuzz-"))
        self.out = self.folder / "out"
        self.damaged = False  # a file on which a result depends
        self.recorded = True  # run.json is as gptctl wrote it, or there is nothing at all

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def files(self) -> dict[str, bytes]:
        """Everything in `out` but what a killed writer or task left, and the lock."""
        kept = {
            path.relative_to(self.out).as_posix(): path
            for path in sorted(self.out.rglob("*"))
            if path.is_file() and ".tmp-" not in path.name and path.name != ".lock"
        }
        return {name: path.read_bytes() for name, path in kept.items()}

    def results(self) -> dict[str, bytes]:
        return {name: data for name, data in self.files().items() if name.startswith(("shards/", "manifest.json"))}

    def setting(self) -> int | None:
        """The setting that run.json tells."""
        record = manifest.record_of(str(self.out))
        return record["settings"]["length"]["min_chars"] if record else None

    @rule(least=st.sampled_from(LEAST), force=st.booleans())
    def write(self, least: int, force: bool) -> None:
        before, setting = self.files(), self.setting()
        self.judge(run(good().input, self.out, least, force=force), least, force, before, setting)

    @rule(
        least=st.sampled_from(LEAST),
        force=st.booleans(),
        when=st.integers(1, OPERATIONS),
        kind=st.sampled_from(("kill", "enospc")),
    )
    def fail(self, least: int, force: bool, when: int, kind: str) -> None:
        before, setting = self.files(), self.setting()
        found = run(good().input, self.out, least, force=force, fault=f"{kind}:{when}")
        if found != {"crash": "ended by SIGKILL"} and found.get("code") != 4:
            self.judge(found, least, force, before, setting)  # the fault was behind its end
            return
        assert (found.get("code") == 4) == (kind == "enospc"), found
        if "run.json" in before and not self.files():  # --force had emptied it
            self.damaged, self.recorded = False, True

    def judge(self, found: Outcome, least: int, force: bool, before: dict[str, bytes], setting: int | None) -> None:
        """Hold a run that came to its end to what must be."""
        assert "crash" not in found, found["crash"]
        same = setting == least or setting is None
        finished = "manifest.json" in before and not self.damaged and self.recorded
        if "value" in found:
            assert same or force or not finished, "other settings over a finished output"
            if found["value"] == "up to date":
                left = {name: data for name, data in before.items() if not name.startswith("work/")}
                assert not force and self.files() == left
            else:
                assert force or not finished, "made again what was whole"
                self.recorded = True
            right = tree_bytes(self.out) == good().files[least]
            assert right or (self.damaged and not force)
            self.damaged = not right
        elif found["code"] == 5:
            assert found["hint"] and self.files() == before
            assert not self.recorded or not (same or force), found
        else:
            assert found["hint"] and found["code"] == 3 and self.damaged, found

    @precondition(lambda self: self.out.exists())
    @rule(
        which=st.integers(0, 99),
        how=st.sampled_from(("flip", "cut", "empty", "longer", "gone")),
        place=st.floats(0, 1, exclude_max=True),
        bit=st.integers(0, 7),
    )
    def damage(self, which: int, how: str, place: float, bit: int) -> None:
        names = [name for name in self.files() if name not in UNLISTED]
        if not names:
            return
        path = self.out / names[which % len(names)]
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        if how == "gone":
            path.unlink()
        elif how == "flip" and content:
            content[at] ^= 1 << bit
            path.write_bytes(content)
        else:
            path.write_bytes({"cut": content[:at], "longer": content + b"\0"}.get(how, b""))
        if path.name == "run.json":
            self.recorded = False
        else:
            self.damaged = True

    @rule()
    def remove(self) -> None:
        """A user throws the folder away."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.damaged, self.recorded = False, True

    @precondition(lambda self: (self.out / "run.json").exists())
    @rule()
    def verify(self) -> None:
        """doctor finds what is damaged or unfinished, and nothing else."""
        try:
            failure = doctor(Doctor(paths=(str(self.out),))).failure
        except GptctlError as error:
            assert error.exit_code == 3 and not self.recorded, error
            return
        is_unfinished = str(failure).startswith("unfinished") and "manifest.json" not in self.files()
        assert failure is None or is_unfinished or self.damaged or not self.recorded, failure
        if failure is None and "manifest.json" in self.files():
            listed = [{name: tree[name] for name in self.results() if name in tree} for tree in good().files.values()]
            assert self.results() in listed or not self.recorded

    @invariant()
    def readable_or_refused(self) -> None:
        """The next stage gets the rows of one of the settings, or an error; never others."""
        try:
            found = rows_of(self.out)
        except GptctlError as error:
            assert error.exit_code == (3 if self.out.exists() else 2), error
            whole = not self.damaged and self.recorded and (self.out / "manifest.json").exists()
            assert not whole, error
            return
        assert found in list(good().rows.values())


@pytest.mark.slow
def test_run_folder() -> None:
    run_state_machine_as_test(RunFolder, settings=examples(25, share=0.2))


@pytest.mark.slow
def test_every_operation() -> None:
    """Killed, or out of room, at each file operation of a run: nothing is called damaged, and the same command ends it."""
    reached = 0
    for kind in ("kill", "enospc"):
        for when in range(1, OPERATIONS + 1, 1 if kind == "kill" else 3):
            folder = RunFolder()
            folder.fail(least=LEAST[0], force=False, when=when, kind=kind)
            reached = max(reached, when if "manifest.json" not in folder.files() else 0)
            if (folder.out / "run.json").exists():
                folder.verify()
            folder.readable_or_refused()
            folder.write(least=LEAST[0], force=False)
            folder.teardown()
    assert 25 < reached < OPERATIONS
