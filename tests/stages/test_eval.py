"""gptctl eval on models: what is written, what stands beside a score, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptctl.evals.output import markdown
from tests.conftest import Ran, tree_bytes
from tests.evals import command, small_model
from tests.evals.command import pairs, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cache of its own and a small language model."""
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path / "cache"))
    small_model.save(tmp_path / "model", seed=5)
    return tmp_path


def ev(folder: Path, *args: object, stdin: bytes = b"") -> Ran:
    return command.gptctl("eval", "--json", *args, cwd=folder, stdin=stdin)


def metrics(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.json["metrics"]
    return found


def without_the_rest(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in ("splits", "split")}


def test_a_classifier_beside_its_baselines(folder: Path, workspace: Path) -> None:
    found = metrics(ev(folder, workspace / "classifier", workspace / "labelled", "-o", "out"))
    assert set(found["baselines"]) == {"majority", "nb"}
    assert found["baselines"]["majority"]["accuracy"] == 0.5
    lift = found["baselines"]["nb"]["lift"]["f1"]
    assert lift == pytest.approx(found["f1"] - found["baselines"]["nb"]["f1"])
    assert found["ece"] >= 0 and found["calibration"]
    assert (folder / "out" / "confusion.svg").read_text().startswith("<?xml")
    assert (folder / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "out" / "metrics.json").read_text())["baselines"] == found["baselines"]
    again = metrics(ev(folder, "--predictions", "out"))
    assert again == found
    assert "baselines" not in metrics(ev(folder, "--predictions", "out", "--baseline", "none"))
    alone = ev(folder, workspace / "classifier", workspace / "labelled" / "test.jsonl")
    assert "baselines" not in metrics(alone)
    assert without_the_rest(metrics(alone)) == {
        name: value for name, value in without_the_rest(found).items() if name != "baselines"
    }
    refused = ev(folder, workspace / "classifier", workspace / "labelled" / "test.jsonl", "--baseline", "nb")
    assert (refused.code, "training split" in refused.err) == (3, True)


def test_the_same_command_is_up_to_date_and_its_gates_are_still_gates(folder: Path, workspace: Path) -> None:
    command_line = (workspace / "classifier", workspace / "labelled", "-o", "out")
    assert ev(folder, *command_line).json["status"] == "done"
    before = tree_bytes(folder / "out")
    again = ev(folder, *command_line, "--fail-under", "accuracy=1.01", "--markdown", "m.md")
    assert (again.code, again.json["status"]) == (7, "failed")
    assert again.json["error"].startswith("accuracy ") and "eval: failed" in again.err
    assert "**missed**" in (folder / "m.md").read_text()
    assert tree_bytes(folder / "out") == before
    write(folder / "old.jsonl", [{**row, "split": "test"} for row in pairs("ab", "ab")])
    assert ev(folder, *command_line, "--no-regress", "out").code == 0
    assert ev(folder, *command_line, "--no-regress", "old.jsonl").code == 3
    assert ev(folder, *command_line, "--average", "micro").code == 5


def test_two_models_on_the_same_documents(folder: Path) -> None:
    small_model.save(folder / "other", seed=6)
    write(folder / "d.jsonl", [{"id": str(i), "text": f"Text number {i} of twelve."} for i in range(12)])
    found = metrics(ev(folder, "model", "d.jsonl", "--compare", "other"))["compare"]
    alone = metrics(ev(folder, "other", "d.jsonl"))
    assert found["bits_per_byte"]["other"] == alone["bits_per_byte"]
    assert found["bits_per_byte"]["p"] < 0.05
    assert metrics(ev(folder, "model", "d.jsonl", "--compare", "model"))["compare"]["bits_per_byte"]["p"] == 1.0
    assert ev(folder, "model", "d.jsonl", "-o", "scores").code == 0
    assert metrics(ev(folder, "other", "d.jsonl", "--compare", "scores"))["compare"]["loss"][
        "difference"
    ] == pytest.approx(-found["loss"]["difference"])
    regressed = ev(folder, "model" if found["loss"]["difference"] > 0 else "other", "d.jsonl", "--no-regress",
                   "scores" if found["loss"]["difference"] < 0 else "other.json")  # fmt: skip
    assert regressed.code in (2, 7)


