"""How a model is trained, apart from its shape: the [training] table of a preset. Needs no torch."""

from __future__ import annotations

from typing import Literal

from gptctl.core.config import Settings, key

Schedule = Literal["cosine", "linear", "wsd", "constant", "noam"]


class Recipe(Settings):
    """Optimizer, learning-rate schedule and batch."""

    optimizer: str = key("adamw", "A file in gptctl/train/optimizers.")
    lr: float = key(1e-3, "Peak learning rate; with muon that of embeddings, norms and biases.", gt=0)
    matrix_lr: float = key(0.02, "Peak learning rate of hidden matrices under muon.", gt=0)
    schedule: Schedule = key("cosine", "Shape of the learning rate after the warm-up.")
    warmup_steps: int = key(100, "Steps of linear warm-up.", ge=0)
    min_lr_share: float = key(0.1, "Learning rate at the end, as a share of the peak.", ge=0, le=1)
    cooldown_share: float = key(0.4, "Last share of the steps in which wsd falls.", ge=0, le=1)
    betas: tuple[float, float] = key((0.9, 0.95), "Adam's decay rates.")
    eps: float = key(1e-8, "Adam's epsilon.", gt=0)
    momentum: float = key(0.95, "Muon's momentum.", ge=0, lt=1)
    weight_decay: float = key(0.1, "Decoupled weight decay of matrices.", ge=0)
    decay_embeddings: bool = key(False, "Decay embeddings too.")
    clip: float = key(1.0, "Largest norm of the gradient; 0 does not clip.", ge=0)
    label_smoothing: float = key(0.0, "Share of the target spread over all symbols.", ge=0, lt=1)
    lm_weight: float = key(0.5, "Weight of the language-model loss beside a classifier's.", ge=0)
    batch_size: int = key(8, "Sequences per step, over all processes.", ge=1)
    seq_len: int = key(64, "Tokens per sequence.", ge=1)
    steps: int = key(1000, "Updates.", ge=0)
