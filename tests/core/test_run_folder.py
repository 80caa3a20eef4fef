"""The output folder: fresh, resume, up to date, or somebody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from gptctl.core import checked_json
from gptctl.core.config import StageConfig, key
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, DivergedError, MachineError, StoppedError, UsageError
from gptctl.core.run_folder import open_run
from gptctl.core.run_record import MANIFEST
from gptctl.core.summary import Summary
from gptctl.core.written_files import Entry


class Stage(StageConfig):
    """A stage."""

    steps: int = key(1, "")
    name: str = key("a", "")


class Declared:
    """A manifest that says nothing."""

    paths: Collection[str] = ()

    def with_files(self, files: Sequence[Entry]) -> Declared:
        return self

    def write(self, folder: Path) -> None:
        checked_json.write(folder / MANIFEST, {})


def complete(out: Path, config: Stage, inputs: dict[str, str] | Callable[[], dict[str, str]], **more: object) -> bool:
    with open_run(out, config, more.pop("context", Context()), inputs, **more) as run:
        if run.up_to_date:
            return False
        run.finish(Summary("stage", metrics={"loss": float("nan")}), Declared())
    return True


def test_done_once_then_up_to_date(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert complete(out, Stage(), {"x": "1"})
    assert not complete(out, Stage(), {"x": "1"})
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert json.loads((out / "run.json").read_text())["summary"]["metrics"] == {"loss": None}
    with open_run(out, Stage(), Context(), {"x": "1"}) as run:
        assert run.previous_summary().status == "up to date"


def test_other_settings_and_other_inputs_are_conflicts(tmp_path: Path) -> None:
    complete(tmp_path, Stage(), {"x": "1"})
    with pytest.raises(ConflictError, match=r"name \(was 'a', now 'b'\)"):
        complete(tmp_path, Stage(name="b"), {"x": "1"})
    with pytest.raises(ConflictError, match="other input: x"):
        complete(tmp_path, Stage(), {"x": "2"})
    assert complete(tmp_path, Stage(name="b"), {"x": "2"}, context=Context(force=True))


def test_extendable_keys_may_grow_but_not_shrink(tmp_path: Path) -> None:
    complete(tmp_path, Stage(steps=2), {})
    assert complete(tmp_path, Stage(steps=3), {}, extendable={"steps": float})
    with pytest.raises(ConflictError, match="steps"):
        complete(tmp_path, Stage(steps=2), {}, extendable={"steps": float})


def test_a_failure_is_recorded_and_the_next_run_resumes(tmp_path: Path) -> None:
    for error, status in ((DataError("bad", "hint"), "failed"), (StoppedError("stop", "hint", 2), "stopped")):
        with pytest.raises(type(error)), open_run(tmp_path, Stage(), Context(), {}):
            (tmp_path / "shards").mkdir(exist_ok=True)
            raise error
        record = json.loads((tmp_path / "run.json").read_text())
        assert (record["status"], record["error"]) == (status, str(error))
        assert "Traceback" in (tmp_path / "log.txt").read_text()
    with open_run(tmp_path, Stage(), Context(), {}) as run:
        assert run.record["resumed"]


def test_a_failure_that_left_nothing_does_not_bind_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(DataError), open_run(tmp_path, Stage(), Context(), {"x": "1"}):
        raise DataError("bad", "hint")
    with open_run(tmp_path, Stage(name="b"), Context(), {"x": "2"}) as run:
        assert not run.record["resumed"]


SHARD = "shards/part-00000.arrow"


@pytest.mark.parametrize(
    ("error", "left", "is_free"),
    [
        (DataError("no column", "hint"), SHARD, True),
        (UsageError("no such option", "hint"), SHARD, True),
        (MachineError("disk full", "hint"), SHARD, False),
        (MachineError("out of memory", "hint"), "plan.json", True),
        (DivergedError("not finite", "hint"), "plan.json", True),
        (DivergedError("not finite", "hint"), "checkpoints/step-000002/manifest.json", False),
        (DataError("checksum mismatch", "hint"), "checkpoints/step-000002/manifest.json", False),
        (StoppedError("stop", "hint", 2), SHARD, False),
        (RuntimeError("a bug"), SHARD, False),
        (DataError("no column", "hint"), "notes.txt", False),
    ],
)
def test_what_a_failed_run_leaves_blocks_others_only_if_it_is_of_use(
    error: Exception, left: str, is_free: bool, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), open_run(tmp_path, Stage(), Context(), {"x": "1"}):
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).write_text("{}")
        raise error
    for config, inputs in ((Stage(name="b"), {"x": "1"}), (Stage(), {"x": "2"})):
        if not is_free:
            with pytest.raises(ConflictError), open_run(tmp_path, config, Context(), inputs):
                pass
            continue
        with pytest.raises(type(error)), open_run(tmp_path, config, Context(), inputs) as run:
            assert not run.record["resumed"] and not (tmp_path / left).exists()
            (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / left).write_text("{}")
            raise error


def test_an_incomplete_output_is_made_again(tmp_path: Path) -> None:
    complete(tmp_path, Stage(), {})
    (tmp_path / MANIFEST).write_text("{}")
    assert complete(tmp_path, Stage(), {})


def test_changed_inputs_are_not_sealed_and_the_next_run_starts_afresh(tmp_path: Path) -> None:
    hashes = iter("abbb")
    with pytest.raises(DataError, match="x changed or vanished while it was read"):
        complete(tmp_path, Stage(), lambda: {"x": next(hashes)})
    assert not (tmp_path / MANIFEST).exists()
    (tmp_path / "half").touch()
    with open_run(tmp_path, Stage(), Context(), lambda: {"x": next(hashes)}) as run:
        assert not run.record["resumed"]
        assert not (tmp_path / "half").exists()
        run.finish(Summary("stage", "done"), Declared())


def test_a_folder_that_was_deleted_is_not_sealed_and_the_next_run_starts_afresh(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(ConflictError, match="was deleted or replaced while it was written"),
        open_run(out, Stage(), Context(), {}) as run,
    ):
        shutil.rmtree(out)
        run.event("step")  # makes the folder again
        run.finish(Summary("stage"), Declared())
    assert not (out / MANIFEST).exists()
    (out / "half").touch()
    assert complete(out, Stage(), {})
    assert not (out / "half").exists()


def test_a_folder_that_another_run_took_over_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConflictError, match="deleted or replaced"), open_run(out, Stage(), Context(), {}) as run:
        out.rename(tmp_path / "away")
        assert complete(out, Stage(steps=2), {})
        run.finish(Summary("stage"), Declared())
    assert not complete(out, Stage(steps=2), {})


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_run(tmp_path, Stage(), Context(), {}), pytest.raises(ConflictError, match="in use by pid"):
        complete(tmp_path, Stage(), {})
    assert complete(tmp_path, Stage(), {})


def test_events_are_strict_json(tmp_path: Path) -> None:
    with open_run(tmp_path, Stage(), Context(), {}) as run:
        run.event("step", loss=float("inf"), list=[float("nan"), 1.0])
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (last["loss"], last["list"]) == (None, [None, 1.0])
