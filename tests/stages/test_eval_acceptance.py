"""What `gptctl eval` promises, one promise a test, with values that were worked out by hand."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gptctl.evals.inference.scoring_windows import plan_windows, window_requests
from tests.conftest import REPO, Ran, run_gptctl, warm
from tests.evals import command, small_model
from tests.evals.command import pairs, write
from tests.faults.harness import flip

TEN = pairs("aaaaabbbcc", "aaaabbbacb")
NEAR = 5e-5


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cache of its own."""
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "p.jsonl", TEN)
    return tmp_path


def ev(
    folder: Path, *args: object, rows: list[dict[str, Any]] | None = None, name: str = "p.jsonl", stdin: bytes = b""
) -> Ran:
    """Run `gptctl eval --json --predictions NAME ARGS`."""
    if rows is not None:
        write(folder / name, rows)
    return command.gptctl("eval", "--json", "--predictions", name, *args, cwd=folder, stdin=stdin)


def metrics(ran: Ran) -> dict[str, Any]:
    """Return the figures of a run that went well."""
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.json["metrics"]
    return found


def prf(found: dict[str, Any]) -> list[float]:
    return [found[name] for name in ("precision", "recall", "f1")]


def test_01_macro_micro_and_weighted(folder: Path) -> None:
    found = metrics(ev(folder, "--metrics", "accuracy,precision,recall,f1"))
    assert (found["n"], found["accuracy"]) == (10, 0.7)
    assert prf(found) == pytest.approx([0.7667, 0.6556, 0.6794], abs=NEAR)
    assert prf(metrics(ev(folder, "--average", "micro"))) == pytest.approx([0.7] * 3)
    assert prf(metrics(ev(folder, "--average", "weighted"))) == pytest.approx([0.75, 0.7, 0.7048], abs=NEAR)


def test_02_one_metric_names_its_average_and_a_pipe_gives_the_same(folder: Path) -> None:
    from_file = ev(folder, "--metrics", "f1")
    assert '"average": "macro"' in from_file.out.decode()
    from_pipe = ev(folder, "--metrics", "f1", name="-", stdin=(folder / "p.jsonl").read_bytes())
    plain = [ran.out.split(b'"seconds"')[0] for ran in (from_file, from_pipe)]
    assert plain[0] == plain[1]
    assert "accuracy" not in from_file.json["metrics"]


def test_03_each_class_and_the_confusion_matrix(folder: Path) -> None:
    found = metrics(ev(folder, "--set", "per_class=true", "--set", "confusion=true"))
    rows = {label: [*prf(row), row["support"]] for label, row in found["per_class"].items()}
    assert rows["a"] == pytest.approx([0.8, 0.8, 0.8, 5])
    assert rows["b"] == pytest.approx([0.5, 0.6667, 0.5714, 3], abs=NEAR)
    assert rows["c"] == pytest.approx([1, 0.5, 0.6667, 2], abs=NEAR)
    assert found["confusion"]["matrix"] == [[4, 1, 0], [1, 2, 0], [0, 1, 1]]
    assert found["confusion"]["invalid"] == [0, 0, 0]
    without = metrics(ev(folder, "--set", "per_class=false", "--set", "confusion=false"))
    assert not {"per_class", "confusion"} & without.keys()


def test_04_binary_needs_a_positive_label(folder: Path) -> None:
    rows = pairs("11100000", "10010000")
    found = metrics(ev(folder, "--average", "binary", "--positive", "1", rows=rows))
    assert prf(found) == pytest.approx([0.5, 0.3333, 0.4], abs=NEAR)
    assert prf(metrics(ev(folder, "--average", "binary", "--positive", "0"))) == pytest.approx(
        [0.6667, 0.8, 0.7273], abs=NEAR
    )
    assert ev(folder, "--average", "binary").code == 2
    macro = metrics(ev(folder))
    assert (macro["f1"], macro["accuracy"]) == (pytest.approx(0.5636, abs=NEAR), 0.625)


def test_05_zero_division(folder: Path) -> None:
    ran = ev(folder, rows=pairs("0011", "0000"))
    assert prf(metrics(ran)) == pytest.approx([0.25, 0.5, 0.3333], abs=NEAR)
    assert "warning: precision is 0/0 for class '1': counted as 0" in ran.err
    assert metrics(ev(folder, "--set", "zero_division=1"))["precision"] == 0.75
    left_out = metrics(ev(folder, "--set", "zero_division=nan"))
    assert (left_out["precision"], left_out["f1"]) == (0.5, pytest.approx(0.3333, abs=NEAR))


