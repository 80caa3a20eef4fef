"""Several folders of tokens in one run, through the real command line."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core.formatting import format_number
from tests.conftest import Ran, documents, run_gptctl, tree_bytes, write_jsonl

Gptctl = Callable[..., Ran]
SHORT = ("--preset", "test-modern", "--steps", 12, "--device", "cpu")


@pytest.fixture(scope="module")
def sources(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three folders of tokens with one tokenizer, of which two have the same name, and one with another."""
    folder = tmp_path_factory.mktemp("sources")
    raw, tokens = workspace / "raw.jsonl", workspace / "tokens"
    for limit, val, name in ((60, 0.2, "web"), (25, 0.1, "code"), (20, 0, "old/web")):
        split = ("--val", val, "--test", 0, "--limit", limit)
        done = run_gptctl("tokenize", raw, "-o", name, "--tokenizer", tokens, *split, cwd=folder)
        assert done.code == 0, done.err
    done = run_gptctl("tokenize", raw, "-o", "bytes", "--algorithm", "bytes", "--limit", 20, cwd=folder)
    assert done.code == 0, done.err
    return folder


def events(run: Path, kind: str) -> list[dict[str, object]]:
    """Return the events of one kind."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def test_weights_decide_how_much_of_each_source_is_read(gptctl: Gptctl, sources: Path, tmp_path: Path) -> None:
    """To the sample; plan, events, metrics, report and lineage show each source."""
    mixed = ("pretrain", sources / "web", sources / "code", "--weights", "0.7,0.3", *SHORT)
    plan = gptctl(*mixed, "--dry-run", "--json").json["plan"]
    done = gptctl(*mixed, "-o", "run", "--json")
    assert done.code == 0, done.err
    web, code = done.json["metrics"]["sources"]
    assert (web["name"], web["tokens"], code["name"], code["tokens"]) == ("web", 67 * 64, "code", 29 * 64)
    planned = [{name: source[name] for name in ("name", "tokens", "epochs")} for source in (web, code)]
    assert plan["sources"] == planned
    assert [event["sources"] for event in events(tmp_path / "run", "sources")] == [planned]
    assert plan["packing"] == done.json["metrics"]["packing"]
    evaluated = events(tmp_path / "run", "eval")[-1]
    assert (evaluated["val_loss/web"], evaluated["val_loss/code"]) == (web["val_loss"], code["val_loss"])
    assert web["val_loss"] < evaluated["val_loss"] < code["val_loss"] or (
        code["val_loss"] < evaluated["val_loss"] < web["val_loss"]
    )
    inputs = json.loads((tmp_path / "run" / "run.json").read_bytes())["inputs"]
    assert list(inputs) == ["tokens/web", "tokens/code"]
    lineage = gptctl("doctor", "run", "--lineage", "--json").json["metrics"]["lineage"]
    assert [Path(origin["path"]).name for origin in lineage[0]["origins"]] == ["web", "code"]
    assert {origin["state"] for origin in lineage[0]["origins"]} == {"same"}
    assert gptctl("report", "run", "-o", "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert all(format_number(source["val_loss"]) in page for source in (web, code))


def test_without_weights_each_source_is_read_as_it_has_tokens(gptctl: Gptctl, sources: Path) -> None:
    """So all have as many epochs. Folders of equal names are told apart by the folders above."""
    folders = (sources / "web", sources / "code", sources / "old" / "web")
    plan = gptctl("pretrain", *folders, "--preset", "test-modern", "--steps", 200, "--dry-run", "--json").json["plan"][
        "sources"
    ]
    assert [source["name"] for source in plan] == [f"{sources.name}/web", "code", "old/web"]
    assert max(source["epochs"] for source in plan) < 1.1 * min(source["epochs"] for source in plan)


def test_phases_change_the_weights(gptctl: Gptctl, sources: Path, tmp_path: Path) -> None:
    """From a config file; a source without val split has no val loss."""
    (tmp_path / "annealed.toml").write_text(
        "[pretrain]\nweights = [1, 0]\n[[pretrain.mixture.phases]]\nstart = 0.75\nweights = [0.5, 0.5]\n"
    )
    mixed = ("pretrain", sources / "code", sources / "old" / "web", *SHORT, "--config", "annealed.toml", "--json")
    code, web = gptctl(*mixed, "-o", "run").json["metrics"]["sources"]
    assert (code["tokens"], web["tokens"], web["val_loss"]) == ((72 + 12) * 64, 12 * 64, None)
    shown = gptctl(*mixed[:-1], "-o", "run", "--print-config").out.decode()
    assert "start = 0.75  # annealed.toml" in shown
    inline = ("--weights", "1,0", "--set", "mixture.phases=[{start=0.75, weights=[0.5, 0.5]}]")
    assert gptctl(*mixed[:-3], *inline, "-o", "run", "--json").json["status"] == "up to date"


def test_a_source_that_is_repeated_too_often_is_a_warning(gptctl: Gptctl, sources: Path) -> None:
    """Four times is not too often."""
    mixed = (
        "pretrain",
        sources / "web",
        sources / "code",
        "--weights",
        "1,9",
        "--preset",
        "test-modern",
        "--dry-run",
        "--json",
        "--steps",
    )
    (_, code) = gptctl(*mixed, 100).json["plan"]["sources"]
    steps = int(100 / code["epochs"] * 4)
    assert "would be read" not in gptctl(*mixed, steps).err
    assert "code would be read 4." in gptctl(*mixed, steps * 11 // 10).err


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1,2,3", "--weights has 3 weights for 2 sources"),
        ("1,-2", "not 1, -2"),
        ("0,0", "not 0, 0"),
        ("1,nan", "not 1, nan"),
        ("inf,1", "not inf, 1"),
    ],
)
def test_wrong_weights_are_refused(gptctl: Gptctl, sources: Path, weights: str, message: str) -> None:
    done = gptctl("pretrain", sources / "web", sources / "code", "-o", "run", "--weights", weights)
    assert (done.code, message in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("[{start=0.5, weights=[1]}]", "mixture.phases[0].weights has 1 weights for 2 sources"),
        ("[{start=0.5, weights=[1,2]}, {start=0.2, weights=[1,2]}]", "not in the order of their start"),
        ("[{start=1.5, weights=[1,2]}]", "takes a list of tables with start and weights"),
        ("[{weights=[1,2]}]", "takes a list of tables with start and weights"),
    ],
)
def test_wrong_phases_are_refused(gptctl: Gptctl, sources: Path, phases: str, message: str) -> None:
    done = gptctl("pretrain", sources / "web", sources / "code", "--dry-run", "--set", f"mixture.phases={phases}")
    assert (done.code, message in done.err) == (2, True), done.err


def test_wrong_sources_are_refused(gptctl: Gptctl, sources: Path) -> None:
    """One named twice, one of another tokenizer, and weights where nothing is mixed."""
    web = sources / "web"
    twice = gptctl("pretrain", web, sources / "old" / ".." / "web", "-o", "run")
    assert (twice.code, "is named twice" in twice.err) == (2, True), twice.err
    other = gptctl("pretrain", web, sources / "bytes", "-o", "run")
    assert (other.code, "were made with different tokenizers" in other.err) == (3, True), other.err
    alone = gptctl("pretrain", web, "-o", "run", "--weights", "1")
    assert (alone.code, "--weights has no effect without several sources" in alone.err) == (2, True), alone.err


def test_other_weights_or_sources_are_another_run(gptctl: Gptctl, sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources / "code", tmp_path / "code")
    mixed = ("pretrain", sources / "web", "code", "-o", "run", "--preset", "test-modern", "--steps", 2, "--weights")
    assert gptctl(*mixed, "1,2").code == 0
    assert gptctl(*mixed, "2,1").code == 5
    assert gptctl("pretrain", "code", sources / "web", *mixed[3:], "1,2").code == 5


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["concat", "bestfit"])
def test_killed_and_resumed_in_the_second_phase(gptctl: Gptctl, sources: Path, tmp_path: Path, pack: str) -> None:
    """kill -9: the same weights, and the same tokens of each source, which add up to all."""
    mixed = (
        "pretrain", sources / "web", sources / "code", "--weights", "0.7,0.3", "--preset", "test-modern", "--steps", 24, "--device", "cpu",
        "--set", "mixture.phases=[{start=0.4, weights=[0.1, 0.9]}]", "--set", f"pack={pack}",
        "--set", "training.document_mask=true", "--set", "checkpoint.every=6", "--json", "-o",
    )  # fmt: skip
    whole = gptctl(*mixed, "whole")
    assert whole.code == 0, whole.err
    assert gptctl(*mixed, "killed", fault="kill:51").code == -signal.SIGKILL
    resumed = gptctl(*mixed, "killed").json["metrics"]
    (step,) = [event["step"] for event in events(tmp_path / "killed", "resumed")]
    assert 0.4 * 24 < step < 24
    assert resumed["sources"] == whole.json["metrics"]["sources"]
    assert sum(source["tokens"] for source in resumed["sources"]) == resumed["tokens"]
    one, other = (tree_bytes(tmp_path / name, "model")["model/model.safetensors"] for name in ("killed", "whole"))
    assert one == other


def test_finetuning_on_more_text_mixes_sources(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """--epochs counts passes over all texts. The plan says what is read, and other tasks read one DATA."""
    prose = write_jsonl(tmp_path / "prose.jsonl", [{"text": row["text"]} for row in documents(40)])
    (tmp_path / "code").mkdir()
    for split, first in (("train", 0), ("val", 30)):
        write_jsonl(
            tmp_path / "code" / f"{split}.jsonl", [{"text": f"x = {n}\n" * 40} for n in range(first, first + 9)]
        )
    mixed = ("finetune", workspace / "run", prose, "code", "--task", "lm", "--device", "cpu", "--epochs", 1)
    plan = gptctl(*mixed, "-o", "adapted", "--dry-run", "--json").json["plan"]["sources"]
    done = gptctl(*mixed, "-o", "adapted", "--weights", "1,3", "--json")
    assert done.code == 0, done.err
    found = done.json["metrics"]["sources"]
    assert [source["name"] for source in found] == [source["name"] for source in plan] == ["prose.jsonl", "code"]
    assert found[1]["tokens"] == pytest.approx(3 * found[0]["tokens"], abs=3 * 64)
    assert plan[1]["tokens"] < plan[0]["tokens"], "without weights they are read as they have tokens"
    assert plan[0]["epochs"] == pytest.approx(1, abs=0.2)
    assert all(source["val_loss"] > 0 for source in found)
    inputs = json.loads((tmp_path / "adapted" / "run.json").read_bytes())["inputs"]
    assert list(inputs) == ["model", "train/prose.jsonl/prose.jsonl", "train/code/train.jsonl", "val/code/val.jsonl"]
    refused = gptctl("finetune", workspace / "run", prose, "code", "-o", "classifier")
    assert (refused.code, "--task classify reads one DATA, not 2" in refused.err) == (2, True), refused.err
    wrong = gptctl(*mixed, "--weights", "1,2,3", "-o", "wrong")
    assert (wrong.code, "--weights has 3 weights for 2 sources" in wrong.err) == (2, True), wrong.err
