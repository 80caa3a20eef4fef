"""The training recipe: optimizer, schedule and batch, the [training] table of a preset. Needs no torch."""

from __future__ import annotations

import math
from typing import Literal

from gptctl.core.config import Settings, Values, key, plain
from gptctl.core.errors import UsageError

Schedule = Literal["cosine", "linear", "wsd", "constant", "noam"]

# Muon with AdamW, and a schedule that does not need the number of steps in advance. `--recipe modern` sets these keys
# of any preset. Batch size, sequence length, steps, warm-up and label smoothing stay the preset's, because they depend
# on its data and the position of its norms.
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
    "grad_clip": 1.0,
}


class SharedRecipe(Settings):
    """Optimizer, learning-rate schedule and batch, for pretraining and fine-tuning."""

    optimizer: str = key("adamw", "A file in gptctl/train/optimizers.")
    lr: float = key(1e-3, "Peak learning rate; with muon, that of embeddings, norms and biases.", gt=0)
    matrix_lr: float = key(0.02, "Peak learning rate of hidden matrices with muon.", gt=0)
    schedule: Schedule = key("cosine", "Shape of the learning rate after the warm-up.")
    min_lr_share: float = key(0.1, "Final learning rate as a share of the peak.", ge=0, le=1)
    decay_share: float = key(1.0, "Share of the steps over which cosine and linear decay.", gt=0, le=1)
    cooldown_share: float = key(0.4, "Share of the steps, at the end, over which wsd decays.", ge=0, le=1)
    betas: tuple[float, float] = key((0.9, 0.95), "Adam's decay rates.")
    eps: float = key(1e-8, "Adam's epsilon.", gt=0)
    optimizer_state_dtype: Literal["fp32", "bf16"] = key(
        "fp32", "Number format of the optimizer's running means. bf16 takes half the memory."
    )
    momentum: float = key(0.95, "Muon's momentum.", ge=0, lt=1)
    weight_decay: float = key(0.1, "Decoupled weight decay of matrices.", ge=0)
    decay_embeddings: bool = key(False, "Decay embeddings too.")
    layer_decay: float = key(
        1.0, "Learning rate of each block as a share of the block above; embeddings are the lowest.", gt=0, le=1
    )
    grad_clip: float = key(1.0, "Largest norm of the gradient; 0 does not clip.", ge=0)
    label_smoothing: float = key(0.0, "Share of the target that is spread over all tokens.", ge=0, lt=1)
    aux_loss_weight: float = key(0.01, "Weight of the loss that balances the load of experts.", ge=0)
    router_z_weight: float = key(1e-3, "Weight of the loss that keeps experts' router logits small.", ge=0)
    document_mask: bool = key(False, "Tokens attend only to their own document, and positions count from its start.")
    checkpoint_activations: bool = key(
        False, "Keep only the inputs of blocks for the backward pass and recompute the rest: less memory, more time."
    )
    batch_size: int = key(8, "Sequences per step, over all processes.", ge=1)
    ramp_start_batch: int = key(0, "Sequences per step at the start of a batch ramp; 0 is no ramp.", ge=0)
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

    warmup_steps: int = key(100, "Steps of linear warm-up; during a batch ramp counted in full batches.", ge=0)
    seq_len: int = key(64, "Tokens per sequence.", ge=1)
    steps: int = key(1000, "Updates.", ge=0)


class FinetuneRecipe(SharedRecipe):
    """The recipe of a fine-tuning run. Its steps, warm-up and sequence length follow from the data and the model."""

    lm_weight: float = key(0.5, "Weight of the language-model loss beside a classifier's.", ge=0)
    label_weights: tuple[float, ...] = key((), "Weight of each label in a classifier's loss; empty: all alike.")


class Recipe(PretrainRecipe, FinetuneRecipe):
    """Everything that the training loop uses."""


def apply_recipe(training: Values, name: str, preset: str) -> Values:
    """Return a preset's [training] table with a recipe applied: "preset" (unchanged), "paper" or "modern".

    A preset that does not use Muon already has the recipe of the paper that its file names, so "paper" leaves it as it
    is. "modern" sets the keys of MODERN. A preset that uses Muon is modern already; for it "paper" is a UsageError (2).
    """
    is_modern = training.get("optimizer") == MODERN["optimizer"]
    if name == "paper" and is_modern:
        raise UsageError(f"no published recipe for {preset}", "leave --recipe out: its own recipe is the modern one")
    return training | MODERN if name == "modern" and not is_modern else training


def recipe_for_epochs(recipe: FinetuneRecipe, epochs: float, samples: int, seq_len: int, warmup_share: float) -> Recipe:
    """Return a recipe whose steps and warm-up follow from passes over a number of samples."""
    batch = min(recipe.batch_size, max(samples, 1))
    steps = max(1, math.ceil(epochs * samples / batch))
    counted = {"seq_len": seq_len, "steps": steps, "batch_size": batch, "warmup_steps": int(steps * warmup_share)}
    return Recipe.model_validate(plain(recipe) | counted)