def test_06_predictions_outside_the_label_set_are_wrong(folder: Path) -> None:
    found = metrics(ev(folder, "--labels", "A,B", rows=pairs("ABAB", "ABAz")))
    assert (found["accuracy"], found["invalid"]) == (0.75, 1)
    assert found["f1"] == pytest.approx(0.8333, abs=NEAR)
    assert metrics(ev(folder, "--labels", "A,B", "--average", "micro"))["f1"] == pytest.approx(0.8571, abs=NEAR)


def test_07_classes_that_nobody_saw(folder: Path) -> None:
    found = metrics(ev(folder, "--labels", "0,1,2", rows=pairs("0011", "0111")))
    assert (found["f1"], found["absent"]) == (pytest.approx(0.7333, abs=NEAR), ["2"])
    everything = metrics(ev(folder, "--labels", "0,1,2", "--set", "macro_over=all"))
    assert everything["f1"] == pytest.approx(0.4889, abs=NEAR)


def test_08_gold_outside_the_label_set_is_bad_data(folder: Path) -> None:
    ran = ev(folder, "--labels", "A,B", rows=pairs("ABzA", "ABAB"))
    assert ran.code == 3
    assert "row 3" in ran.err and "'z'" in ran.err


def test_09_several_labels_a_row(folder: Path) -> None:
    rows = pairs([["x", "z"], ["y"], ["x", "y"]], [["x"], ["y", "z"], ["x", "y"]])
    found = metrics(ev(folder, rows=rows))
    assert found["f1"] == pytest.approx(0.6667, abs=NEAR)
    assert found["subset_accuracy"] == pytest.approx(0.3333, abs=NEAR)
    assert found["hamming_loss"] == pytest.approx(0.2222, abs=NEAR)
    wanted = {"macro": 0.6667, "micro": 0.8, "weighted": 0.8, "samples": 0.7778}
    assert found["averages"]["f1"] == pytest.approx(wanted, abs=NEAR)
    for average, value in wanted.items():
        assert metrics(ev(folder, "--average", average))["f1"] == pytest.approx(value, abs=NEAR)


def test_10_calibration(folder: Path) -> None:
    probs = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    rows = [{"id": i, "label": int(label), "probs": p} for i, (label, p) in enumerate(zip("0111", probs, strict=True))]
    found = metrics(ev(folder, "--set", "bins=10", rows=rows))
    assert [found[name] for name in ("ece", "brier", "nll")] == pytest.approx([0.4, 0.57, 0.8574], abs=NEAR)


def test_11_wilson_intervals(folder: Path) -> None:
    for right, n, bounds in (
        (90, 100, (0.8256, 0.9448)),
        (10, 10, (0.7225, 1)),
        (0, 10, (0, 0.2775)),
        (454, 500, (0.8795, 0.9303)),
    ):
        rows = pairs("a" * n, "a" * right + "b" * (n - right))
        found = metrics(ev(folder, "--metrics", "accuracy", rows=rows))
        assert found["intervals"]["accuracy"] == pytest.approx(bounds, abs=NEAR)


def test_12_bootstrap_and_seeds(folder: Path) -> None:
    ran = ev(folder, "--set", "ci=bootstrap")
    found = metrics(ran)
    assert found["intervals"]["accuracy"] == pytest.approx([0.4, 1.0])
    assert found["intervals"]["f1"] == [pytest.approx(0.28, abs=0.02), 1.0]
    again = ev(folder, "--set", "ci=bootstrap")
    assert again.out.split(b'"seconds"')[0] == ran.out.split(b'"seconds"')[0]
    assert metrics(ev(folder, "--set", "ci=none"))["intervals"] == {}
    many = [row | {"id": f"{copy}-{row['id']}"} for copy in range(1000) for row in TEN]
    large = metrics(ev(folder, rows=many))
    assert prf(large) == pytest.approx(prf(found))
    assert large["intervals"]["accuracy"] == pytest.approx([0.6909, 0.7089], abs=NEAR)