def test_scores_of_documents_can_be_scored_again(folder: Path) -> None:
    write(folder / "d.jsonl", [{"id": str(i), "text": "word " * i} for i in range(6)])
    found = metrics(ev(folder, "model", "d.jsonl", "-o", "out", "--set", "stride=8"))
    assert (found["stride"], found["context"]) == (8, 32)
    assert metrics(ev(folder, "--predictions", "out")) == found
    eos = metrics(ev(folder, "model", "d.jsonl", "--set", "count_eos=true", "--set", "stride=8"))
    assert (eos["tokens"], eos["bytes"]) == (found["tokens"] + 6, found["bytes"])
    assert eos["bits_per_byte"] > found["bits_per_byte"]
    over = ev(folder, "model", "d.jsonl", "--set", "fail_over=perplexity=1.5")
    assert (over.code, "perplexity" in over.err) == (7, True)
    assert ev(folder, "model", "d.jsonl", "--fail-under", "perplexity=1").code == 2


def test_choices_with_and_without_the_name_of_their_column(folder: Path) -> None:
    rows = [{"context": f"{i} is", "choices": ["even", "odd"], "label": "even" if i % 2 == 0 else 1} for i in range(8)]
    write(
        folder / "mc.jsonl",
        [row | {"label": ["even", "odd"].index(row["label"]) if isinstance(row["label"], str) else 1} for row in rows],
    )
    found = metrics(ev(folder, "model", "mc.jsonl", "--set", "norm=chars", "-o", "out"))
    assert found["accuracy"] == found["accuracy_chars"]
    assert metrics(ev(folder, "--predictions", "out", "--set", "norm=chars")) == found
    named = metrics(ev(folder, "model", "mc.jsonl", "--text-column", "context", "--set", "norm=chars"))
    assert named == found
    assert metrics(ev(folder, "model", "mc.jsonl", "--set", "delimiter=:"))["delimiter"] == ":"
    for broken in ({"choices": ["one"]}, {"choices": ["a", ""]}, {"label": None}, {"choices": ["a" * 40, "b"]}):
        write(folder / "bad.jsonl", [rows[1] | broken])
        assert ev(folder, "model", "bad.jsonl").code == 3


def test_generated_answers(folder: Path) -> None:
    write(folder / "qa.jsonl", [{"text": f"What is {i}?", "label": [str(i), "a number"]} for i in range(5)])
    wanted = ("--metrics", "exact_match,token_f1,chrf", "--set", "max_tokens=6")
    found = metrics(ev(folder, "model", "qa.jsonl", *wanted, "-o", "out"))
    assert 0 <= found["token_f1"] <= 1
    assert found["max_tokens"] == 6
    assert metrics(ev(folder, "--predictions", "out", "--metrics", "exact_match,token_f1,chrf")) == found
    assert set(metrics(ev(folder, "--predictions", "out"))["intervals"]) == {"exact_match", "token_f1"}
    assert ev(folder, "model", "qa.jsonl", "--metrics", "bleu", "--set", "max_tokens=99").code == 2
    assert ev(folder, "model", "qa.jsonl", "--metrics", "bleu,f1").code == 2


