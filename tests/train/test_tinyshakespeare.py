"""nanoGPT's README run for a CPU, on its data, split as it splits: our loss after as many steps is lower."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gptctl.model.config import ModelConfig, load_preset
from gptctl.train.data import TokenWindows
from gptctl.train.job import TrainJob
from gptctl.train.recipe import Recipe
from tests.conftest import SHARED_DATA
from tests.train.jobs import build, run_in

NANOGPT_VAL_LOSS = 1.8857  # measured over the whole val split after 2,000 steps
TEXT = SHARED_DATA / "tinyshakespeare.txt"


def characters() -> NDArray[Any]:
    """Number the 65 characters in their sorted order."""
    points = np.frombuffer(TEXT.read_text(encoding="utf-8").encode("utf-32-le"), np.uint32)
    return np.unique(points, return_inverse=True)[1].astype(np.uint16)


def split(name: str, seq_len: int) -> TokenWindows:
    """Give the first 90 % or the last 10 %."""
    tokens = characters()
    border = int(len(tokens) * 0.9)
    return TokenWindows([tokens[:border] if name == "train" else tokens[border:]], seq_len, 0, name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not TEXT.exists(), reason="needs shared/data/tinyshakespeare.txt")
@pytest.mark.parametrize("preset", ["char-cpu", "char-modern"])
def test_lower_loss_than_nanogpt_in_as_many_steps(tmp_path: Path, preset: str) -> None:
    """2,000 steps of 12 windows of 64 characters."""
    tables = load_preset(preset)
    recipe = Recipe.model_validate(tables["training"])
    assert (recipe.steps, recipe.batch_size, recipe.seq_len) == (2000, 12, 64)
    job = TrainJob(
        recipe=recipe,
        build=partial(build, ModelConfig.model_validate(tables["model"]), 0),
        train_data=partial(split, "train", recipe.seq_len),
        val_data=partial(split, "val", recipe.seq_len),
        device="cpu",
    )
    assert run_in(tmp_path, job)["val_loss"] < NANOGPT_VAL_LOSS - 0.1
