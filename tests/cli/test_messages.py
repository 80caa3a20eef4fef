"""Messages about bad keys: our own sentences, with the name that the user typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran

Gptctl = Callable[..., Ran]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tokenize in -o out --vocab-size 8k", "--vocab-size takes a whole number from 3 to 16777216, not '8k'"),
        ("tokenize in -o out --set vocab_size=8k", "--set vocab_size takes a whole number"),
        (
            "tokenize in -o out --set split.by=txt",
            "--set split.by takes cluster, text or position, not 'txt' (did you mean 'text'?)",
        ),
        (
            "finetune m d -o out --task chta",
            "--task takes classify, chat, preference, lm or filter, not 'chta' (did you mean 'chat'?)",
        ),
        ("finetune m d -o out --lr fast", "--lr takes a number above 0, not 'fast'"),
        ("dedup in -o out --threshold 1", "--threshold takes a number above 0 and below 1, not '1'"),
        ("dedup in -o out --set normalize=perhaps", "--set normalize takes true or false, not 'perhaps'"),
        ("dedup in -o out --set verify=[1]", "--set verify takes true or false, not [1]"),
        ("pretrain --dry-run --set model=3", "--set model takes a table of keys, not 3"),
        ("pretrain --dry-run --set training.betas=1,2,3", "--set training.betas takes a list of 2 numbers, not"),
        ("pretrain --dry-run --set model.layers=1.5", "--set model.layers takes a whole number of at least 1, not 1.5"),
        ("clean in -o out --filters lenght", "--filters: no filter is called 'lenght' (did you mean 'length'?)"),
        ("dedup -o out", "INPUT... is missing"),
        ("dedup in", "-o is missing"),
        ("clean in -o out --set nothing=1", "config key 'nothing' is not known"),
        (
            "clean in -o out --set c4.min_sentenses=1",
            "'c4.min_sentenses' is not known (did you mean 'c4.min_sentences'?)",
        ),
        ("clean in -o out --lmit 3", "no such option: --lmit (did you mean '--limit'?)"),
        ("finetune m d -o out --max-minutes 3", "hint: --epochs decides how long it trains"),
        ("finetune m d -o out --chat", "no such option: --chat\nhint: a chat model is trained with --task chat"),
        (
            "clean in -o out --encoding latin-1",
            "no such option: --encoding\nhint: this is a config key: --set encoding=VALUE",
        ),
        ("pretrain t -o out --grad-clip 1", "hint: this is a config key: --set training.grad_clip=VALUE"),
        ("pretrain t -o out --batch 8", "no such option: --batch (did you mean '--batch-tokens'?)"),
        ("inspect out --rows 2", "no such option: --rows\nhint: see gptctl inspect --help"),
        ("clean in -o out --limit", "--limit needs a value"),
        ("eval m d other -o out", "too many arguments: other"),
        ("-v clean in -o out", "hint: options follow the command: gptctl clean -v"),
    ],
)
def test_flags_and_set(gptctl: Gptctl, words: str, said: str) -> None:
    done = gptctl(*words.split())
    assert done.code == 2
    assert said in done.err, done.err
    assert len(done.error_lines) == 2
    assert "pydantic" not in done.err and "input should" not in done.err.lower()


def test_variables_and_files(gptctl: Gptctl, tmp_path: Path) -> None:
    done = gptctl("tokenize", "in", "-o", "out", GPTCTL_VOCAB_SIZE="8k", GPTCTL_SPLIT__BY="x")
    assert "GPTCTL_VOCAB_SIZE takes a whole number" in done.err
    assert "GPTCTL_SPLIT__BY takes cluster, text or position, not 'x'" in done.err
    done = gptctl("clean", "in", "-o", "out", GPTCTL_C4__MIN_SENTENSES="1")
    assert "GPTCTL_C4__MIN_SENTENSES names no config key (did you mean 'GPTCTL_C4__MIN_SENTENCES'?)" in done.err
    (tmp_path / "c.toml").write_text("[tokenize]\nvocab_size = '8k'\nalgoritm = 'bpe'\n")
    done = gptctl("tokenize", "in", "-o", "out", "--config", "c.toml")
    assert "vocab_size in c.toml takes a whole number" in done.err
    assert "config key 'algoritm' in c.toml is not known (did you mean 'algorithm'?)" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pretran]\nsteps = 3\n", "no command or table is called [pretran] in c.toml (did you mean 'pretrain'?)"),
        ("[modle]\nlayers = 3\n", "no command or table is called [modle] in c.toml (did you mean 'model'?)"),
        (
            "[pretrain.trainig]\nlr = 3\n",
            "no command or table is called [trainig] in c.toml (did you mean 'training'?)",
        ),
        ("[training]\nlearning = 1\n", "config key 'training.learning' in c.toml is not known"),
        ("[tokenize]\nsplit = 3\n", ""),
        ("stepz = 3\n", "config key 'stepz' in c.toml is not known (did you mean 'steps'?)"),
    ],
)
def test_names_in_a_file(gptctl: Gptctl, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    done = gptctl("pretrain", "--config", "c.toml", "--print-config")
    assert done.code == (2 if said else 0), done.err
    assert said in done.err


def test_a_table_by_the_name_of_its_flag(gptctl: Gptctl, tmp_path: Path) -> None:
    """As --language zh does, wherever a value is given for the table that the flag belongs to."""
    (tmp_path / "c.toml").write_text("language = 'zh'\n")
    for words, environment in (
        (("--language", "zh"), {}),
        (("--set", "language=zh"), {}),
        (("--set", "language.languages=zh"), {}),
        (("--config", "c.toml"), {}),
        ((), {"GPTCTL_LANGUAGE": "zh"}),
    ):
        done = gptctl("clean", "--print-config", *words, **environment)
        assert done.code == 0, done.err
        assert '"zh"' in done.out.decode()


@pytest.mark.parametrize("stage", ["clean", "dedup", "tokenize", "pretrain", "eval", "generate"])
@pytest.mark.parametrize("out", ["out.jsonl", "s3://bucket/out.parquet", "a/b.csv.gz", "out.arrow", "out.gz"])
def test_a_folder_with_the_name_of_a_file(gptctl: Gptctl, tmp_path: Path, stage: str, out: str) -> None:
    done = gptctl(stage, "in", "-o", out)
    assert done.code == 2
    assert "-o" in done.error_lines[0] and "folder" in done.error_lines[0], done.err
    assert list(tmp_path.iterdir()) == []
