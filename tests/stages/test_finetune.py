"""finetune through the real command line: classification, pairs, conversations, LoRA, seeds and folds."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Ran, read_jsonl, write_jsonl

Gptctl = Callable[..., Ran]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_finetune_splits_and_never_reads_test(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "labelled", tmp_path / "data")
    (tmp_path / "data" / "test.jsonl").write_text("not even JSON")
    done = gptctl("finetune", workspace / "run", "data", "-o", "classifier", "--epochs", "1", "--json")
    assert done.code == 0, done.err
    assert {"best_val_f1", "best_val_accuracy", "val_loss"} <= set(done.json["metrics"])
    single = gptctl(
        "finetune", workspace / "run", "data/train.jsonl", "-o", "single", "--epochs", "1", "--dry-run", "--json"
    )
    plan = single.json["plan"]
    assert plan["train_texts"] + plan["val_texts"] == 60
    assert 0 < plan["val_texts"] < 20


def test_finetune_killed_and_resumed(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    command = ("finetune", workspace / "run", workspace / "labelled", "--epochs", "3", "-o")
    assert gptctl(*command, "whole").code == 0
    assert gptctl(*command, "killed", fault="kill:30").code == -signal.SIGKILL
    assert gptctl(*command, "killed").code == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_finetune_lm_lowers_the_loss(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "more.jsonl",
        [{"text": "The quick brown fox jumps over the lazy dog. " * 20 + str(i)} for i in range(40)],
    )
    before = gptctl("eval", workspace / "run", "more.jsonl", "--json").json["metrics"]
    done = gptctl("finetune", workspace / "run", "more.jsonl", "-o", "tuned", "--task", "lm", "--epochs", "2", "--json")
    assert done.code == 0, done.err
    after = gptctl("eval", "tuned", "more.jsonl", "--json").json["metrics"]
    assert after["bits_per_byte"] < before["bits_per_byte"] - 0.2
    assert (before["split"], after["split"]) == ("all", "val")  # the tuned model's own data: only what was held out
    assert after["n"] < before["n"]


def test_finetune_honours_a_shorter_context(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    base = json.loads((workspace / "run" / "model" / "config.json").read_text())["gptctl"]["max_seq_len"]
    shorter = ("--set", f"max_seq_len={base // 4}", "--epochs", "0.2", "--json")
    done = gptctl("finetune", workspace / "run", workspace / "labelled", "-o", "classifier", *shorter)
    assert done.code == 0, done.err
    stored = json.loads((tmp_path / "classifier" / "model" / "config.json").read_text())
    assert stored["extra"]["classifier_inputs"]["max_seq_len"] == base // 4
    assert stored["gptctl"]["max_seq_len"] == base  # the model itself keeps its context
    lm = gptctl("finetune", workspace / "run", workspace / "unique", "-o", "lm", "--task", "lm", *shorter)
    assert lm.code == 0, lm.err
    batch = lm.json["metrics"]["tokens"] // lm.json["metrics"]["steps"]
    assert batch % (base // 4) == 0 and batch // (base // 4) <= 32
    longer = gptctl(
        "finetune", workspace / "run", workspace / "labelled", "-o", "x", "--set", f"max_seq_len={base + 1}"
    )
    assert (longer.code, "longer than the model's context" in longer.err) == (2, True)


def test_finetune_refuses_one_label_and_unknown_val_labels(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write_jsonl(tmp_path / "d" / "train.jsonl", [{"text": f"x{i}", "label": "a"} for i in range(5)])
    assert "a classifier needs two" in gptctl("finetune", workspace / "run", "d", "-o", "c").err
    write_jsonl(tmp_path / "d" / "train.jsonl", [{"text": f"x{i}", "label": "ab"[i % 2]} for i in range(6)])
    write_jsonl(tmp_path / "d" / "dev.jsonl", [{"text": "y", "label": "z"}])
    done = gptctl("finetune", workspace / "run", "d", "-o", "c")
    assert (done.code, "label 'z'" in done.err) == (3, True)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs of words that are the same, or not: no text alone tells the label."""
    words = ["red", "blue", "green", "grey"]
    rows = [
        {"text": first, "other": second, "label": "same" if first == second else "different"}
        for first in words
        for second in words
        for _ in range(6 if first == second else 2)
    ]
    (tmp_path / "pairs").mkdir()
    for split in ("train", "val"):
        write_jsonl(tmp_path / "pairs" / f"{split}.jsonl", rows)
    return tmp_path / "pairs"


