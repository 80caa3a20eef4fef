"""Which keys of `gptctl pretrain` were given: a value is the user's also where it equals the preset's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptctl.cli.resolve import resolve
from gptctl.core.config import Layer, show
from gptctl.core.errors import UsageError
from gptctl.model.config import load_preset
from gptctl.train.tasks.pretrain_options import PretrainOptions

PRESET_STEPS = load_preset("test-modern")["training"]["steps"]


def options(file: Path | None = None, **flags: Any) -> PretrainOptions:
    """Resolve flags as the command line does."""
    config, _ = resolve("pretrain", Layer("flag", {"preset": "test-modern", **flags}), file)
    assert isinstance(config, PretrainOptions)
    return config


def test_steps_that_equal_the_presets_are_given() -> None:
    """They limit a run by minutes, and contradict a number of tokens, as any other number of steps does."""
    assert options().steps_given is None
    for steps in (PRESET_STEPS, PRESET_STEPS + 1):
        assert options(steps=steps, max_minutes=1).steps_given == steps
        with pytest.raises(UsageError, match="--train-tokens and --steps both decide"):
            options(steps=steps, train_tokens="1M")


def test_what_a_run_records_gives_the_same_run_again(tmp_path: Path) -> None:
    """The preset's steps and warm-up do not come back as the user's where a budget decides."""
    for flags in ({"train_tokens": "1M"}, {"max_minutes": 2.0}, {"max_minutes": 2.0, "steps": PRESET_STEPS}, {}):
        first, origins = resolve("pretrain", Layer("flag", {"preset": "test-modern", **flags}))
        (tmp_path / "config.toml").write_text(show(first, origins))
        again = options(tmp_path / "config.toml")
        assert again.settings() == first.settings()
        if flags:
            assert isinstance(first, PretrainOptions)
            assert again.steps_given == first.steps_given
            assert again.is_own("training.warmup_steps") == first.is_own("training.warmup_steps")
