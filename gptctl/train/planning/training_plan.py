"""The plan of a training run: its model, its recipe and its time. Recorded in RUN/plan.json. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gptctl.core.config import plain
from gptctl.core.errors import DataError
from gptctl.model.config import ModelConfig
from gptctl.train.planning.time_budget import TimeBudget, replanning_interval
from gptctl.train.recipe import Recipe


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, for how long, and why."""

    model: ModelConfig
    recipe: Recipe  # its steps are the first planned total
    minutes: float = 0.0  # 0 where the steps do not follow from time
    max_steps: int = 0  # of a run that ends on time; 0 is no limit
    eval_every: int = 0  # steps between evaluations; 0 evaluates only at the end
    tokens_per_second: float = 0.0  # as measured; 0 if nothing was measured
    evaluation_seconds: float = 0.0
    saving_seconds: float = 0.0
    unique_tokens: int = 0  # of the training split; 0 is unknown
    expected_loss: float | None = None  # on the val split, in nats per token
    measured: Mapping[str, float] = field(default_factory=dict)  # tokens per second of each measured model
    reasons: tuple[str, ...] = ()  # lines for people

    @property
    def tokens(self) -> int:
        """The tokens of the first planned total of steps."""
        return self.recipe.steps * self.recipe.batch_size * self.recipe.seq_len

    @property
    def epochs(self) -> float:
        """How often the training split is read; 0 if its size is unknown."""
        return self.tokens / self.unique_tokens if self.unique_tokens else 0.0

    @property
    def seconds(self) -> float:
        """The time of training as measured; 0 if nothing was measured."""
        return self.tokens / self.tokens_per_second if self.tokens_per_second else 0.0

    @property
    def evaluations(self) -> int:
        """The evaluations of the val split, the one at the end included."""
        return -(-self.recipe.steps // self.eval_every) if self.eval_every else 1

    def time_budget(self, began: float) -> TimeBudget | None:
        """Return the time budget of a run that began at a time on `time.monotonic`; None without minutes."""
        if not self.minutes:
            return None
        return TimeBudget(
            minutes=self.minutes,
            began=began,
            interval=replanning_interval(self.recipe.steps),
            saving_seconds=self.saving_seconds,
            evaluation_seconds=self.evaluation_seconds,
            max_steps=self.max_steps,
        )

    def figures(self) -> dict[str, Any]:
        """Return what a dry run shows of a plan beside its size: what is known of loss, epochs, speed and time."""
        found = {
            "expected_loss": self.expected_loss,
            "epochs": round(self.epochs, 4),
            "minutes": self.minutes,
            "tokens_per_second": self.tokens_per_second,
            "seconds": round(self.seconds, 1),
            "evaluations": self.evaluations if self.evaluation_seconds else 0,
            "evaluation_seconds": round(self.evaluations * self.evaluation_seconds, 1),
        }
        return {name: value for name, value in found.items() if value}

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plan.json and run.json contain it."""
        return {
            "parameters": self.model.parameters(),
            "steps": self.recipe.steps,
            "tokens_per_step": self.recipe.batch_size * self.recipe.seq_len,
            "tokens": self.tokens,
            "epochs": round(self.epochs, 4),
            **{name: plain(value) for name, value in vars(self).items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], name: str) -> TrainingPlan:
        """Read what `to_json` wrote. Raises DataError (3), which names the file, for anything else."""
        try:
            fields = {key: value[key] for key in cls.__dataclass_fields__}
            fields |= {
                "model": ModelConfig.model_validate(value["model"]),
                "recipe": Recipe.model_validate(value["recipe"]),
                "reasons": tuple(value["reasons"]),
            }
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            what = f"{name} is not a plan of gptctl pretrain: {error!r}"
            raise DataError(what, "restore it, or use --force") from error