def test_leakage_against_what_was_trained_on(folder: Path, workspace: Path) -> None:
    """The classifier's texts are short: those that stand in its training split as they are."""
    train = [json.loads(line) for line in (workspace / "labelled" / "train.jsonl").read_text().splitlines()]
    rows = [{"text": train[0]["text"].upper() + "!", "label": "even"}, {"text": "number 7 is new", "label": "odd"}]
    write(folder / "test.jsonl", rows)
    found = metrics(
        ev(
            folder,
            workspace / "classifier",
            "test.jsonl",
            "--leakage",
            workspace / "labelled" / "train.jsonl",
            "-o",
            "out",
        )
    )
    assert (found["leakage"]["n"], found["leakage"]["exact"], found["leakage"]["documents"]) == (1, 1, 60)
    assert found["leakage"]["clean"]["n"] == 1
    [line] = (folder / "out" / "leakage.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == found["leakage"]["rows"][0]["id"]
    assert ev(folder, "--predictions", "out", "--leakage", workspace / "labelled").code == 3


def test_tokens_are_evaluated_on_what_they_held_out(folder: Path, workspace: Path) -> None:
    found = metrics(ev(folder, workspace / "run", workspace / "tokens"))
    assert set(found["splits"]) == {"val", "test"}
    manifest = json.loads((workspace / "tokens" / "manifest.json").read_text())["metrics"]
    for split in ("val", "test"):
        part = found["splits"][split]
        assert part["tokens"] + part["n"] == manifest[split]["tokens"]  # end-of-text is not scored
    rows = [
        json.loads(line)
        for line in command.gptctl(
            "inspect", workspace / "tokens", "--split", "val", "--limit", "0", "--format", "jsonl", cwd=folder
        ).out.splitlines()
    ]
    assert found["splits"]["val"]["bytes"] == sum(row["n_bytes"] for row in rows)


def test_a_text_that_is_too_long_is_counted(folder: Path, workspace: Path) -> None:
    write(folder / "test.jsonl", [{"text": "long " * 200, "label": "odd"}, {"text": "short", "label": "even"}])
    assert metrics(ev(folder, workspace / "classifier", "test.jsonl"))["truncated"] == 1


def test_a_classifier_without_names_of_labels(folder: Path, workspace: Path) -> None:
    import shutil

    from gptctl.model.files import model_manifest

    shutil.copytree(workspace / "classifier" / "model", folder / "nameless")
    config = json.loads((folder / "nameless" / "config.json").read_text())
    config["extra"]["label_names"] = []
    (folder / "nameless" / "config.json").write_text(json.dumps(config))
    (folder / "nameless" / "manifest.json").unlink()
    model_manifest.write_manifest(folder / "nameless", "model")
    ran = ev(folder, "nameless", workspace / "labelled" / "test.jsonl")
    assert (ran.code, "no names for its labels" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ((), 2), (("model",), 2), (("model", "d", "--predictions", "p"), 2), (("--predictions", "-", "-o", "out"), 2),
        (("model", "d", "--harness", "h"), 2), (("model", "absent.jsonl"), 2), (("absent", "d.jsonl"), 2), (("--predictions", "p", "--compare", "model"), 2),
        (("--predictions", "p", "--baseline", "nb"), 3), (("--predictions", "p", "--baseline", "none,x"), 2), (("--predictions", "p", "--leakage", "p"), 3),
        (("--predictions", "p", "--no-regress", "absent.json"), 2), (("--predictions", "p", "--average", "samples"), 2), (("--predictions", "p", "--set", "norm=x"), 2),
        (("model", "--harness", "absent"), 2),
    ],
)  # fmt: skip
def test_commands_that_make_no_sense(args: tuple[str, ...], code: int, folder: Path) -> None:
    write(folder / "p", pairs("ab", "ab"))
    write(folder / "d.jsonl", [{"text": "x"}])
    ran = ev(folder, *args)
    assert (ran.code, ran.out, len(ran.error_lines)) == (code, b"", 2), ran.err