def test_13_two_systems(folder: Path) -> None:
    first, second = pairs("a" * 20, "a" * 18 + "bb"), pairs("a" * 20, "a" * 8 + "b" * 10 + "aa")
    write(folder / "b.jsonl", second[::-1])
    found = metrics(ev(folder, "--compare", "b.jsonl", rows=first))["compare"]
    assert found["mcnemar"] == {"b": 10, "c": 2, "p": pytest.approx(0.0386, abs=NEAR)}
    assert found["accuracy"]["difference"] == pytest.approx(0.4)
    assert metrics(ev(folder, "--compare", "p.jsonl"))["compare"]["mcnemar"]["p"] == 1.0
    write(folder / "b.jsonl", [row for row in second if row["id"] != 13])
    lacking = ev(folder, "--compare", "b.jsonl")
    assert (lacking.code, "'13'" in lacking.err) == (3, True)


def test_14_bits_per_byte_from_sums(folder: Path) -> None:
    rows = [{"nats": 12, "bytes": 10, "tokens": 6}, {"nats": 3, "bytes": 4, "tokens": 2}]
    found = metrics(ev(folder, rows=rows))
    values = [found[name] for name in ("bits_per_byte", "perplexity", "byte_perplexity")]
    assert values == pytest.approx([1.545745, 6.520819, 2.919547], abs=5e-7)


