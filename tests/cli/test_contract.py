"""What scripts rely on: exit codes, one-line errors, streams, help, config layers."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.cli.params import in_group
from gptctl.cli.stages import config_model, stage_names
from gptctl.core import plugins
from gptctl.core.config import declaration
from tests.conftest import REPO, Ran, documents, run_gptctl, warm, write_jsonl

Gptctl = Callable[..., Ran]
PLAIN = {"PYTHONPATH": str(REPO), "PATH": os.environ["PATH"]}


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv=['gptctl','--help']\nfrom gptctl.cli.main import app\ntry: app()\nexcept SystemExit: pass\nprint([m for m in ('torch','pyarrow','numpy','pydantic') if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.stderr.strip() == "[]"
    for name in stage_names():
        assert name in done.stdout


@pytest.mark.parametrize("stage", stage_names())
def test_help_fits_80_columns_and_has_at_most_15_flags_of_its_own(stage: str) -> None:
    done = run_gptctl(stage, "--help")
    assert done.code == 0
    assert max(len(line) for line in done.out.decode().splitlines()) <= 80
    own, common = done.out.decode().split("─ Common options")
    model = config_model(stage)
    flags = [name for name, field in model.model_fields.items() if declaration(field).form == "flag"]
    assert len([name for name in flags if not in_group(model, name)]) <= 15, flags
    assert {f"--{name.replace('_', '-')}" for name in flags} == set(re.findall(r"^│ (--[a-z-]+)", own, re.M))
    assert "--help" in common
    assert len(plugins.load("gptctl.stages", stage).EXAMPLES) == 3


# Those of the other commands train, or run several models.
QUICK = ("tokenize", "inspect", "doctor", "report")


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[] if stage in QUICK else [pytest.mark.slow]) for stage in stage_names()]
)
def test_examples_of_help_work(stage: str, workspace: Path, tmp_path: Path) -> None:
    for source in workspace.iterdir():
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "keys.txt").write_text("a-key\n")
    for example in plugins.load("gptctl.stages", stage).EXAMPLES:
        remove_output(example, tmp_path)
        command = example.replace("gptctl ", f"{shlex.join(warm('gptctl'))} ")
        command = command.replace("--max-minutes 10", "--max-minutes 0.05")  # nobody waits for ten minutes here
        command += " --dry-run" if stage == "serve" else ""  # a server does not end by itself
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            env=PLAIN,
        )
        assert done.returncode == 0, (example, done.stderr)


def test_what_was_asked_for_is_on_standard_output(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Tables of a command that writes nothing can be piped, also with -q; those about an output are messages."""
    write_jsonl(tmp_path / "raw.jsonl", documents(10))
    for command, word in (
        ("pretrain --list-presets", "gpt2-medium"),
        (f"inspect {workspace / 'clean'}", "rows"),
        (f"doctor {workspace / 'clean'}", "checked"),
        ("doctor", "python"),
        ("clean raw.jsonl --explain d1", "d1"),
        ("clean raw.jsonl -o out --dry-run", "kept_share"),
        (f"eval {workspace / 'classifier'} {workspace / 'labelled'}", "test (macro)"),
    ):
        for quiet in ((), ("-q",)):
            done = gptctl(*command.split(), *quiet)
            assert (done.code, word in done.out.decode(), word in done.err) == (0, True, False), (command, done)
    for more in (("-o", "out"), ("-o", "-", "--dry-run")):
        done = gptctl("clean", "raw.jsonl", *more)
        assert done.out == b"" and "kept" in done.err


def test_warnings_are_shown_with_quiet_and_stand_in_the_result(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(10))
    (tmp_path / "raw.jsonl").write_text((tmp_path / "raw.jsonl").read_text() + "{broken\n")
    command = ("clean", "raw.jsonl", "--preset", "none", "--filters", "length", "--set", "length.min_chars=100000")
    done = gptctl(*command, "-o", "out", "-q", "--json")
    printed = [line.removeprefix("warning: ") for line in done.err.splitlines()]
    assert (done.code, done.json["warnings"]) == (0, printed)
    assert "1 of 11 records are unreadable" in printed[0] and "NOTHING WAS KEPT" in printed[1]
    again = gptctl(*command, "-o", "out", "-q", "--json")
    assert "NOTHING WAS KEPT" in again.json["warnings"][-1]


