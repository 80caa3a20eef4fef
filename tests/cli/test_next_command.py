"""Each command that a summary recommends runs as it is printed: with the columns and names that it needs."""

from __future__ import annotations

import random
import shlex
import shutil
from pathlib import Path

import pytest

from gptctl.core.config.command_line import options_text
from gptctl.stages.finetune import Finetune
from tests.conftest import Ran, documents, run_gptctl, write_jsonl
from tests.stages.deduped import reference

LITTLE = {"GPTCTL_EXECUTOR": "serial"}


def following(done: Ran) -> list[str]:
    """Return the arguments of the command that a run recommends."""
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("next: ")]
    assert len(lines) == 1, done.err
    program, *arguments = shlex.split(lines[0].removeprefix("next: "))
    assert program == "gptctl"
    return arguments


def tickets(folder: Path) -> Path:
    """Labelled rows whose columns have names of their own."""
    rng, path = random.Random(1), folder / "my tickets.csv"
    lines = [
        f'{i},"{text.replace(chr(34), "")}",{rng.choice(("bug", "login"))}' for i, text in enumerate(reference()[:150])
    ]
    path.write_text("\n".join(["number,body,the kind", *lines]) + "\n")
    return path


@pytest.mark.slow
def test_data_stages_lead_to_training(tmp_path: Path) -> None:
    """clean -> dedup -> split -> tokenize -> pretrain, with labels in a column of another name; then without labels."""
    source = tickets(tmp_path)
    done = run_gptctl("clean", source.name, "-o", "my clean", "--text-column", "body", cwd=tmp_path, **LITTLE)
    assert following(done)[0] == "dedup"
    done = run_gptctl(*following(done), "--label-column", "the kind", cwd=tmp_path, **LITTLE)
    stages = []
    while stages[-1:] != ["tokenize"]:
        arguments = following(done)
        stages.append(arguments[0])
        done = run_gptctl(*arguments, cwd=tmp_path, **LITTLE)
    assert stages == ["split", "tokenize"]
    assert run_gptctl(*following(done), "--dry-run", cwd=tmp_path).code == 0
    write_jsonl(tmp_path / "raw.jsonl", documents(40))
    for command in ("clean raw.jsonl -o plain", "dedup plain -o plain2"):
        done = run_gptctl(*command.split(), cwd=tmp_path, **LITTLE)
    shutil.rmtree(tmp_path / "tokens")
    assert following(done)[0] == "tokenize"
    assert run_gptctl(*following(done), cwd=tmp_path, **LITTLE).code == 0


@pytest.mark.slow
def test_training_leads_to_scores_and_text(tmp_path: Path, workspace: Path) -> None:
    """finetune -> eval on a file with its own columns; pretrain -> generate, also if the vocabulary lacks the prompt."""
    source = tickets(tmp_path)
    columns = ("--text-column", "body", "--label-column", "the kind", "--id-column", "number", "--limit", "100")
    done = run_gptctl(
        "finetune", workspace / "run", source.name, "-o", "clf", "--epochs", "0.3", *columns, cwd=tmp_path
    )
    assert "texts are held out as val" in done.err
    scored = run_gptctl(*following(done), cwd=tmp_path)
    assert scored.code == 0 and "that were held out from its training are scored" in scored.err, scored.err
    (tmp_path / "han.txt").write_text("表明人工智能发展" * 200)
    for command in (
        "tokenize han.txt -o chars --algorithm chars --val 0.1 --test 0 --set split.by=position",
        "pretrain chars -o han --preset test-modern --steps 2",
    ):
        done = run_gptctl(*command.split(), cwd=tmp_path)
    assert following(done) == ["generate", "han"]
    assert run_gptctl(*following(done), cwd=tmp_path).code == 0
    done = run_gptctl("export", "han", "-o", "hf", cwd=tmp_path)
    assert run_gptctl(*following(done), cwd=tmp_path).code == 0
    done = run_gptctl("generate", "han", "-o", "samples", "--num", "2", "--max-tokens", "2", cwd=tmp_path)
    assert run_gptctl(*following(done), cwd=tmp_path).code == 0


def test_options_are_written_as_they_are_typed() -> None:
    """Flags and keys that differ from their defaults, quoted for the shell."""
    config = Finetune(base="m", data=("d",), out="o", text_column="the body", limit=5, max_bad=0.25)
    assert shlex.split(options_text(config, ("text_column", "id_column", "limit", "max_bad", "label_column"))) == [
        "--text-column", "the body", "--limit", "5", "--set", "max_bad=0.25",
    ]  # fmt: skip
    assert options_text(config, ("id_column",)) == ""