def test_15_a_model_that_knows_nothing_needs_eight_bits(folder: Path) -> None:
    small_model.save(folder / "model", zero_head=True)
    texts = ["Zwölf Boxkämpfer jagen Viktor.\r\n" * 3, "", "日本", "x"]
    write(folder / "d.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
    for keys in ("batch_size=1", "stride=1", "stride=16", "max_length=5", "max_length=7,stride=3"):
        given = [part for key in keys.split(",") for part in ("--set", key)]
        found = metrics(command.gptctl("eval", "model", "d.jsonl", "--json", "--set", "cache=none", *given, cwd=folder))
        assert found["bits_per_byte"] == pytest.approx(8, abs=1e-6)
        assert found["perplexity"] == pytest.approx(256, rel=1e-6)
        assert found["tokens"] == found["bytes"] == sum(len(text.encode()) for text in texts)
    assert [(list(w)) for w in plan_windows(10, 4, 2)] == [[-1, 3, 0], [1, 5, 4], [3, 7, 6], [5, 9, 8]]
    plan = [
        ("".join("B" if t == 99 else str(t) for t in tokens[:-1]), scored)
        for tokens, scored in window_requests(np.arange(10), 99, 4, 2)
    ]
    assert plan == [("B012", 4), ("1234", 2), ("3456", 2), ("5678", 2)]


def test_16_multiple_choice(folder: Path) -> None:
    for choices, loglik, picks in ((["日本", "abcd"], [-6, -8], (0, 1, 0)), (["no", "no way"], [-4, -6], (0, 1, 1))):
        rows = [{"id": 0, "choices": choices, "loglik": loglik, "label": 1}]
        found = metrics(ev(folder, rows=rows))
        assert tuple(found[f"accuracy_{way}"] for way in ("raw", "chars", "bytes")) == picks
    table = pa.table({"choices": [["a", "b"]], "loglik": [[float("nan"), -1.0]], "label": [0]})
    with pa.ipc.new_file(str(folder / "nan.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert ev(folder, name="nan.arrow").code == 3
    small_model.save(folder / "model", seed=3)
    write(folder / "mc.jsonl", [{"context": "Is it?", "choices": ["yes", "yes it is"], "label": "yes"}])
    assert command.gptctl("eval", "model", "mc.jsonl", "-o", "out", cwd=folder).code == 0
    [row] = json.loads(f"[{command.gptctl('inspect', 'out', '--format', 'jsonl', cwd=folder).out.decode().strip()}]")
    assert all(np.isfinite(row["loglik"])) and row["loglik"][0] != row["loglik"][1]
    assert row["tokens"] == [4, 10]


def test_17_nothing_but_the_data_matters(folder: Path) -> None:
    small_model.save(folder / "model", seed=1)
    texts = [f"Document {i} says {'much ' * (i % 9)}" for i in range(30)]
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    write(folder / "d.jsonl", rows)
    write(folder / "shuffled.jsonl", rows[::-1])
    (folder / "three").mkdir()
    for part in range(3):
        write(folder / "three" / f"{part}.jsonl", rows[part * 10 : part * 10 + 10])

    def bits(data: str, *keys: str) -> dict[str, Any]:
        given = [part for key in keys for part in ("--set", key)]
        return metrics(command.gptctl("eval", "model", data, "--json", "--set", "cache=none", *given, cwd=folder))

    plain = bits("d.jsonl", "batch_size=16")
    for other in (bits("d.jsonl", "batch_size=1"), bits("three"), bits("shuffled.jsonl")):
        assert {name: other[name] for name in ("n", "tokens", "bytes")} == {
            name: plain[name] for name in ("n", "tokens", "bytes")
        }
        assert other["bits_per_byte"] == pytest.approx(plain["bits_per_byte"], abs=1e-6)


def test_18_gates(folder: Path) -> None:
    assert ev(folder, "--fail-under", "f1=0.60").code == 0
    missed = ev(folder, "--fail-under", "f1=0.68", "--junit", "j.xml", "--markdown", "m.md")
    assert missed.code == 7
    assert missed.json["metrics"]["f1"] == pytest.approx(0.6794, abs=NEAR)
    assert "f1 0.6794 < 0.68" in missed.err
    assert 'failures="1"' in (folder / "j.xml").read_text()
    assert "**missed**" in (folder / "m.md").read_text()
    assert ev(folder, "--fail-under", "nope=1").code == 2
    good, bad = pairs("ab" * 200, "ab" * 200), pairs("ab" * 200, "ab" * 120 + "ba" * 80)
    (folder / "old.json").write_bytes(ev(folder, rows=good[:380] + [r | {"pred": "x"} for r in good[380:]]).out)
    assert ev(folder, "--no-regress", "old.json", rows=good[:375] + [r | {"pred": "x"} for r in good[375:]]).code == 0
    worse = ev(folder, "--no-regress", "old.json", rows=bad)
    assert (worse.code, worse.json["metrics"]["accuracy"]) == (7, 0.6)
    assert "accuracy 0.6000 is worse than 0.9500 before (p " in worse.err
    write(folder / "old.jsonl", good)
    assert ev(folder, "--no-regress", "old.jsonl").code == 7
    assert ev(folder, "--no-regress", "p.jsonl").code == 0


def test_19_outputs_are_cached_by_content(folder: Path) -> None:
    small_model.save(folder / "model", seed=1)
    rows = [{"id": str(i), "text": f"Document {i} " * 20} for i in range(24)]
    write(folder / "d.jsonl", rows)

    def evaluated(*more: str, warning: str = "") -> tuple[dict[str, Any], int, int]:
        ran = command.gptctl("eval", "model", "d.jsonl", "--json", "--set", "batch_size=8", *more, cwd=folder)
        assert ("damaged model outputs" in ran.err) == bool(warning) and warning in ran.err, ran.err
        words = next(line for line in ran.err.splitlines() if "requests," in line).split()
        return metrics(ran), int(words[1].replace(",", "")), int(words[3].replace(",", ""))

    first, requests, cached = evaluated()
    assert cached == 0
    again, _, cached = evaluated()
    assert (again, cached) == (first, requests)
    whole = {path: path.read_bytes() for path in (folder / "cache").rglob("*.answers")}
    for path in list(whole)[::2]:  # what kill -9 leaves: some blocks, each whole
        path.unlink()
    resumed, _, cached = evaluated()
    assert resumed == first and 0 < cached < requests
    assert {path: path.read_bytes() for path in (folder / "cache").rglob("*.answers")} == whole
    for damage in (flip, lambda path: os.truncate(path, path.stat().st_size - 2)):
        damaged = list(whole)[1::2]
        for path in damaged:
            damage(path)
        mended, _, cached = evaluated(warning=f"cache are computed again: {folder / 'cache'}")
        assert mended == first and 0 < cached < requests
        assert {path: path.read_bytes() for path in (folder / "cache").rglob("*.answers")} == whole
        assert evaluated()[2] == requests
    write(folder / "d.jsonl", [*rows[:-1], rows[-1] | {"text": rows[-1]["text"][:-1] + "!"}])
    changed, _, cached = evaluated()
    assert changed["bits_per_byte"] != first["bits_per_byte"] and 0 < cached < requests
    assert evaluated("--set", "max_length=16")[2] == 0
    shutil.rmtree(folder / "model")
    small_model.save(folder / "model", seed=2)
    assert evaluated()[2] == 0
    definition = json.loads((folder / "model" / "tokenizer.json").read_text())
    definition["model"]["vocab"] = dict(reversed(definition["model"]["vocab"].items()))
    definition["version"] = "1.0"
    definition["added_tokens"][0]["lstrip"] = True
    reseal(folder / "model", json.dumps(definition))
    assert evaluated()[2] == 0


def reseal(model: Path, tokenizer: str) -> None:
    """Return a model another tokenizer."""
    from gptctl.model.files import model_manifest

    (model / "tokenizer.json").write_text(tokenizer)
    (model / "manifest.json").unlink()
    model_manifest.write_manifest(model, "model")


def test_19_leakage_is_found_and_the_rest_scored(folder: Path) -> None:
    words = [f"w{i}" for i in range(30)]
    texts = ["say " + " ".join(words), "What is a caul ?", "clean"]
    rows = [row | {"text": text} for row, text in zip(pairs("aab", "abb"), texts, strict=True)]
    write(
        folder / "train.jsonl",
        [{"id": "t13", "text": "x " + " ".join(words[:13])}, {"id": "t-exact", "text": "what is a caul"}],
    )
    found = metrics(ev(folder, "--leakage", "train.jsonl", rows=rows))
    assert [(row["id"], row["match"], row["train_ids"]) for row in found["leakage"]["rows"]] == [
        ("0", "13 words", ["t13"]), ("1", "exact", ["t-exact"]),
    ]  # fmt: skip
    assert (found["leakage"]["clean"]["n"], found["leakage"]["clean"]["accuracy"], found["accuracy"]) == (
        1,
        1.0,
        pytest.approx(2 / 3),
    )
    write(folder / "train.jsonl", [{"id": "t12", "text": "x " + " ".join(words[:12])}])
    assert metrics(ev(folder, "--leakage", "train.jsonl"))["leakage"]["n"] == 0


BAD = {
    "empty": (b"", 3, "0 rows"),
    "no label": (b'{"id": 1, "pred": "a"}\n', 3, "no column 'label' in row 1; it has: id, pred"),
    "blank label": (b'{"label": "a", "pred": "a"}\n{"label": " ", "pred": "a"}\n', 3, "row 2 has no label"),
    "null label": (b'{"label": "a", "pred": "a"}\n{"label": null, "pred": "a"}\n', 3, "row 2 has no label"),
    "bad UTF-8": (b'{"label": "\xff", "pred": "a"}\n', 3, "line 1"),
    "id twice": (b'{"id": 1, "label": "a", "pred": "a"}\n' * 2, 3, "row 2 repeats the id '1'"),
    "NaN": (b'{"label": "a", "probs": [NaN, 1]}\n', 3, "line 1"),
    "null prob": (b'{"label": "a", "probs": [null, 1]}\n', 3, "row 1 has a probability that is not a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_20_bad_input_is_one_line(case: str, folder: Path) -> None:
    data, code, word = BAD[case]
    (folder / "p.jsonl").write_bytes(data)
    ran = ev(folder)
    assert (ran.code, ran.out) == (code, b"")
    assert word in ran.err
    assert len(ran.err.splitlines()) == len(ran.error_lines) == 2


def test_20_bad_commands_are_one_line(folder: Path) -> None:
    table = pa.table({"label": ["a"] * 100, "pred": ["a"] * 100})
    with pa.ipc.new_file(str(folder / "cut.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "cut.arrow").write_bytes((folder / "cut.arrow").read_bytes()[:-200])
    small_model.save(folder / "model")
    write(folder / "d.jsonl", [{"text": "x", "label": "a"}])
    unknown = ev(folder, "--metrics", "acuracy")
    assert (unknown.code, "known: accuracy" in unknown.err) == (2, True)
    for ran, code, word in (
        (unknown, 2, "did you mean 'accuracy'"),
        (ev(folder, name="cut.arrow"), 3, "cannot read cut.arrow"),
        (command.gptctl("eval", "model", "d.jsonl", "--set", "stride=-1", cwd=folder), 2, "stride"),
        (command.gptctl("eval", "model", "d.jsonl", "--set", "stride=99", cwd=folder), 2, "stride is 99"),
        (
            command.gptctl("eval", "model", "d.jsonl", "--metrics", "f1", cwd=folder),
            2,
            "f1 is not defined for lm scores",
        ),
        (
            command.gptctl("eval", "model", "d.jsonl", "--set", "task=classify", cwd=folder),
            3,
            "without labels of its own",
        ),
    ):
        assert (ran.code, ran.out) == (code, b""), ran
        assert word in ran.err
        assert len(ran.error_lines) == 2


def test_20_output_is_strict_json_and_pipes_may_close(folder: Path) -> None:
    done = run_gptctl("eval", "--json", "--predictions", "p.jsonl", "--set", "zero_division=nan", cwd=folder)
    json.loads(done.out, parse_constant=lambda name: pytest.fail(name))
    script = f"{shlex.join(warm('gptctl'))} eval --json --predictions p.jsonl -q | head -c 1 >/dev/null"
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    piped = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, env=environment)
    assert piped.stderr == ""


@pytest.mark.slow
def test_19_killed_and_resumed_by_the_real_command(folder: Path) -> None:
    small_model.save(folder / "model", seed=1)
    write(folder / "d.jsonl", [{"id": str(i), "text": f"Document {i} " * 20} for i in range(60)])
    args = ("eval", "model", "d.jsonl", "--json", "--set", "batch_size=8")
    whole = run_gptctl(*args, "--set", "cache=other", cwd=folder)
    killed = run_gptctl(*args, "--set", "cache=kept", cwd=folder, fault="kill:9")
    assert killed.code == -signal.SIGKILL
    assert 0 < len(list((folder / "kept").rglob("*.answers"))) < len(list((folder / "other").rglob("*.answers")))
    resumed = run_gptctl(*args, "--set", "cache=kept", cwd=folder)
    assert resumed.json["metrics"] == whole.json["metrics"]
    again = run_gptctl(*args, "--set", "cache=kept", cwd=folder)
    assert again.json["metrics"] == whole.json["metrics"]
    seconds = [float(ran.err.split("the model took ")[1].split()[0]) for ran in (whole, again)]
    assert seconds[1] * 10 <= seconds[0]


@pytest.mark.slow
def test_17_processes_and_the_harness_agree_with_us(folder: Path) -> None:
    pytest.importorskip("lm_eval")
    small_model.save(folder / "model", seed=1)
    rows = [{"id": str(i), "text": f"Document {i} says {'much ' * (i % 9)}"} for i in range(30)]
    write(folder / "d.jsonl", rows)
    choices = [
        {
            "id": str(i),
            "context": f"Number {i} is ",
            "choices": ["even", "odd one out", "日本"][: 2 + i % 2],
            "label": i % 2,
        }
        for i in range(40)
    ]
    write(folder / "mc.jsonl", choices)
    one, two = (
        run_gptctl(
            "eval",
            "model",
            "d.jsonl",
            "--json",
            "--set",
            "cache=none",
            "--nproc-per-node",
            str(procs),
            "--set",
            "batch_size=2",
            cwd=folder,
        )
        for procs in (1, 2)
    )
    assert (two.code, two.json["metrics"]["n"]) == (0, 30), two.err
    assert two.json["metrics"]["bits_per_byte"] == pytest.approx(one.json["metrics"]["bits_per_byte"], abs=1e-6)
    ours = run_gptctl("eval", "model", "mc.jsonl", "--json", "--set", "emit_lm_eval_task=tasks", cwd=folder).json[
        "metrics"
    ]
    (folder / "tasks" / "all.yaml").rename(folder / "tasks" / "mc.yaml")
    (folder / "tasks" / "all.arrow").rename(folder / "tasks" / "mc.arrow")
    text = (folder / "tasks" / "mc.yaml").read_text()
    (folder / "tasks" / "mc.yaml").write_text(text.replace("all", "mc"))
    run_gptctl("eval", "model", "d.jsonl", "--json", "--set", "emit_lm_eval_task=tasks", cwd=folder)
    theirs = run_gptctl("eval", "model", "--harness", "tasks", "--json", cwd=folder)
    assert theirs.code == 0, theirs.err
    found = theirs.json["metrics"]
    assert found["all/bits_per_byte"] == pytest.approx(one.json["metrics"]["bits_per_byte"], abs=1e-6)
    for name, way in (("acc", "raw"), ("acc_norm", "chars"), ("acc_bytes", "bytes")):
        assert found[f"mc/{name}"] == pytest.approx(ours[f"accuracy_{way}"], abs=1e-12)