@pytest.mark.parametrize("stage", ["clean", "dedup", "generate"])
def test_json_and_a_pipe_exclude_each_other(stage: str, gptctl: Gptctl, workspace: Path) -> None:
    arguments = [workspace / "run", "The"] if stage == "generate" else [workspace / "raw.jsonl"]
    done = gptctl(stage, *arguments, "-o", "-", "--json")
    assert (done.code, done.out) == (2, b"")
    assert "--json and -o - both write to standard output" in done.err


def test_json_and_rows_exclude_each_other(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("inspect", workspace / "clean", "--format", "jsonl", "--json")
    assert (done.code, done.out, "--format jsonl" in done.err) == (2, b"", True)


def test_a_wrong_preset_is_answered_with_the_presets(gptctl: Gptctl, workspace: Path) -> None:
    for command, known in ((f"clean {workspace / 'raw.jsonl'} -o out", "web"), ("pretrain --dry-run", "gpt2-medium")):
        done = gptctl(*command.split(), "--preset", "chinese")
        assert done.code == 2 and re.search(rf"known: .*\b{known}\b", done.err), done.err


def test_verbose_says_what_was_chosen(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(10))
    done = gptctl("clean", "raw.jsonl", "-o", "out", "-v", "--set", "length.min_chars=5", GPTCTL_LIMIT="9")
    assert done.code == 0
    for line in ("length.min_chars = 5  # --set", "limit = 9  # environment", 'out = "out"  # flag'):
        assert line in done.err
    assert "max_bad" not in done.err  # a default
    assert "limit" not in gptctl("clean", "raw.jsonl", "-o", "out", GPTCTL_LIMIT="9", GPTCTL_LENGTH__MIN_CHARS="5").err


def remove_output(example: str, folder: Path) -> None:
    """Make room for an example's -o: unlink the shared workspace's folder, or remove what the example before wrote."""
    for out in re.findall(r" -o (\S+)", example):
        path = folder / out
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)


def test_unknown_command_and_option_name_the_nearest(gptctl: Gptctl) -> None:
    done = gptctl("cleen")
    assert (done.code, done.out) == (2, b"")
    assert "clean" in done.err
    done = gptctl("clean", "x", "-o", "y", "--lmit", "3")
    assert done.code == 2
    assert len(done.error_lines) == 2


def test_all_config_errors_at_once(gptctl: Gptctl, tmp_path: Path) -> None:
    done = gptctl(
        "clean", "x", "-o", "y", "--set", "kep_rejects=true", "--set", "length.min_char=3", "--set", "limit=-1"
    )
    assert done.code == 2
    for part in (
        "'kep_rejects' is not known (did you mean 'keep_rejects'?)",
        "'length.min_char' is not known (did you mean 'length.min_chars'?)",
        "--set limit takes a whole number of at least 0, not -1",
    ):
        assert part in done.err
    assert len(done.err.strip().splitlines()) == 2


