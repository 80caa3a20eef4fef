"""Every file that a command writes is listed with its hash: what changes or vanishes is found, and is made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core.written_files import NOT_LISTED
from tests.conftest import Ran, run_gptctl

Gptctl = Callable[..., Ran]
# Each writes all the kinds of files that it can write.
COMMANDS = {
    "clean": "clean raw.jsonl odd.jsonl -o clean --keep-rejects",
    "parquet": "clean raw.jsonl -o parquet --format parquet",
    "dedup": "dedup clean -o dedup",
    "split": "split labelled/train.jsonl -o split --val 0.2 --test 0.2 --stratify label",
    "tokenize": "tokenize dedup -o tokenize --vocab-size 300 --val 0.1 --test 0.1",
    "pretrain": "pretrain tokenize -o pretrain --preset test-modern --steps 3",
    "finetune": "finetune run labelled -o finetune --epochs 0.5 --lora 2 --set loggers=tensorboard",
    "filter": "finetune none labelled/train.jsonl -o filter --task filter",
    "eval": "eval classifier labelled -o eval",
    "generate": "generate run --prompts prompts.jsonl -o generate --max-tokens 4",
    "export": "export run -o export",
}
APPENDED = ("events.jsonl", "log.txt")  # a lost log cannot be made again; a warning says so


@pytest.fixture(scope="module")
def made(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of all commands."""
    folder = tmp_path_factory.mktemp("written")
    for name in ("raw.jsonl", "labelled", "run", "classifier", "prompts.jsonl"):
        (folder / name).symlink_to(workspace / name)
    (folder / "odd.jsonl").write_text('{"text": "short"}\nno record\n')
    for command in COMMANDS.values():
        done = run_gptctl(*command.split(), cwd=folder)
        assert done.code == 0, (command, done.err)
    return folder


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Take the last two bytes of a file away. The last of JSON is a line end, which means nothing."""
    os.truncate(path, path.stat().st_size - 2)


def files_of(folder: Path) -> list[Path]:
    """Return the files of an output that must be listed."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size and not {*path.relative_to(folder).parts} & {*NOT_LISTED}
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_damage_is_found_and_made_again(command: str, made: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Each file is flipped, cut and deleted; files of the same folder and kind take turns where they are many."""
    for name in made.iterdir():
        if name.name != command:
            (tmp_path / name.name).symlink_to(name)
    whole = made / command
    listed = files_of(whole)
    names = [path.relative_to(whole) for path in listed]
    assert any(path.name == "config.toml" for path in listed)
    assert gptctl("doctor", whole).code == 0
    for number, path in enumerate(listed):
        name = path.relative_to(whole)
        for damage in (flip, cut, Path.unlink):
            copy = tmp_path / command
            shutil.copytree(whole, copy)
            damage(copy / name)
            found = gptctl("doctor", command)
            assert found.code == 3, (name, damage, found.err)
            assert str(name) in found.out.decode(), (name, found.out)
            if damage in (flip, cut, Path.unlink)[number % 3 : number % 3 + 1]:
                again(command, name, gptctl)
                lost = [name] if name.as_posix() in APPENDED and damage is Path.unlink else []
                assert [path.relative_to(copy) for path in files_of(copy)] == [one for one in names if one not in lost]
            shutil.rmtree(copy)


def again(command: str, name: Path, gptctl: Gptctl) -> None:
    """Run the same command, after which the output is whole."""
    done = gptctl(*COMMANDS[command].split())
    assert done.code == 0, (name, done.err)
    assert ("--force makes everything again" in done.err) == (name.as_posix() in APPENDED), (name, done.err)
    healthy = gptctl("doctor", command)
    assert healthy.code == 0, (name, healthy.err)
