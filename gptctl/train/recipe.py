"""How a model is trained, apart from its shape: the [training] table of a preset. Needs no torch."""

from __future__ import annotations

from typing import Literal

from gptctl.core.config import Settings, Values, key
from gptctl.core.errors import UsageError

Schedule = Literal["cosine", "linear", "wsd", "constant", "noam"]

# Muon with AdamW and a schedule that needs no end in advance: what `--recipe modern` lays over any preset's table.
# Batch, length, steps, warm-up and label smoothing stay the preset's: they belong to its data and its norm's position.
MODERN: Values = {
    "optimizer": "muon",
    "schedule": "wsd",
    "cooldown_share": 0.4,
    "lr": 3e-3,
    "matrix_lr": 0.02,
    "min_lr_share": 0.0,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "decay_embeddings": False,
    "clip": 1.0,
}


class SharedRecipe(Settings):
    """Optimizer, learning-rate schedule and batch, for pretraining and finetuning."""

    optimizer: str = key("adamw", "A file in gptctl/train/optimizers.")
    lr: float = key(1e-3, "Peak learning rate; with muon that of embeddings, norms and biases.", gt=0)
    matrix_lr: float = key(0.02, "Peak learning rate of hidden matrices under muon.", gt=0)
    schedule: Schedule = key("cosine", "Shape of the learning rate after the warm-up.")
    min_lr_share: float = key(0.1, "Learning rate at the end, as a share of the peak.", ge=0, le=1)
    decay_share: float = key(1.0, "Share of the steps after which cosine and linear stay at their end.", gt=0, le=1)
    cooldown_share: float = key(0.4, "Last share of the steps in which wsd falls.", ge=0, le=1)
    betas: tuple[float, float] = key((0.9, 0.95), "Adam's decay rates.")
    eps: float = key(1e-8, "Adam's epsilon.", gt=0)
    momentum: float = key(0.95, "Muon's momentum.", ge=0, lt=1)
    weight_decay: float = key(0.1, "Decoupled weight decay of matrices.", ge=0)
    decay_embeddings: bool = key(False, "Decay embeddings too.")
    layer_decay: float = key(
        1.0, "Learning rate of each block as a share of that of the block above; embeddings lie below all.", gt=0, le=1
    )
    clip: float = key(1.0, "Largest norm of the gradient; 0 does not clip.", ge=0)
    label_smoothing: float = key(0.0, "Share of the target spread over all symbols.", ge=0, lt=1)
    balance_weight: float = key(0.01, "Weight of the loss that spreads tokens over experts.", ge=0)
    router_z_weight: float = key(1e-3, "Weight of the loss that keeps experts' router logits small.", ge=0)
    document_mask: bool = key(False, "No token attends to an earlier document, and positions count from its own.")
    checkpoint_activations: bool = key(
        False, "Keep only each block's input for the backward pass and compute the rest again: less memory, more time."
    )
    batch_size: int = key(8, "Sequences per step, over all processes.", ge=1)
    ramp_start_batch: int = key(0, "Sequences per step at the start, if the batch is to grow; 0 is no ramp.", ge=0)
    ramp_tokens: int = key(0, "Tokens over which the batch grows to batch_size.", ge=0)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.optimizer == "adamw":
            found |= dict.fromkeys(("matrix_lr", "momentum"), "with optimizer adamw")
        schedule = f"with schedule {self.schedule}"
        if self.schedule != "wsd":
            found["cooldown_share"] = schedule
        if self.schedule not in ("cosine", "linear"):
            found["decay_share"] = schedule
        if self.schedule in ("constant", "noam"):
            found["min_lr_share"] = schedule
        if not self.weight_decay:
            found["decay_embeddings"] = "with weight_decay 0"
        if not self.ramp_start_batch:
            found["ramp_tokens"] = "without ramp_start_batch"
        return found


class PretrainRecipe(SharedRecipe):
    """The recipe of a pretraining run."""

    warmup_steps: int = key(100, "Steps of linear warm-up.", ge=0)
    seq_len: int = key(64, "Tokens per sequence.", ge=1)
    steps: int = key(1000, "Updates.", ge=0)


class FinetuneRecipe(SharedRecipe):
    """The recipe of a finetuning run, whose steps, warm-up and sequence length follow from the data and the model."""

    lm_weight: float = key(0.5, "Weight of the language-model loss beside a classifier's.", ge=0)
    label_weights: tuple[float, ...] = key((), "Weight of each label in a classifier's loss; none weighs all alike.")


class Recipe(PretrainRecipe, FinetuneRecipe):
    """All that a training loop is told."""


def named(training: Values, name: str, preset: str) -> Values:
    """Return a preset's [training] table under the recipe `name`: "preset" as it stands, "paper" or "modern".

    A preset that doesn't use Muon has the recipe of the paper that its file names, so "paper" says what is so already.
    "modern" lays MODERN over it; a preset that uses Muon itself stays as it is, and there "paper" is a UsageError (2).
    """
    is_modern = training.get("optimizer") == MODERN["optimizer"]
    if name == "paper" and is_modern:
        raise UsageError(f"no paper gives a recipe for {preset}", "leave --recipe out: its own is the modern one")
    return training | MODERN if name == "modern" and not is_modern else training