def test_precedence_of_config_layers(gptctl: Gptctl, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\n[dedup]\nseed = 2\nkeep = 'longest'\n[clean]\nkeep_rejects = true\n")

    def shown(*args: str, **environment: str) -> str:
        return gptctl(
            "dedup", "in", "-o", "out", "--config", "c.toml", "--print-config", *args, **environment
        ).out.decode()

    assert "seed = 2  # c.toml" in shown()
    assert 'keep = "longest"  # c.toml' in shown()
    assert "seed = 3  # environment" in shown(GPTCTL_SEED="3")
    assert "seed = 4  # --set" in shown("--set", "seed=4", GPTCTL_SEED="3")
    assert "seed = 5  # flag" in shown("--seed", "5", "--set", "seed=4", GPTCTL_SEED="3")
    assert "num_perm = 128  # default" in shown()


def test_an_environment_variable_of_no_stage_is_an_error(gptctl: Gptctl) -> None:
    assert gptctl("dedup", "in", "-o", "out", "--print-config", GPTCTL_EPOCHS="3").code == 0  # finetune's
    done = gptctl("dedup", "in", "-o", "out", "--print-config", GPTCTL_THRESHOLT="0.5")
    assert done.code == 2
    assert "did you mean 'GPTCTL_THRESHOLD'" in done.err


def test_json_is_one_strict_document_and_people_read_stderr(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(30))
    done = gptctl("clean", "raw.jsonl", "-o", "clean", "--json")
    assert done.code == 0
    result = json.loads(done.out, parse_constant=lambda name: pytest.fail(name))
    assert set(result) == {"schema", "stage", "status", "outputs", "counts", "metrics", "seconds", "warnings"}
    counts = result["counts"]
    assert counts["in"] == 30 == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
    assert "kept" in done.err
    assert gptctl("clean", "raw.jsonl", "-o", "clean", "-q").err == ""
    again = gptctl("clean", "raw.jsonl", "-o", "clean", "--json").json
    assert (again["status"], again["counts"]) == ("up to date", counts)


@pytest.mark.slow
def test_dry_run_writes_nothing(gptctl: Gptctl, tmp_path: Path, workspace: Path) -> None:
    for command in (
        f"clean {workspace / 'raw.jsonl'} -o x", f"dedup {workspace / 'clean'} -o x", f"tokenize {workspace / 'unique'} -o x",
        f"split {workspace / 'labelled' / 'train.jsonl'} -o x --stratify label",
        f"pretrain {workspace / 'tokens'} -o x", f"finetune {workspace / 'run'} {workspace / 'labelled'} -o x",
        f"eval {workspace / 'classifier'} {workspace / 'labelled'} -o x", f"generate {workspace / 'run'} -o x",
    ):  # fmt: skip
        done = gptctl(*command.split(), "--dry-run", "--json")
        assert done.code == 0, done.err
        assert done.json["status"] == "planned"
        assert done.json["plan"]
    assert not (tmp_path / "x").exists()


def test_a_plan_is_for_people(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("clean", workspace / "raw.jsonl", "-o", "x", "--dry-run")
    shown = done.out.decode()
    assert "sample.kept" in shown and "length, gopher_repetition" in shown
    assert not set("{}[]'") & set(shown)
    assert max(map(len, shown.splitlines())) <= 100


def test_dry_run_refuses_what_the_run_would_refuse(gptctl: Gptctl, tmp_path: Path, workspace: Path) -> None:
    unique, tokens, labelled = workspace / "unique", workspace / "tokens", workspace / "labelled"
    for command, words in (
        (f"eval nowhere {labelled}", "nowhere"), (f"eval {workspace / 'classifier'} nowhere", "nowhere"),
        (f"tokenize {unique} -o -", "-o"), (f"tokenize {unique} -o x --val 0.6 --test 0.6", "val"),
        (f"tokenize {unique} -o x --tokenizer nowhere", "nowhere"),
        (f"pretrain {tokens} -o x --optimizer foo", "foo"), (f"report {workspace / 'raw.jsonl'}", "raw.jsonl"),
        (f"clean {workspace / 'raw.jsonl'} -o x --decontaminate -", "decontaminate"),
    ):  # fmt: skip
        done = gptctl(*command.split(), "--dry-run")
        assert done.code in (2, 3), (command, done.code, done.err)
        assert words in done.err
    assert gptctl("pretrain", "--list-presets", "--dry-run").code == 0
    assert not (tmp_path / "x").exists()


def test_the_next_command_can_be_typed(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("dedup", workspace / "clean", "-o", "my out", "--json")
    assert done.code == 0, done.err
    follow = next(line for line in done.err.splitlines() if line.startswith("next: "))
    assert "my out" in shlex.split(follow)


def test_gpus_that_are_not_there(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("pretrain", workspace / "tokens", "-o", "x", "--gpus", "64")
    assert done.code == 4
    assert "64 GPUs requested" in done.err
    done = gptctl("pretrain", "--preset", "gpt2", "--gpus", "8", "--dry-run", "--json")
    assert done.code == 0
    assert done.json["plan"]["parameters"] == 124_439_808
    for words in (
        "124,439,808",
        "8, ddp",
        "of 80.0 GB (h100): fits",
        "sent per rank",
        "tokens/s, assuming 40% of the peak",
        "assuming 360.0 GB/s from each GPU, inside a machine",
    ):
        assert words in done.err
    assert {"memory_bytes_per_rank", "flops_per_step", "tokens_per_step", "bytes_communicated"} <= set(
        done.json["plan"]
    )


def test_a_closed_pipe_is_141_and_silent(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(400, words=400))
    script = f"{sys.executable} -m gptctl clean raw.jsonl -o - -q | head -c 100 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=PLAIN)
    assert done.stdout.strip() == "141"
    assert done.stderr == ""


def test_module_and_version() -> None:
    assert run_gptctl("--version").out.startswith(b"gptctl ")