@pytest.mark.slow
def test_pairs_are_told_by_both_texts(gptctl: Gptctl, workspace: Path, pairs: Path, tmp_path: Path) -> None:
    """What can only be learned from both is learned; without the second text it can't be."""
    command = (
        "finetune",
        workspace / "run",
        pairs,
        "--epochs",
        "25",
        "--lr",
        "3e-3",
        "--set",
        "dropout=0",
        "--json",
        "-o",
    )
    both = gptctl(*command, "both", "--pair-column", "other", "--set", "symmetric=true")
    assert both.code == 0, both.err
    assert both.json["metrics"]["best_val_accuracy"] > 0.9
    assert gptctl(*command, "one").json["metrics"]["best_val_accuracy"] < 0.7
    scored = gptctl("eval", "both", pairs, "--json").json["metrics"]
    assert scored["accuracy"] == pytest.approx(both.json["metrics"]["best_val_accuracy"])
    swapped = [json.loads(line) for line in (pairs / "val.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "swapped.jsonl", [row | {"text": row["other"], "other": row["text"]} for row in swapped])
    for name in ("swapped.jsonl", "pairs/val.jsonl"):
        assert gptctl("eval", "both", name, "-o", f"{name}.scores".replace("/", "-"), "--json").code == 0
    there, back = (
        gptctl("inspect", name, "--format", "jsonl").out.decode().splitlines()
        for name in ("pairs-val.jsonl.scores", "swapped.jsonl.scores")
    )
    for one, other in zip(map(json.loads, there), map(json.loads, back), strict=True):
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-5)
    missing = gptctl(*command, "none", "--pair-column", "third")
    assert (missing.code, "--pair-column" in missing.err) == (3, True)


@pytest.mark.slow
def test_seeds_give_mean_spread_and_the_best_model(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Each seed is a run of its own, done once; the folder's model is the best one's."""
    command = (
        "finetune",
        workspace / "run",
        workspace / "labelled",
        "--epochs",
        "1",
        "--seeds",
        "3",
        "--json",
        "-o",
        "k",
    )
    killed = gptctl(*command, fault="kill:40")
    assert killed.code == -signal.SIGKILL
    done = gptctl(*command)
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    scores = [run["best_val_f1"] for run in metrics["runs"].values()]
    assert metrics["best_val_f1"] == pytest.approx(sum(scores) / 3)
    assert metrics["best_val_f1_sd"] >= 0
    assert len({weights(tmp_path / "k" / f"seed-{seed}") for seed in range(3)}) == 3
    assert metrics["runs"][metrics["best"]]["best_val_f1"] == max(scores)
    assert weights(tmp_path / "k") == weights(tmp_path / "k" / metrics["best"])
    alone = gptctl("finetune", workspace / "run", workspace / "labelled", "--epochs", "1", "--seed", "2", "-o", "two")
    assert alone.code == 0, alone.err
    assert weights(tmp_path / "two") == weights(tmp_path / "k" / "seed-2")
    assert gptctl(*command).json["status"] == "up to date"
    of_all = probabilities(gptctl, "k", workspace, "--set", "ensemble=true")
    each = [probabilities(gptctl, f"k/seed-{seed}", workspace) for seed in range(3)]
    for row, rows in zip(of_all, zip(*each, strict=True), strict=True):
        assert row == pytest.approx([sum(values) / 3 for values in zip(*rows, strict=True)])
    refused = gptctl("eval", "two", workspace / "labelled", "--set", "ensemble=true")
    assert (refused.code, "--seeds" in refused.err) == (2, True)


def probabilities(gptctl: Gptctl, model: str, workspace: Path, *more: str) -> list[list[float]]:
    """Return what a model says about the labelled texts."""
    out = f"scores-{model.replace('/', '-')}"
    assert gptctl("eval", model, workspace / "labelled", "-o", out, *more).code == 0
    lines = gptctl("inspect", out, "--format", "jsonl").out.decode().splitlines()
    return [json.loads(line)["probs"] for line in lines]


@pytest.mark.slow
def test_each_fold_is_scored_by_a_model_of_the_others(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Every row is predicted once, by a model that did not see it; eval scores all of them together."""
    rows = [{"id": i, "text": f"{'yes' if i % 2 else 'no'} {i}", "label": i % 2, "fold": i % 3} for i in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    command = ("finetune", workspace / "run", "rows.jsonl", "--epochs", "2", "--fold-column", "fold", "--json", "-o")
    done = gptctl(*command, "k")
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    assert list(metrics["runs"]) == ["fold-0", "fold-1", "fold-2"]
    scored = gptctl("eval", "--predictions", "k/held-out.arrow", "--json").json["metrics"]
    assert scored["n"] == 60
    assert scored["accuracy"] == pytest.approx(metrics["held_out_accuracy"])
    seen = sum(run["held_out_accuracy"] for run in metrics["runs"].values()) / 3
    assert metrics["held_out_accuracy"] == pytest.approx(seen)
    single = gptctl(*command, "one", "--set", "fold=2")
    assert single.code == 0, single.err
    assert weights(tmp_path / "one") == weights(tmp_path / "k" / "fold-2")
    assert gptctl(*command, "x", "--set", "fold=9").code == 2
    write_jsonl(tmp_path / "rows.jsonl", [row | {"fold": "../../away" if row["id"] % 2 else "b"} for row in rows])
    away = gptctl(*command, "x", "--dry-run")
    assert (away.code, "../../away" in away.err) == (3, True)


@pytest.mark.slow
def test_long_documents_are_read_as_stated(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The word that tells the label stands at the end: the tail shows it, windows do, the head does not."""
    filler = "the value of an expression is an object of some type " * 5
    rows = [{"text": f"{filler} {word} {word} {word}", "label": word} for _ in range(30) for word in ("red", "blue")]
    (tmp_path / "d").mkdir()
    for split in ("train", "val"):
        write_jsonl(tmp_path / "d" / f"{split}.jsonl", rows)
    found = {}
    for policy in ("head", "tail", "ends", "windows"):
        done = gptctl(
            "finetune", workspace / "run", "d", "-o", policy, "--epochs", "12", "--lr", "3e-3", "--json",
            "--batch-size", "8", "--long-documents", policy, "--pooling", "mean", "--set", "dropout=0",
        )  # fmt: skip
        assert done.code == 0, done.err
        found[policy] = done.json["metrics"]["best_val_accuracy"]
    assert found["head"] == 0.5
    assert min(found["tail"], found["ends"], found["windows"]) == 1.0
    report = gptctl("eval", "windows", "d", "--json").json["metrics"]
    assert (report["accuracy"], report["long_documents"]) == (1.0, "windows")


def test_lora_is_refused_with_tensor_parallelism(gptctl: Gptctl, workspace: Path) -> None:
    """Also where tp_size alone asks for it."""
    for asked in (("--parallel", "tp"), ("--set", "tp_size=2")):
        done = gptctl("finetune", workspace / "run", workspace / "labelled", "-o", "out", "--lora", "2",
                      "--device", "cpu", "--nproc-per-node", "2", *asked)  # fmt: skip
        assert done.code == 2
        assert done.error_lines[0] == "error: --lora cannot be used with tensor parallelism"


def test_lora_trains_little_resumes_and_merges(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Killed and resumed it ends with the same bits; the base's matrices are those of the base plus a low rank."""
    command = ("finetune", workspace / "run", workspace / "labelled", "--epochs", "3", "--lora", "2", "--json", "-o")
    done = gptctl(*command, "whole")
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    assert 0 < metrics["trained_parameters"] < metrics["parameters"] / 2
    assert gptctl(*command, "killed", fault="kill:30").code == -signal.SIGKILL
    assert gptctl(*command, "killed").code == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    adapter = load_file(tmp_path / "whole" / "adapter" / "adapter_model.safetensors")
    assert adapter
    again = gptctl("eval", "whole", workspace / "labelled", "--json").json["metrics"]
    assert again["splits"]["val"]["f1"] == pytest.approx(metrics["best_val_f1"])


def test_what_is_frozen_stays(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The lowest block, bit for bit, and what a glob names; the rest learns. A glob that fits nothing is refused."""
    command = ("finetune", workspace / "run", workspace / "labelled", "--epochs", "1", "-o")
    done = gptctl(*command, "f", "--set", "freeze_layers=1", "--set", "freeze=blocks.1.attention.*")
    assert done.code == 0, done.err
    was = load_file(tmp_path / "f" / "checkpoints" / "best" / "model.safetensors")
    other = gptctl(*command, "g", "--seed", "1")
    assert other.code == 0, other.err
    free = load_file(tmp_path / "g" / "checkpoints" / "best" / "model.safetensors")
    base = newest(workspace / "run")
    for name, tensor in base.items():
        frozen = name.startswith(("blocks.0.", "embedding.", "positions.", "blocks.1.attention."))
        mine, its = was[f"gpt.{name}"][: len(tensor)], free[f"gpt.{name}"][: len(tensor)]
        assert torch.equal(mine, tensor) == frozen, name
        assert not torch.equal(its, tensor), name
    assert gptctl(*command, "h", "--set", "freeze=nothing.*").code == 2


def newest(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the last checkpoint."""
    return load_file(sorted((run / "checkpoints").glob("step-*"))[-1] / "model.safetensors")


def conversations(count: int) -> list[dict[str, Any]]:
    """Questions about letters with one right answer each, some over two turns."""
    letters = "abcdefgh"
    rows = []
    for number in range(count):
        turns = []
        for turn in range(1 + number % 2):
            letter = letters[(number * 3 + turn) % len(letters)]
            turns += [{"role": "user", "content": f"say {letter}"}, {"role": "assistant", "content": letter * 3}]
        rows.append({"id": f"c{number}", "messages": turns})
    return rows


def test_chat_formats_are_found(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The format is said and stands in the summary. What is longer than the context is shortened where this is asked."""
    (tmp_path / "talk").mkdir()
    turns = [{"from": "human", "value": "say a"}, {"from": "gpt", "value": "aaa " * 60}]
    write_jsonl(tmp_path / "talk" / "train.jsonl", [{"conversations": turns}] * 8)
    write_jsonl(tmp_path / "talk" / "val.jsonl", [{"instruction": "say", "input": "b", "output": "bbb"}] * 4)
    command = (
        "finetune", workspace / "run", "talk", "--task", "chat", "--epochs", "1", "--json", "--max-seq-len", "32", "-o",
    )  # fmt: skip
    done = gptctl(*command, "a", "--long-conversations", "head")
    assert done.code == 0, done.err
    assert "train: the chat format is sharegpt (column conversations)" in done.err
    assert "val: the chat format is alpaca (columns instruction, output)" in done.err
    assert "reading only the head of 8 of 8 conversations that are longer than the context of 32 tokens" in done.err
    metrics = done.json["metrics"]
    assert (metrics["chat_format"], metrics["train_shortened"], metrics["train_too_long"]) == ("sharegpt", 8, 0)
    refused = gptctl(*command, "b", "--chat-format", "messages")
    assert (refused.code, "no columns of the chat format messages; its columns fit sharegpt" in refused.err) == (
        3,
        True,
    )


@pytest.mark.slow
def test_chat_learns_answers_in_the_template(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The template goes with the model, and in it the model answers and ends its turn."""
    (tmp_path / "talk").mkdir()
    write_jsonl(tmp_path / "talk" / "train.jsonl", conversations(64))
    write_jsonl(tmp_path / "talk" / "val.jsonl", conversations(16))
    done = gptctl(
        "finetune", workspace / "run", "talk", "-o", "chat", "--task", "chat", "--epochs", "60", "--lr", "3e-3", "--json",
        "--batch-size", "4", "--set", "dropout=0",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["metrics"]["best_val_loss"] < 0.1
    from gptctl.infer.engine import Engine
    from gptctl.infer.sampling import SamplingParams
    from gptctl.model.folder import load_model
    from gptctl.model.gpt import GPT
    from gptctl.text.chat import ChatTemplate
    from gptctl.text.tokenizer import Tokenizer

    model, _, tokenizer_json, extra = load_model(tmp_path / "chat" / "model")
    assert isinstance(model, GPT)
    coder = Tokenizer.from_json(tokenizer_json)
    prompt = ChatTemplate(extra["chat_template"], coder).prompt([{"role": "user", "content": "say e"}])
    sample = Engine(model).generate([prompt], SamplingParams(max_tokens=20, temperature=0.0), tuple(extra["stop_ids"]))[
        0
    ]
    assert coder.decode(sample.tokens, skip_special_tokens=True) == "eee"


def test_chat_data_that_is_none(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The row is named; what is too long is left out and counted, never cut; all too long is an error."""
    command = ("finetune", workspace / "run", "talk", "--task", "chat", "--epochs", "1", "--json", "-o")
    (tmp_path / "talk").mkdir()
    train, val = tmp_path / "talk" / "train.jsonl", tmp_path / "talk" / "val.jsonl"
    write_jsonl(val, conversations(4))
    write_jsonl(train, [{"messages": [{"role": "user", "content": "hello"}]}])
    refused = gptctl(*command, "a")
    assert (refused.code, "train: row 0" in refused.err, "assistant says nothing" in refused.err) == (3, True, True)
    silent = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": ""}]}
    long = {"messages": [{"role": "user", "content": "say " * 900}, {"role": "assistant", "content": "no"}]}
    write_jsonl(train, [long, silent, *conversations(8)])
    train.write_bytes(train.read_bytes() + b'{"messages": [}\n')
    done = gptctl(*command, "b")
    assert done.code == 0, done.err
    assert (done.json["metrics"]["train_too_long"], done.json["metrics"]["train_unreadable"]) == (1, 1)
    assert "see quarantine.jsonl" in done.err
    reasons = [row["reason"] for row in read_jsonl(tmp_path / "b" / "quarantine.jsonl")]
    assert "not JSON" in reasons[0] and reasons[1] == "the assistant says nothing"
    write_jsonl(train, [long])
    assert gptctl(*command, "c").code == 3
    write_jsonl(train, [{"question": "x", "answer": "y"}])
    unknown = gptctl(*command, "e")
    assert (unknown.code, "no columns of a known chat format; it has: question, answer" in unknown.err) == (3, True)
    write_jsonl(train, conversations(8))
    (tmp_path / "bad.jinja").write_text("{% for %}")
    assert gptctl(*command, "d", "--set", "chat_template=bad.jinja").code == 3
