"""Keys that have no effect beside others: refused where somebody set them for this command, harmless elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptctl.cli.stages import config_model, stage_names
from gptctl.core import plugins
from gptctl.core.config import Values, flatten, merge, nest, plain, table_of
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from tests.conftest import Ran, tree_bytes
from tests.core.config.test_tables import REQUIRED, keys, others

Gptctl = Callable[..., Ran]
ADAMW = "pretrain tokens -o out --preset test-modern --optimizer adamw"
BATCH_TOKENS = "pretrain tokens -o out --batch-tokens 512"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetune m d -o out --set training.steps=9", "--set training.steps is not a key of gptctl finetune: --epochs decides"),
        ("finetune m d -o out --set training.seq_len=9", "--set training.seq_len is not a key of gptctl finetune"),
        ("finetune m d -o out --set training.warmup_steps=9", "--set training.warmup_steps is not a key of gptctl finetune"),
        ("finetune m d -o out --set adapter.rank=9", "--set adapter.rank is not a key of gptctl finetune: use --lora"),
        ("finetune m d -o out --set adapter.alpha=9", "--set adapter.alpha has no effect without --lora"),
        ("finetune m d -o out --task chat --lm-weight 0.5", "--lm-weight has no effect with --task chat"),
        ("finetune m d -o out --set lr=0.1 --set training.lr=0.2", "--set training.lr has no effect beside --set lr"),
        ("finetune m d -o out --seeds 3 --fold-column f", "--seeds has no effect beside --fold-column"),
        ("clean in -o out --set contamination.words=9", "--set contamination.words has no effect without --decontaminate"),
        ("clean in -o out --set mask.style=datatrove", "--set mask.style has no effect without --pii"),
        ("clean in -o out --set c4.min_line_words=3", "--set c4.min_line_words has no effect without the filter c4"),
        ("dedup in -o out --method exact --threshold 0.5", "--threshold has no effect with --method exact"),
        ("dedup in -o out --ray-address h:1", "--ray-address has no effect without --executor ray"),
        ("tokenize in -o out --seed 3", "--seed has no effect without --shuffle"),
        ("tokenize in -o out --algorithm chars --vocab-size 300", "--vocab-size has no effect with --algorithm chars"),
        ("pretrain tokens -o out --rdzv-endpoint h:1", "--rdzv-endpoint has no effect without --nodes"),
        ("pretrain tokens -o out --gpus 2 --nproc-per-node 3", "--nproc-per-node has no effect beside --gpus"),
        ("pretrain tokens -o out --parallel ddp", "--parallel has no effect with a single process"),
        ("pretrain tokens -o out --set model.vocab_size=9", "--set model.vocab_size has no effect beside TOKENS"),
        ("pretrain tokens -o out --set training.cooldown_share=1 --preset gpt2", "has no effect with schedule cosine"),
        ("pretrain tokens -o out --set faults.margin=1", "--set faults.margin has no effect without a rollback"),
        (f"{BATCH_TOKENS} --set training.batch_size=4", "--set training.batch_size has no effect beside --batch-tokens"),
        (f"{ADAMW} --set training.matrix_lr=0.05", "--set training.matrix_lr has no effect with optimizer adamw"),
        ("pretrain --list-presets --steps 3", "--steps has no effect with --list-presets"),
        ("eval m d --positive yes", "--positive has no effect without --average binary"),
        ("eval m d --workers 3", "--workers has no effect without --leakage"),
        ("eval --predictions p --device cpu", "--device has no effect with --predictions"),
        ("generate m x --temperature 0 --top-p 0.5", "--top-p has no effect with --temperature 0"),
        ("generate m x --text-column c", "--text-column has no effect without --prompts"),
        ("report scores --license mit", "--license has no effect without --card"),
        ("export m -o out --format gguf --set max_shard_bytes=9", "--set max_shard_bytes has no effect with --format gguf"),
    ],
)  # fmt: skip
def test_refused(gptctl: Gptctl, words: str, said: str) -> None:
    done = gptctl(*words.split(), GPTCTL_EXECUTOR="processes")
    assert done.code == 2
    assert said in done.err, done.err
    assert len(done.error_lines) == 2


@pytest.mark.parametrize("stage", ["clean", "export", "inspect", "report", "doctor"])
def test_no_seed_where_nothing_is_drawn(gptctl: Gptctl, stage: str) -> None:
    done = gptctl(stage, "x", "--seed", "5")
    assert done.code == 2
    assert "no such option: --seed" in done.err


def test_what_is_meant_for_other_command_lines(gptctl: Gptctl, tmp_path: Path) -> None:
    """Variables, keys that several commands have, and values that change nothing are passed over."""
    plain_ones = gptctl("finetune", "--task", "chat", "--print-config").out
    variables = {"GPTCTL_LM_WEIGHT": "0.5", "GPTCTL_TRAINING__STEPS": "9", "GPTCTL_SHUFFLE": "true"}
    assert gptctl("finetune", "--task", "chat", "--print-config", **variables).out == plain_ones
    file = tmp_path / "c.toml"
    file.write_text("label_column = 'kind'\nvocab_size = 300\npooling = 'last'\n[tokenize]\nval = 0.1\n")
    assert gptctl("finetune", "--task", "chat", "--print-config", "--config", file).out == plain_ones
    for text in ("pooling = 'mean'\n", "[finetune]\nlabel_column = 'kind'\n", "[finetune]\nvocab_size = 300\n"):
        file.write_text(text)
        assert gptctl("finetune", "--task", "chat", "--print-config", "--config", file).code == 2, text
    for text in ("[training]\nsteps = 9\n", "[finetune.training]\nsteps = 9\n"):
        file.write_text(text)
        done = gptctl("finetune", "--print-config", "--config", file)
        assert (done.code, "--epochs" in done.err) == (2, True)


def test_a_recorded_config_runs_again(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """config.toml holds every key, those without effect too."""
    shutil.copytree(workspace / "classifier", tmp_path / "classifier")
    words = ("finetune", workspace / "run", workspace / "labelled", "-o", "classifier")
    done = gptctl(*words, "--config", "classifier/config.toml", "--json")
    assert (done.code, done.json["status"]) == (0, "up to date"), done.err


@pytest.mark.parametrize("stage", stage_names())
def test_the_reasons_name_keys(stage: str) -> None:
    """Each key that some config has no use for is a key or a table of the command."""
    model = config_model(stage)
    known = {name for name, _ in keys(model)} | {
        name for name, field in model.model_fields.items() if table_of(field.annotation)
    }
    given = {name: REQUIRED[name] for name, field in model.model_fields.items() if field.is_required()}
    base = flatten(plain(model.model_validate(given)))
    for dotted, field in keys(model):
        for value in others(base.get(dotted), field):
            try:
                config = model.model_validate(merge(given, nest(dotted, value)))
            except (ValueError, UsageError):
                continue
            assert set(config.without_effect()) <= known, (dotted, value)


CHEAP: list[tuple[str, Values]] = [
    ("clean", {"inputs": ["raw.jsonl"]}),
    ("clean", {"inputs": ["pages"], "html": "never", "filters": ["length"]}),
    ("dedup", {"inputs": ["clean"], "method": "exact"}),
    ("dedup", {"inputs": ["clean"], "method": "lines"}),
    ("dedup", {"inputs": ["clean"], "method": "substring"}),
    ("dedup", {"inputs": ["clean"]}),
    ("split", {"inputs": ["clean"], "method": "exact"}),
    ("tokenize", {"inputs": ["unique"], "algorithm": "bytes"}),
    ("tokenize", {"inputs": ["unique"], "algorithm": "chars", "split": {"by": "position"}}),
    ("tokenize", {"inputs": ["unique"], "tokenizer": "tokens"}),
    ("pretrain", {"tokens": ["tokens"], "preset": "test-gpt2", "steps": 2, "lr": 1e-3, "seq_len": 16}),
    ("finetune", {"base": "run", "data": ["labelled"], "epochs": 0.5, "lr": 1e-3, "label_weights": "balanced"}),
    ("finetune", {"base": "run", "data": ["unique"], "epochs": 0.5, "task": "lm"}),
    ("eval", {"model": "classifier", "data": "labelled", "cache": "none"}),
    ("generate", {"model": "run", "prompts": "prompts.jsonl", "max_tokens": 4, "temperature": 0.0}),
]  # fmt: skip
# Not changed here: what needs a cluster or another machine, is refused by the stage too, or chooses a filter.
LEFT = {"ray_address", "rdzv_endpoint", "redis_name", "positive", "fold", "fold_column", "language.languages"}


@pytest.mark.parametrize(
    ("stage", "values"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[0] in ("pretrain", "finetune") else []) for case in CHEAP],
)
def test_the_output_is_the_same(stage: str, values: Values, workspace: Path, tmp_path: Path) -> None:
    """All keys that have no effect are changed at once, behind the back of the check."""
    module, model = plugins.load("gptctl.stages", stage), config_model(stage)
    for name, value in values.items():
        first = value[0] if isinstance(value, list) else value
        if isinstance(first, str) and (workspace / first).exists():
            values = values | {name: [str(workspace / first)] if isinstance(value, list) else str(workspace / first)}
    config = model.model_validate(values | {"out": str(tmp_path / "one")} | serial(model))
    changes = changed(model, values, config)
    other = model.model_validate(merge(merge(values, changes), {"out": str(tmp_path / "other")} | serial(model)))
    assert flatten(changes)
    for one in (config, other):
        assert module.run(one, Context()).status == "done"
    left, right = tree_bytes(tmp_path / "one"), tree_bytes(tmp_path / "other")
    compared = [name for name in left if name.endswith(DATA)]
    assert compared and left.keys() == right.keys()
    assert [name for name in compared if left[name] != right[name]] == []


DATA = (
    ".arrow",
    ".safetensors",
    "tokenizer.json",
    "metrics.json",
    "cache.jsonl",
)  # the rest records settings and times


def serial(model: Any) -> Values:
    return {"executor": "serial"} if "executor" in model.model_fields else {"device": "cpu"}


def changed(model: Any, values: Values, config: Any) -> Values:
    """Another value for each key without effect; those that do not fit the rest are left out."""
    base, reasons, changes = flatten(plain(config)), config.without_effect(), {}
    for dotted, field in keys(model):
        if dotted in LEFT or not any(f"{dotted}.".startswith(f"{one}.") for one in reasons):
            continue
        for value in others(base.get(dotted), field):
            wanted = merge(changes, nest(dotted, value))
            try:
                model.model_validate(merge(merge(values, wanted), {"out": "x"}))
            except (ValueError, UsageError):
                continue
            changes = wanted
            break
    return changes
