"""Which files an INPUT argument names: links, globs and folders that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core.errors import MachineError, UsageError
from gptctl.io.input import find
from gptctl.io.input.find import find_files
from tests.conftest import Ran


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a subfolder, a link to a folder outside, one to itself, and one that leads nowhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.txt", "in/sub/b.txt", "real/c.txt", "in/.hidden/d.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"The text of {name}.")
    Path("in/link").symlink_to("../real")
    Path("in/again").symlink_to("sub")
    Path("in/sub/loop").symlink_to("..")
    Path("in/dangling.txt").symlink_to("/nowhere/x.txt")
    return tmp_path / "in"


NAMES = ["a.txt", "dangling.txt", "link/c.txt", "sub/b.txt"]


@pytest.mark.parametrize("argument", ["in", "in/", "in/**", "in/*", "./in", "in/**/*"])
def test_links_to_folders_are_followed_once(argument: str, tree: Path) -> None:
    """A folder that two paths lead to is read once, by its own name rather than that of a link."""
    found = find_files(argument)
    names = [file.name for file in found]
    assert names == NAMES
    assert [file.problem for file in found if file.problem] == ["a link to a file that does not exist"]


def test_what_a_glob_finds_keeps_its_folder(tree: Path) -> None:
    assert [file.name for file in find_files("in/*.txt")] == ["a.txt", "dangling.txt"]
    assert [file.name for file in find_files("in/*/b.txt")] == ["again/b.txt", "sub/b.txt"]
    assert [file.name for file in find_files("in/sub")] == ["b.txt"]
    assert [file.name for file in find_files("**/b.txt")] == ["in/sub/b.txt"]
    assert [file.name for file in find_files(f"{tree}/**/c.txt")] == ["link/c.txt"]
    assert [file.name for file in find_files("[ir]*/[ac].txt")] == ["in/a.txt", "real/c.txt"]
    with pytest.raises(UsageError, match="no such file or folder"):
        find_files("in/**/*.md")


def test_a_folder_that_may_not_be_read_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str | Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = os.scandir
    monkeypatch.setattr(find.os, "scandir", scandir)
    for argument in ("in", "in/**"):
        with pytest.raises(MachineError, match="permission denied: in/sub"):
            find_files(argument)


def test_a_dangling_link_is_quarantined_and_the_others_are_read(tree: Path, gptctl: Callable[..., Ran]) -> None:
    done = gptctl("clean", "in", "-o", "out", "--preset", "none", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["kept"] == 3
    assert done.json["counts"]["quarantined"] == {"a link to a file that does not exist": 1}
    assert "first at dangling.txt file" in done.err
    assert gptctl("clean", "in", "-o", "out", "--preset", "none", "--json").json["status"] == "up to date"


def test_a_pipe_is_no_file(tree: Path, gptctl: Callable[..., Ran]) -> None:
    """It cannot be read twice, as files are: one that is named is an error, one in a folder is left out and counted."""
    os.mkfifo("in/pipe")
    done = gptctl("clean", "in", "-o", "out", "--preset", "none", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["quarantined"] == {"a link to a file that does not exist": 1, "not a regular file": 1}
    with pytest.raises(UsageError, match="in/pipe is not a regular file"):
        find_files("in/pipe")


def test_empty_files_are_named(tree: Path, gptctl: Callable[..., Ran]) -> None:
    Path("in/dangling.txt").unlink()
    Path("in/empty.jsonl").touch()
    done = gptctl("clean", "in", "-o", "out", "--preset", "none")
    assert done.code == 0, done.err
    assert "warning: 1 of 4 files is empty: empty.jsonl\n" in done.err