def test_conversations_are_not_scored(folder: Path) -> None:
    """The hint names the command that reads them, for JSON lines and for a table."""
    rows = [{"id": str(n), "conversations": [{"from": "human", "value": "Hi"}]} for n in range(9)]
    write(folder / "chat.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "chat.parquet")
    for name in ("chat.jsonl", "chat.parquet"):
        ran = ev(folder, "model", name)
        assert (ran.code, "hint: conversations are read by: gptctl finetune --task chat" in ran.err) == (3, True), (
            ran.err
        )


def test_data_from_a_pipe(folder: Path, workspace: Path) -> None:
    """JSON lines, and what clean writes, have the scores of the file. What needs the data twice is refused."""
    file = workspace / "labelled" / "test.jsonl"
    classifier, rows = workspace / "classifier", file.read_bytes()
    expected = without_the_rest(metrics(ev(folder, classifier, file, "--baseline", "none")))
    assert without_the_rest(metrics(ev(folder, classifier, "-", stdin=rows))) == expected
    stream = command.gptctl("clean", file, "--preset", "none", "-o", "-", cwd=folder).out
    assert without_the_rest(metrics(ev(folder, classifier, "-", stdin=stream))) == expected
    for more, said in (
        (("-o", "out"), "standard input cannot be used with -o"),
        (("--compare", classifier), "standard input cannot be used with --compare MODEL"),
        (("--set", "ensemble=true"), "standard input cannot be used with --set ensemble=true"),
        (("--compare", "-"), "standard input cannot be used with --compare -"),
        (("--leakage", "-"), "standard input cannot be used with --leakage -"),
    ):
        ran = ev(folder, classifier, "-", *more, stdin=rows)
        assert (ran.code, said in ran.err) == (2, True), ran.err
        assert "hint: save standard input to a file first" in ran.err


def test_numbers_are_labels_too(folder: Path) -> None:
    write(folder / "p", [{"label": 1, "pred": "1"}, {"label": 0, "pred": 1.0}])
    found = metrics(
        ev(folder, "--predictions", "p", "--set", "positive=1", "--average", "binary", "--set", "labels=[0, 1]")
    )
    assert (found["recall"], found["confusion"]["labels"]) == (1.0, ["0", "1"])
    assert metrics(ev(folder, "--predictions", "p", "-o", "out")) == metrics(ev(folder, "--predictions", "out"))


def test_a_missing_package_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tasks").mkdir()
    for name in [
        name
        for name in sys.modules
        if name.split(".")[0] in ("lm_eval", "sacrebleu") or name == "gptctl.evals.harness.harness_model"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    write(folder / "p", pairs(["a b"], ["a b"]))
    for ran, package in (
        (ev(folder, "model", "--harness", "tasks"), "lm-eval==0.4.13"),
        (ev(folder, "--predictions", "p", "--metrics", "bleu"), "sacrebleu>=2.5"),
    ):
        assert ran.code == 4, ran.err
        assert f"hint: pip install '{package}'" in ran.err


def test_groups_are_drawn_together(folder: Path) -> None:
    write(folder / "p", [row | {"group_id": row["id"] // 4} for row in pairs("ab" * 20, "ab" * 10 + "ba" * 10)])
    assert metrics(ev(folder, "--predictions", "p"))["interval"]["methods"]["accuracy"] == "groups"


def test_the_tasks_written_for_the_harness(folder: Path) -> None:
    write(folder / "d.jsonl", [{"text": "x y"}])
    ran = ev(folder, "model", "d.jsonl", "--set", "emit_lm_eval_task=tasks")
    assert "written: tasks/all.yaml" in ran.err
    assert 'data_files: {test: "all.arrow"}' in (folder / "tasks" / "all.yaml").read_text()
    write(folder / "qa.jsonl", [{"text": "x", "label": "y"}])
    given = ("--metrics", "token_f1", "--set", "max_tokens=4", "--set", "emit_lm_eval_task=tasks")
    assert ev(folder, "model", "qa.jsonl", *given).code == 2


def test_markdown_of_a_harness_result() -> None:
    assert "| a/acc | 0.5000 |" in markdown.render({"n": 2, "a/acc": 0.5, "intervals": {"a/acc": [0.1, 0.9]}}, [])


@pytest.mark.slow
def test_the_harness_generates_and_fails_in_words(folder: Path) -> None:
    pytest.importorskip("lm_eval")
    tasks = folder / "tasks"
    tasks.mkdir()
    write(tasks / "qa.jsonl", [{"q": "1 + 1 =", "a": "2"}, {"q": "2 + 2 =", "a": "4"}])
    (tasks / "qa.yaml").write_text(
        "task: qa\ndataset_path: json\ndataset_kwargs: {data_files: {test: qa.jsonl}}\ntest_split: test\n"
        'output_type: generate_until\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\n'
        'generation_kwargs: {until: ["\\n"], max_gen_toks: 4}\nmetric_list:\n  - {metric: exact_match}\n'
    )
    ran = ev(folder, "model", "--harness", "tasks", "-o", "out")
    assert metrics(ran)["qa/exact_match"] == 0.0
    assert ran.json["metrics"]["n"] == 2
    assert "it/s" not in ran.err
    assert ev(folder, "model", "--harness", "tasks", "--fail-under", "qa/exact_match=0.5").code == 7
    (tasks / "qa.jsonl").unlink()
    broken = ev(folder, "model", "--harness", "tasks")
    assert (broken.code, "lm-eval failed" in broken.err) == (3, True)
