"""The options of `gptctl pretrain` that decide what is trained and for how long. Needs no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ModelWrapValidatorHandler, PrivateAttr, ValidationInfo, field_validator, model_validator

from gptctl.core import plugins
from gptctl.core.config import SeedOption, Settings, Values, flag, flatten, given_in, key, merge, plain, spread, without
from gptctl.core.config.messages import PRESET
from gptctl.core.errors import UsageError
from gptctl.core.formatting import parse_count
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.faults import FaultPolicy
from gptctl.train.planning import compute_optimal
from gptctl.train.planning.compute_optimal import Candidate
from gptctl.train.planning.gpu_specs import Accelerator
from gptctl.train.recipe import PretrainRecipe, Recipe, apply_recipe
from gptctl.train.tasks.mixing_options import MixingOptions

DEFAULT_MINUTES = 10.0
MAX_MINUTES = 1_000_000  # about two years
OPTIMIZERS = "gptctl.train.optimizers"


class CheckpointOptions(Settings):
    """When checkpoints are written."""

    every: int = key(500, "Steps between checkpoints; 0 saves only at the end and when stopped.", ge=0)
    keep: int = key(2, "How many of the newest checkpoints are kept.", ge=1)


class PretrainOptions(DistributedOptions, MixingOptions, SeedOption):
    """Model, recipe, budget, evaluation and logging."""

    preset: str | None = flag(
        None, "Model and recipe; --list-presets shows all. Default: the best for the budget.", panel="Model",
        choices=preset_names,
    )  # fmt: skip
    size: str | None = flag(
        None, "Parameters of the model to choose, such as 20M; the nearest size is taken.", metavar="N", panel="Model"
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
    max_minutes: float = flag(
        0, "Train for this many minutes, measuring and evaluating included; the steps follow. Without any budget: 10.",
        panel="Training", ge=0, le=MAX_MINUTES,
    )  # fmt: skip
    train_tokens: str | None = flag(
        None, "Train on this many tokens, such as 1B; the steps follow.", metavar="N", panel="Training"
    )
    follow_plan: str | None = flag(
        None, "Follow the recorded plan of another run, RUN/plan.json: equal data and plans give equal weights.",
        metavar="FILE", panel="Training", runtime=True, reads=True,
    )  # fmt: skip
    model: ModelConfig = key(ModelConfig(), "The model's shape.")
    training: PretrainRecipe = key(PretrainRecipe(), "The recipe.")
    checkpoint: CheckpointOptions = key(CheckpointOptions(), "When checkpoints are written.")
    faults: FaultPolicy = key(FaultPolicy(), "What happens when a step goes wrong.")
    patience: int = key(
        0, "Stop after this many evaluations without a lower val loss, and keep the best weights; 0 never stops.", ge=0
    )
    pack: Literal["concat", "bestfit"] = key(
        "concat",
        "How sequences are filled: concat cuts one stream, bestfit cuts only documents longer than a sequence.",
    )
    eval_every: int = key(
        250,
        "Steps between evaluations on the val split; 0 evaluates only at the end. Where the steps follow from a budget "
        "the default is planned: at most 10 evaluations, in at most 2.5 % of the time.",
        ge=0,
    )
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
    accelerator: Accelerator | None = key(
        None, "GPU model assumed by --dry-run. Default: h100 with --gpus; otherwise this machine is measured.",
        runtime=True,
    )  # fmt: skip

    _given: frozenset[str] = PrivateAttr(default=frozenset())  # dotted keys that were given, those of the preset too
    _of_preset: frozenset[str] = PrivateAttr(default=frozenset())  # those that only the preset gives

    @model_validator(mode="wrap")
    @classmethod
    def remember_given(
        cls, values: Any, handler: ModelWrapValidatorHandler[PretrainOptions], info: ValidationInfo
    ) -> PretrainOptions:
        """Note which keys were given, and by whom: without a preset the others are chosen."""
        config = handler(values)
        if isinstance(values, dict):
            config._given = frozenset(flatten(spread(cls, given_in(values))))
            config._of_preset = (info.context or {}).get(PRESET, frozenset())
        config.check_budgets()
        return config

    @field_validator("size", "train_tokens", mode="before")
    @classmethod
    def counts_are_written_out(cls, value: Any) -> str | None:
        """Return a count in digits, so that 1B and 1000000000 are the same setting."""
        return None if value is None else str(parse_count(str(value)))

    def check_budgets(self) -> None:
        """Raise ValueError for two options that decide the same."""
        if self.size and self.preset:
            raise ValueError("--size and --preset both choose the model: give one of them")
        if self.train_tokens and self.max_minutes:
            raise ValueError("--train-tokens and --max-minutes both decide how long to train: give one of them")
        if self.train_tokens and self.steps_given is not None:
            raise ValueError("--train-tokens and --steps both decide how long to train: give one of them")
        if self.follow_plan and (self.size or self.train_tokens or self.steps_given is not None):
            raise ValueError("--follow-plan decides size and steps: leave out --size, --train-tokens and --steps")

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the preset's model and recipe; nothing without a preset."""
        if chosen.get("preset") is None:
            return {}
        preset = str(chosen["preset"])
        tables = load_preset(preset)
        name = str(chosen.get("recipe", "preset"))
        return tables | {"training": apply_recipe(tables["training"], name, preset)}

    @classmethod
    def below(cls, given: Values) -> Values:
        """Return the preset's values over the defaults of tables; without a preset, those of a chosen model."""
        found = super().below(given)
        if given.get("preset") is None:
            usual = compute_optimal.for_tokens(1_000_000, 8192)
            training = plain(PretrainRecipe.model_validate(given_in(usual.recipe)))
            found = merge(found, {"model": plain(usual.model), "training": training})
        return found

    @property
    def chooses_model(self) -> bool:
        """Whether model and recipe follow from the budget."""
        return self.preset is None

    @property
    def minutes(self) -> float:
        """The minutes of training; 0 if something else decides how long it takes."""
        has_other = self.preset or self.size or self.train_tokens or self.steps_given is not None
        return self.max_minutes or (0.0 if has_other else DEFAULT_MINUTES)

    @property
    def steps_given(self) -> int | None:
        """The steps that the user gave; None if they are the preset's."""
        return self.training.steps if self.is_own("training.steps") else None

    def assumed_accelerator(self) -> Accelerator | None:
        """Return the GPU that a dry run assumes; None if it measures this machine."""
        if self.on_cpu() or not (self.gpus or self.accelerator):
            return None
        return self.accelerator or "h100"

    def is_given(self, name: str) -> bool:
        """Return whether a dotted key was given, by the user or by the preset."""
        return name in self._given

    def is_own(self, name: str) -> bool:
        """Return whether the user gave a dotted key, not only the preset."""
        return self.is_given(name) and name not in self._of_preset

    def with_given_keys(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate with the keys of model and training that were given; None if they do not fit together."""
        model, recipe = plain(candidate.model), plain(candidate.recipe)
        values = flatten({"model": plain(self.model), "training": plain(self.training)})
        given = {name: value for name, value in values.items() if self.is_given(name) and name != "training.steps"}
        own = {name.removeprefix("model."): value for name, value in given.items() if name.startswith("model.")}
        recipe |= {
            name.removeprefix("training."): value for name, value in given.items() if name.startswith("training.")
        }
        if width := own.get("hidden_size"):
            own = {"intermediate_size": 4 * width, "heads": width // 64 if width % 64 == 0 else 1} | own
        if "max_seq_len" in own:
            recipe["seq_len"] = min(recipe["seq_len"], own["max_seq_len"])
        model |= {"max_seq_len": recipe["seq_len"]} | own
        if self.batch_tokens:
            recipe["batch_size"] = max(1, self.batch_tokens // recipe["seq_len"])
        try:
            return Candidate(ModelConfig.model_validate(model), Recipe.model_validate(recipe))
        except ValueError:
            return None

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.chooses_model:
            found["recipe"] = "without --preset"
        if self.size:
            found |= dict.fromkeys(("model.layers", "model.hidden_size"), "beside --size")
        if self.batch_tokens is not None:
            found["training.batch_size"] = "beside --batch-tokens"
        if not self.model.experts:
            found |= dict.fromkeys(("training.aux_loss_weight", "training.router_z_weight"), "without experts")
        if not self.sample_every:
            found["sample_prompt"] = "with sample_every 0"
        if self.on_cpu():
            found["accelerator"] = "on CPUs"
        return found

    def without_chosen(self, values: Values) -> Values:
        """Leave out the keys of model and training that are not given but chosen."""
        chosen = {
            name for name in flatten(values) if name.startswith(("model.", "training.")) and name not in self._given
        }
        return without_empty_tables(without(values, chosen))

    def recorded(self) -> Values:
        """Return all keys but those that are chosen: another run with these values may choose others.

        With a budget these are also the preset's steps and warm-up, which then have no effect.
        """
        if self.chooses_model:
            return self.without_chosen(super().recorded())
        has_budget = self.max_minutes or self.train_tokens or self.follow_plan
        planned = {name for name in ("training.steps", "training.warmup_steps") if has_budget and not self.is_own(name)}
        return without(super().recorded(), planned)

    def settings(self) -> Values:
        """Return the settings, with the batch size that --batch-tokens stands for."""
        if self.chooses_model:
            return self.without_chosen(super().settings())
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


def without_empty_tables(values: Values) -> Values:
    """Return nested values without the tables that hold nothing."""
    tables = {name: without_empty_tables(value) for name, value in values.items() if isinstance(value, dict)}
    return {name: tables.get(name, value) for name, value in values.items() if tables.get(name) != {}}
