"""The options of `gptctl pretrain` that decide what is trained and for how long. Needs no torch."""

from __future__ import annotations

from typing import Literal

from gptctl.core import plugins
from gptctl.core.config import SeedOption, Settings, Values, flag, key, merge, plain
from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.faults import FaultPolicy
from gptctl.train.planning.gpu_specs import Accelerator
from gptctl.train.recipe import PretrainRecipe, Recipe, apply_recipe
from gptctl.train.tasks.mixing_options import MixingOptions

DEFAULT_PRESET = "test-modern"
OPTIMIZERS = "gptctl.train.optimizers"


class CheckpointOptions(Settings):
    """When checkpoints are written."""

    every: int = key(500, "Steps between checkpoints; 0 saves only at the end and when stopped.", ge=0)
    keep: int = key(2, "How many of the newest checkpoints are kept.", ge=1)


class PretrainOptions(DistributedOptions, MixingOptions, SeedOption):
    """Model, recipe, budget, evaluation and logging."""

    preset: str = flag(
        DEFAULT_PRESET, "Model and recipe; --list-presets shows all.", panel="Model", choices=preset_names
    )
    recipe: Literal["preset", "paper", "modern"] = flag(
        "preset",
        "Training recipe: the preset's, the paper's, or modern (Muon + AdamW, wsd).",
        panel="Training",
        runtime=True,  # its values are in training
    )
    steps: int | None = flag(None, "Updates. Default: the preset's.", panel="Training", paths=("training.steps",), ge=0)
    seq_len: int | None = flag(
        None, "Tokens per sequence, and the model's context.", panel="Training",
        paths=("training.seq_len", "model.max_seq_len"), ge=1,
    )  # fmt: skip
    batch_tokens: int | None = flag(None, "Tokens per update, over all processes.", panel="Training", ge=1)
    optimizer: str | None = flag(
        None, "Optimizer. Default: the recipe's.", panel="Training", paths=("training.optimizer",),
        choices=lambda: plugins.names(OPTIMIZERS),
    )  # fmt: skip
    lr: float | None = flag(
        None, "Peak learning rate. With muon, training.matrix_lr is that of hidden matrices.", panel="Training",
        paths=("training.lr",), gt=0,
    )  # fmt: skip
    max_minutes: float = flag(0, "Stop after this many minutes; 0 is no limit.", panel="Training", ge=0)
    model: ModelConfig = key(ModelConfig(), "The model's shape.")
    training: PretrainRecipe = key(PretrainRecipe(), "The recipe.")
    checkpoint: CheckpointOptions = key(CheckpointOptions(), "When checkpoints are written.")
    faults: FaultPolicy = key(FaultPolicy(), "What happens when a step goes wrong.")
    max_tokens: int = key(0, "Stop after this many tokens; 0 is no limit.", ge=0)
    patience: int = key(
        0, "Stop after this many evaluations without a lower val loss, and keep the best weights; 0 never stops.", ge=0
    )
    pack: Literal["concat", "bestfit"] = key(
        "concat",
        "How sequences are filled: concat cuts one stream, bestfit cuts only documents longer than a sequence.",
    )
    eval_every: int = key(250, "Steps between evaluations on the val split; 0 evaluates only at the end.", ge=0)
    eval_batches: int = key(
        0,
        "Batches of training.batch_size that an evaluation reads, spread over the val split; 0 reads all of it.",
        ge=0,
    )
    log_every: int = key(10, "Steps between events of kind step in events.jsonl.", runtime=True, ge=1)
    loggers: tuple[str, ...] = key((), "Where events go besides events.jsonl: tensorboard, wandb.", runtime=True)
    sample_every: int = key(
        1, "Evaluations between samples of the model's text in events.jsonl; 0 writes none.", ge=0, runtime=True
    )
    sample_prompt: str = key("", "Text that the samples continue. Empty: the start of a document.", runtime=True)
    micro_batch_size: int = key(
        0,
        "Sequences per forward pass and process (gradient accumulation); 0 takes as much of a process's share as fits.",
        ge=0,
    )
    accelerator: Accelerator = key("h100", "GPU model assumed by --dry-run.", runtime=True)

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the preset's model and recipe."""
        preset = str(chosen.get("preset", DEFAULT_PRESET))
        tables = load_preset(preset)
        name = str(chosen.get("recipe", "preset"))
        return tables | {"training": apply_recipe(tables["training"], name, preset)}

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.batch_tokens is not None:
            found["training.batch_size"] = "beside --batch-tokens"
        if not self.model.experts:
            found |= dict.fromkeys(("training.aux_loss_weight", "training.router_z_weight"), "without experts")
        if not self.sample_every:
            found["sample_prompt"] = "with sample_every 0"
        if self.on_cpu():
            found["accelerator"] = "on CPUs"
        return found

    def settings(self) -> Values:
        """Return the settings, with the batch size that --batch-tokens stands for."""
        return merge(super().settings(), {"training": {"batch_size": self.effective_recipe().batch_size}})

    def effective_recipe(self) -> Recipe:
        """Return the recipe that training uses."""
        recipe = Recipe.model_validate(plain(self.training))
        if self.batch_tokens:
            recipe = recipe.model_copy(update={"batch_size": max(1, self.batch_tokens // recipe.seq_len)})
        return recipe

    def model_config_for(self, vocab_size: int | None, end_of_text: int | None = None) -> ModelConfig:
        """Return the model's config for a tokenizer. Raises UsageError (2) if sequences are longer than its context."""
        given = {"vocab_size": vocab_size, "end_of_text": end_of_text}
        model = self.model.model_copy(update={name: value for name, value in given.items() if value is not None})
        if self.training.seq_len > model.max_seq_len:
            raise UsageError(
                f"training.seq_len {self.training.seq_len} is longer than model.max_seq_len {model.max_seq_len}",
                "set both with --seq-len",
            )
        return model
