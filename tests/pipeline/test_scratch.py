"""Temporary files of a pipe are in --tmp; if they do not fit, the hint names it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core.errors import MachineError
from gptctl.pipeline.scratch import scratch_folder
from tests.conftest import Ran, documents, write_jsonl


def test_a_full_folder(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="disk full writing") as caught, scratch_folder(None, str(tmp_path)) as place:
        assert place.parent == tmp_path
        raise MachineError(f"disk full writing {place / 'run'} (0 B free)", "free space")
    assert caught.value.hint == "name a folder with more space with --tmp, or set TMPDIR"
    assert not list(tmp_path.iterdir())


def test_tmp(tmp_path: Path, gptctl: Callable[..., Ran]) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(10))
    done = gptctl("dedup", "raw.jsonl", "-o", "-", "--tmp", "absent")
    assert (done.code, "no such file or folder: absent" in done.err) == (2, True), done.err
    done = gptctl("dedup", "raw.jsonl", "-o", "out", "--tmp", ".")
    assert (done.code, "--tmp has no effect without -o -" in done.err) == (2, True), done.err
    assert gptctl("dedup", "raw.jsonl", "-o", "-", "--tmp", ".").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]
