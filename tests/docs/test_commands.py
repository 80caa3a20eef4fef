"""Every command and piece of Python in README.md and docs/ is run, in the order of its page, unless it says how it is
checked.

A block begins with ```sh, or with ```sh check=HOW:

    gate    run; exit 7, a gate that was missed, is fine too: the models of the tests learn nothing
    parse   options and settings are read, nothing else: it needs GPUs, a cluster, a download or somebody else's server
    exists  tools of this repository: scripts, test folders and make targets are there, with the options that are named
    NAME    tests/docs/test_NAME.py runs it
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import CACHE, REPO, plain_environment
from tests.docs.pages import PAGES, Block, blocks

COMMAND = re.compile(r"^ {4,}([A-Z_]+=\S+ )*(gptctl|python|pytest|make|bash|sh) ", re.MULTILINE)
EXTRAS = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
LITTLE = {"GPTCTL_STEPS": "3", "GPTCTL_EPOCHS": "1", "GPTCTL_MAX_TOKENS": "8", "GPTCTL_EXECUTOR": "serial"}


# They read the text of the standard library, import transformers and peft, train, or have many commands.
SLOW = (
    "tutorial", "export", "python", "recipes", "clean", "commands", "dedup", "eval", "finetune", "pretrain", "report",
    "troubleshooting",
)  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else [], id=page.stem) for page in PAGES],
)
def test_commands(page: Path, desk: Path) -> None:
    for block in blocks(page):
        if block.language == "sh" and block.check in ("run", "gate"):
            make_room(block.text, desk)
            text = re.sub(r"--max-minutes \d+", "--max-minutes 0.02", block.text)
            done = shell(text, desk, **LITTLE)
            fine = {0} | ({7} if block.check == "gate" else set()) | ({141} if "| head" in block.text else set())
            assert done.returncode in fine and "Traceback" not in done.stderr, (block.line, done.stderr)
        elif block.language == "sh" and block.check == "parse":
            check_options(block, desk)
        elif block.language == "sh" and block.check != "exists":
            assert (REPO / "tests" / "docs" / f"test_{block.check}.py").exists()
        elif block.language == "sh":
            for line in lines(block):
                check_tool(line)
        elif block.language == "python" and page.stem not in (
            "contributing",
            "plugins",
            "serve",
        ):  # their tests write files
            code = f"import sys; sys.path.insert(0, {str(REPO)!r})\n{block.text}"
            done = shell(f"python - <<'END'\n{code}\nEND", desk)
            assert done.returncode == 0, (block.line, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_the_text(page: Path, desk: Path) -> None:
    """Those between backticks: their options and settings are read. Dots stand for what is left out."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    named = {one for one in re.findall(r"`(gptctl [^`]+)`", text) if not re.search(r"COMMAND|--help|\.\.\.", one)}
    parts = {" ".join(part.split()) for one in named for part in one.replace("\\|", "|").split(" | ")}
    for part in sorted(parts):
        if len(part.split()) > 2:
            done = shell(f"{part} --print-config", desk)
            assert done.returncode == 0, (part, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_stands_outside_a_block(page: Path) -> None:
    rest = page.read_text(encoding="utf-8")
    for block in blocks(page):
        rest = rest.replace(block.text, "")
    assert not COMMAND.findall(rest)


def lines(block: Block) -> list[str]:
    """Return the commands of a block without comments, those over several lines in one."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    bare = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in bare if line]


def shell(text: str, desk: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of shell as a user does, in the folder that the pages speak of."""
    environment = plain_environment()
    environment |= {"PATH": f"{desk / 'bin'}:{environment['PATH']}", "GPTCTL_CACHE": str(CACHE), **settings}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text], cwd=desk, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def make_room(text: str, desk: Path) -> None:
    """Remove what the block will make anew."""
    for name in re.findall(r" -o ([\w/.-]+)", text):
        shutil.rmtree(desk / name, ignore_errors=True)


def check_options(block: Block, desk: Path) -> None:
    """Check the syntax of a block, and the options and settings of each gptctl command in it."""
    assert shell(f"set -n\n{block.text}", desk).returncode == 0, block.line
    parts = [part for line in lines(block) for part in line.split(" | ") if "gptctl " in part]
    commands = [part[part.index("gptctl ") :].rstrip("& ") for part in parts]
    assert commands
    for command in commands:
        done = shell(f"{command} --print-config", desk, HOST="host")
        assert done.returncode == 0, (block.line, command, done.stderr)


def check_tool(line: str) -> None:
    """Check a command of this repository's own tools."""
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        targets = re.findall(r"^(\w[\w-]*):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), line
        return
    if words[0].endswith("/pre-commit"):
        assert (REPO / ".pre-commit-config.yaml").exists(), line
        return
    if words[0] in ("pip", "uv", "uvx"):
        named = {name for found in re.findall(r"\[([\w,-]+)\]", line) for name in found.split(",")}
        assert named <= EXTRAS, line
        assert re.search(r"(install|--from) '?(\.|gptctl @)", line), line
        return
    places = [word.split("::")[0] for word in words if re.match(r"(tests|examples|gptctl|\.ci)/", word)]
    places += [word.replace(".", "/") + ".py" for word in words if re.fullmatch(r"tests(\.\w+)+", word)]
    assert places or words[0] in ("git", "cd", "coverage"), line
    for place in places:
        assert (REPO / place).exists(), line
    script = REPO / places[0] if places else None
    if script and script.suffix == ".py" and "pytest" not in words:
        source = script.read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", line):
            assert f'"{option}"' in source, line
