"""Every option that a command offers is read by it: attribute access of the configs is recorded while small runs go
through. What is read by the code that compares, prints and records configs does not count: that code uses `vars`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gptctl.cli.commands import config_model, stage_names
from gptctl.core import plugins
from gptctl.core.config import Settings, StageConfig, Values, declaration, table_of
from gptctl.core.context import Context
from gptctl.core.errors import DivergedError
from tests.conftest import write_jsonl

Read = set[tuple[type, str]]
PLANS, RUNS = "plan", "run"
LITTLE: Values = {"device": "cpu"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Record which fields of which config models are read."""
    seen: Read = set()

    def record(self: Settings, name: str) -> Any:
        if not name.startswith("_"):
            seen.update((kind, name) for kind in type(self).__mro__ if name in getattr(kind, "model_fields", ()))
        return object.__getattribute__(self, name)

    monkeypatch.setattr(Settings, "__getattribute__", record, raising=False)
    ray = SimpleNamespace(
        worker_count=lambda wanted: wanted,
        run=lambda function, items, workers, preload=(), address=None: map(function, items),
    )
    monkeypatch.setitem(sys.modules, "gptctl.executors.ray", ray)
    return seen


class Chosen(dict[str, Any]):
    """What was chosen, which notes what is looked up: presets are read before there is a config."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def call(stage: str, read: Read, how: str = RUNS, context: Context | None = None, **values: Any) -> None:
    """Run or plan a stage in this process, with a cluster that is none. Reading while the config is checked does not
    count."""
    if "executor" in config_model(stage).model_fields:
        values = {"executor": "ray"} | values
    before, chosen = set(read), Chosen(values)
    model = config_model(stage).for_values(values)
    model.preset_layer(chosen)
    config = model.model_validate(values)
    read.intersection_update(before)
    read.update((config_model(stage), name) for name in chosen.read)
    summary = getattr(plugins.load("gptctl.stages", stage), how)(config, context or Context())
    assert summary.failure is None


def options(model: type[Any], prefix: str = "") -> Iterator[tuple[type, str, str]]:
    """Every key of a model, with the class that has it; those of tables are dotted."""
    for name, field in model.model_fields.items():
        if table := table_of(field.annotation):
            yield from options(table, f"{prefix}{name}.")
        elif not declaration(field).paths:  # a key that stands for keys of tables is not read itself
            yield model, name, prefix + name


def unread(stage: str, read: Read) -> list[str]:
    """The keys of a command that nobody read. Plug-ins are loaded before there is a config."""
    keys = options(config_model(stage))
    return [dotted for kind, name, dotted in keys if (kind, name) not in read and name not in StageConfig.model_fields]


def clean(read: Read, workspace: Path, out: Path) -> None:
    raw = (str(workspace / "raw.jsonl"),)
    pages = (str(workspace / "pages"),)
    evaluation = str(write_jsonl(out / "eval.jsonl", [{"text": "A page about the with statement, of fair length."}]))
    labels = [{"text": "a page" if i % 2 else "spam", "label": i % 2} for i in range(60)]
    call("finetune", set(), base="none", data=(str(write_jsonl(out / "labels.jsonl", labels)),), out=str(out / "quality"),
         task="filter")  # fmt: skip
    for name in plugins.names("gptctl.text.filters"):
        settings = {"language": {"languages": ["en"]}, "url_blocklist": {"column": "text", "words": ["casino"]},
                    "classifier": {"model": str(out / "quality")}}  # fmt: skip
        call("clean", read, inputs=raw, out=str(out / name), filters=(name,), limit=9, **settings)
    call("clean", read, inputs=raw, out=str(out / "a"), preset="none", pii=True, words="nltk", punkt="train", limit=40,
         remove_stopwords="english", decontaminate=(evaluation,), keep_rejects=True)  # fmt: skip
    call("clean", read, inputs=pages, out=str(out / "b"), html="always", preset="none")
    call("clean", read, inputs=raw, explain="d3")
    call("clean", read, PLANS, inputs=raw, out=str(out / "c"))


def dedup(read: Read, workspace: Path, out: Path) -> None:
    inputs = (str(workspace / "clean"),)
    for number, values in enumerate(
        ({}, {"method": "lines"}, {"method": "substring"}, {"index": "datasketch"}, {"against": inputs})
    ):
        call("dedup", read, inputs=inputs, out=str(out / str(number)), **values)


def split(read: Read, workspace: Path, out: Path) -> None:
    inputs = (str(workspace / "labelled" / "train.jsonl"),)
    call("split", read, inputs=inputs, out=str(out / "a"), stratify="label")


def tokenize(read: Read, workspace: Path, out: Path) -> None:
    inputs = (str(workspace / "unique"),)
    call("tokenize", read, inputs=inputs, out=str(out / "a"), vocab_size=300, shuffle=True)
    call("tokenize", read, inputs=inputs, out=str(out / "b"), tokenizer=str(workspace / "tokens"))


def pretrain(read: Read, workspace: Path, out: Path) -> None:
    tokens = str(workspace / "tokens")
    common: Values = {"tokens": (tokens,), "steps": 4, "device": "cpu"}
    shutil.copytree(tokens, out / "other")
    call("pretrain", read, **common | {"tokens": (tokens, str(out / "other"))}, out=str(out / "m"), weights=(2, 1),
         mixture={"phases": [{"start": 0.5, "weights": (1, 2)}]})  # fmt: skip
    call("pretrain", read, **common, out=str(out / "a"), preset="test-moe", checkpoint={"every": 1})
    call("pretrain", read, **common, out=str(out / "b"), preset="test-gpt3", pack="bestfit", patience=1, eval_every=1,
         faults={"spike_window": 2}, training={"ramp_start_batch": 1, "ramp_tokens": 99, "document_mask": True,
         "schedule": "cosine", "warmup_steps": 0})  # fmt: skip
    call("pretrain", read, **common, out=str(out / "c"), preset="test-modern", training={"warmup_steps": 0})
    rotations: list[Values] = [{"rope_type": "llama3"}, {"rope_type": "yarn", "mscale": 1}]
    rotations += [{"rope_type": "longrope", "short_factor": (1,) * 8, "long_factor": (2,) * 8}]
    for number, scaling in enumerate(rotations):
        call("pretrain", read, **common | {"steps": 1}, out=str(out / f"r{number}"), preset="test-modern",
             training={"warmup_steps": 0}, model={"rope_scaling": scaling})  # fmt: skip
    for action in ("skip", "rollback"):
        with pytest.raises(DivergedError):
            call("pretrain", read, **common, out=str(out / action), preset="test-gpt2", checkpoint={"every": 1},
                 faults={"on_nonfinite": action, "max_skips": 1}, training={"lr": 1e30, "warmup_steps": 0})  # fmt: skip
    call("pretrain", read, **(common | {"steps": 1}), out=str(out / "d"), max_minutes=0.01)
    call("pretrain", read, PLANS, size="200k", train_tokens="10k", device="cpu")
    call("pretrain", read, PLANS, preset="gpt2", gpus=4, nodes=2, parallel="tp")
    call("pretrain", read, RUNS, list_presets=True)


def finetune(read: Read, workspace: Path, out: Path) -> None:
    common: Values = {"base": str(workspace / "run"), "device": "cpu", "epochs": 0.2}
    labelled = str(workspace / "labelled")
    chats = [
        {"messages": [{"role": "user", "content": f"number {i}"}, {"role": "assistant", "content": "b"}]}
        for i in range(60)
    ]
    folds = [{"text": f"row {i}", "label": "ab"[i // 2 % 2], "fold": i % 2, "also": "x"} for i in range(160)]
    call("finetune", read, **common, data=(labelled,), out=str(out / "a"), lora=2, label_weights="balanced", patience=1)
    call("finetune", read, **common, data=(str(write_jsonl(out / "folds.jsonl", folds)),), out=str(out / "b"),
         fold_column="fold", pair_column="also", symmetric=True, long_documents="windows")  # fmt: skip
    call(
        "finetune",
        read,
        **common,
        data=(str(write_jsonl(out / "chats.jsonl", chats)),),
        out=str(out / "c"),
        task="chat",
    )
    pairs = [{"prompt": f"number {i}", "chosen": "a b", "rejected": "c"} for i in range(60)]
    call("finetune", read, **common, data=(str(write_jsonl(out / "pairs.jsonl", pairs)),), out=str(out / "p"),
         task="preference", loss="simpo", select_on="loss")  # fmt: skip
    lm: Values = common | {"data": (str(workspace / "unique"),), "task": "lm", "epochs": 1}
    call("finetune", read, **lm, out=str(out / "d"), seeds=2, faults={"spike_window": 2}, training={
        "optimizer": "muon", "schedule": "wsd", "ramp_start_batch": 1, "ramp_tokens": 999, "batch_size": 2})  # fmt: skip
    both = (str(workspace / "unique"), str(workspace / "labelled"))
    call("finetune", read, PLANS, **lm | {"data": both}, out=str(out / "e"), weights=(2, 1),
         mixture={"phases": [{"start": 0.5, "weights": (1, 2)}]})  # fmt: skip
    for action in ("skip", "rollback"):
        with pytest.raises(DivergedError):
            call("finetune", read, **lm, out=str(out / action), training={"lr": 1e30, "batch_size": 2},
                 faults={"on_nonfinite": action, "max_skips": 1})  # fmt: skip


def evaluate(read: Read, workspace: Path, out: Path) -> None:
    common: Values = {"device": "cpu", "cache": "none"}
    choices = [{"context": "The", "choices": [" end", " start"], "label": 0}] * 4
    call("eval", read, **common, model=str(workspace / "classifier"), data=str(workspace / "labelled"), out=str(out / "a"),
         leakage=str(workspace / "unique"), junit=str(out / "j.xml"), markdown=str(out / "m.md"),
         metrics=("accuracy", "f1", "ece"))  # fmt: skip
    call("eval", read, predictions=str(out / "a"), compare=str(out / "a"), no_regress=str(out / "a"))
    call("eval", read, **common, model=str(workspace / "run"), data=str(workspace / "tokens"), limit=3)
    call("eval", read, **common, model=str(workspace / "run"), data=str(write_jsonl(out / "c.jsonl", choices)),
         text_column="context", emit_lm_eval_task=str(out / "tasks"))  # fmt: skip
    call("eval", read, **common, model=str(workspace / "run"), data=str(workspace / "labelled" / "test.jsonl"),
         task="generate", metrics=("exact_match",), max_tokens=2, limit=3)  # fmt: skip


def generate(read: Read, workspace: Path, out: Path) -> None:
    common: Values = {"model": str(workspace / "run"), "device": "cpu", "max_tokens": 3}
    call("generate", read, **common, prompt="The", num=2)
    call("generate", read, **common, prompts=str(workspace / "prompts.jsonl"), out=str(out / "a"), logprobs=True)
    call("generate", read, **common, prompt="The", draft=str(workspace / "run"))


def serve(read: Read, workspace: Path, out: Path) -> None:
    stopped = Context()
    stopped.stop.signal_number = 15
    call("serve", read, context=stopped, model=str(workspace / "run"), device="cpu", port=0)


def export(read: Read, workspace: Path, out: Path) -> None:
    call("export", read, model=str(workspace / "run"), out=str(out / "a"))


def inspect(read: Read, workspace: Path, out: Path) -> None:
    call("inspect", read, path=str(workspace / "tokens"))


def doctor(read: Read, workspace: Path, out: Path) -> None:
    call("doctor", read, paths=(str(workspace / "clean"),))


def report(read: Read, workspace: Path, out: Path) -> None:
    call("report", read, paths=(str(workspace / "clean"),), out=str(out / "report.html"), card=True)


USES: dict[str, Callable[[Read, Path, Path], None]] = {
    "clean": clean, "dedup": dedup, "split": split, "tokenize": tokenize, "pretrain": pretrain, "finetune": finetune, "eval": evaluate,
    "generate": generate, "serve": serve, "export": export, "inspect": inspect, "doctor": doctor, "report": report,
}  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("pretrain", "finetune") else [])
        for name in stage_names()
    ],
)
def test_every_option_is_read(stage: str, read: Read, workspace: Path, tmp_path: Path) -> None:
    USES[stage](read, workspace, tmp_path)
    assert ", ".join(unread(stage, read)) == ""


def test_an_option_that_is_not_read_is_found(read: Read) -> None:
    """The recorder itself."""
    assert json.dumps(unread("inspect", read)) == '["path", "limit", "format", "split"]'
