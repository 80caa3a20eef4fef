"""The config keys of `gptctl eval`, in groups: scoring, comparison, gates, inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from gptctl.core import plugins
from gptctl.core.config import ProcessOptions, ReadingOptions, SeedOption, StageConfig, WorkerOptions, flag, key
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.comparison import baselines, gates
from gptctl.evals.comparison.gates import Gate
from gptctl.evals.dataset_predictor import InferenceSetup
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.classification import DEFAULT_METRICS
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.io.input.predictions import text_of
from gptctl.io.labels import label_text

# The keys that one task of a model reads.
OF_TASKS = {
    "choices": ("delimiter", "norm"),
    "generate": ("max_tokens", "stop"),
    "lm": ("stride", "count_eos", "allow_lossy"),
}
# What concerns DATA among the keys of a model that is run.
OF_DATA = (
    "task", "label_column", "count_eos", "allow_lossy", "delimiter", "stop", "ensemble", "cache", "emit_lm_eval_task",
)  # fmt: skip


class ScoringConfig(SeedOption):
    """Which metrics are computed, and how."""

    metrics: tuple[str, ...] = flag(
        DEFAULT_METRICS, "Metrics to compute.", panel="Metrics", choices=lambda: plugins.names(metric_plugins.PACKAGE)
    )
    average: Literal["macro", "micro", "weighted", "binary", "samples"] = flag(
        "macro", "How classes are averaged.", panel="Metrics"
    )
    positive: str | None = flag(None, "The positive label, for --average binary.", metavar="LABEL", panel="Metrics")
    labels: tuple[str, ...] | None = flag(
        None, "The label set; by default that of the model, else the labels seen.", panel="Metrics"
    )
    zero_division: Literal["0", "1", "nan"] = key("0", "Value of 0/0; nan leaves the class out of the mean.")
    macro_over: Literal["present", "all"] = key(
        "present", "Classes in the macro average: those in labels or predictions, or all."
    )
    ci: Literal["auto", "bootstrap", "none"] = key(
        "auto", "Confidence intervals: closed forms where there are any, always a bootstrap, or none."
    )
    per_class: bool = key(True, "Report each class.")
    confusion: bool = key(True, "Report the confusion matrix.")
    bins: int = key(15, "Bins of the calibration error.", ge=1)
    norm: Literal["raw", "chars", "bytes", "tokens"] = key(
        "raw", "What the log-likelihood of a choice is divided by; raw divides by nothing."
    )

    @field_validator("zero_division", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """Accept numbers, as TOML and --set contain them."""
        return text_of(value)

    @field_validator("positive", "labels", mode="before")
    @classmethod
    def as_labels(cls, value: Any) -> Any:
        """Accept numbers and truth values: labels are compared as text."""
        if isinstance(value, list | tuple):
            return [label_text(item) for item in value]
        return None if value is None else label_text(value)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.average != "binary":
            found["positive"] = "without --average binary"
        return found

    def scoring_options(self) -> ScoringOptions:
        """Return how predictions are scored."""
        zero: Any = "nan" if self.zero_division == "nan" else float(self.zero_division)
        return ScoringOptions(
            metrics=self.metrics,
            averaging=Averaging(self.average, self.positive, zero, self.macro_over),
            labels=self.labels,
            bins=self.bins,
            ci=self.ci,
            seed=self.seed,
            norm=self.norm,
            per_class=self.per_class,
            confusion=self.confusion,
        )

    def wants_texts(self) -> bool:
        """Return whether all metrics are those of generated text."""
        return all("texts" in metric_plugins.load(name).PREDICTION_TYPES for name in self.metrics)


class ComparisonConfig(StageConfig):
    """What the scores are compared with."""

    compare: str | None = flag(
        None, "Predictions of another system, or a model: test the difference.",
        metavar="PATH", panel="Comparison", reads=True,
    )  # fmt: skip
    baseline: tuple[str, ...] | None = flag(
        None, "Baselines: majority, nb or none; both if DATA has a train split.", panel="Comparison"
    )
    leakage: str | None = flag(
        None, "Training data to search for the evaluation texts.", metavar="PATH", panel="Comparison", reads=True
    )

    def baseline_names(self) -> tuple[str, ...]:
        """Return the baselines by name; "none" is not one of them."""
        chosen = tuple(baselines.BASELINES) if self.baseline is None else self.baseline
        return tuple(name for name in chosen if name != "none")


class GateConfig(StageConfig):
    """When the command ends with exit code 7."""

    fail_under: tuple[str, ...] = flag(
        (), "Exit with 7 if a metric is lower: f1=0.8,accuracy=0.7.", panel="Gates", runtime=True, pairs=True
    )
    no_regress: str | None = flag(
        None, "Exit with 7 if significantly worse than this --json file or these predictions.",
        metavar="PATH", panel="Gates", runtime=True, reads=True,
    )  # fmt: skip
    fail_over: tuple[str, ...] = key((), "Exit with 7 if a metric is higher: perplexity=30.", runtime=True, pairs=True)
    alpha: float = key(0.05, "Significance level of --no-regress.", runtime=True, gt=0, lt=1)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.no_regress is None:
            found["alpha"] = "without --no-regress"
        return found

    def gates(self) -> list[Gate]:
        """Return the thresholds of --fail-under and fail_over."""
        lowest = [gates.parse(text) for text in self.fail_under]
        return lowest + [gates.parse(text, "over") for text in self.fail_over]


class InferenceConfig(ProcessOptions):
    """How a model is run."""

    label_column: str = flag("label", "Column that holds the label.", metavar="COLUMN", panel="Input")
    task: Literal["auto", "classify", "lm", "choices", "generate"] = key(
        "auto", "Task of the model; auto decides by model, data and metrics."
    )
    batch_size: int = key(64, "Texts per forward pass.", ge=1, runtime=True)
    max_length: int = key(0, "Tokens that the model reads at once; 0 for as many as it can.", ge=0)
    stride: int = key(0, "New tokens per window of a long document; 0 for max_length.", ge=0)
    count_eos: bool = key(False, "Also score the end-of-text token after each document.")
    allow_lossy: bool = key(False, "Score texts that the tokenizer cannot restore.")
    delimiter: str = key(" ", "Text between a context and each choice.")
    max_tokens: int = key(64, "Most tokens to generate per prompt.", ge=1)
    stop: tuple[str, ...] = key(("\n",), "Texts at which generated text ends.")
    add_bos_token: bool | None = key(
        None, "Put the BOS token before contexts and prompts, or nothing. Default: as the model's tokenizer does."
    )
    ensemble: bool = key(False, "Average the probabilities of all models of a finetune --seeds run.")
    cache: str = key("auto", "Folder of cached model outputs; auto: the user's cache, none: no cache.", runtime=True)
    emit_lm_eval_task: str | None = key(None, "Folder to write DATA to as lm-eval tasks.", runtime=True)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        for task, keys in OF_TASKS.items():
            if self.task not in ("auto", task):
                found |= dict.fromkeys(keys, f"with task {self.task}")
        if self.task not in ("auto", "choices", "generate"):
            found["add_bos_token"] = f"with task {self.task}"
        return found

    def inference_setup(self, wants_texts: bool) -> InferenceSetup:
        """Return what a model is asked to do, and on which device."""
        options = InferenceOptions(
            label_column=self.label_column,
            batch_size=self.batch_size,
            max_length=self.max_length,
            stride=self.stride,
            count_eos=self.count_eos,
            allow_lossy=self.allow_lossy,
            delimiter=self.delimiter,
            max_tokens=self.max_tokens,
            stop=self.stop,
            add_bos_token=self.add_bos_token,
        )
        return InferenceSetup(self.task, wants_texts, options, self.device, self.nproc_per_node)

    def export_folder(self) -> Path | None:
        """Return the folder for DATA as tasks of lm-evaluation-harness."""
        return Path(self.emit_lm_eval_task) if self.emit_lm_eval_task else None


class EvalOptions(ReadingOptions, GateConfig, ComparisonConfig, ScoringConfig, InferenceConfig, WorkerOptions):
    """All options of `gptctl eval` but its inputs and outputs."""

    def unused_keys(self, scores_file: bool, runs_harness: bool) -> dict[str, str]:
        """Return the keys that have no effect if a file is scored or the harness is run, each with the reason."""
        found: dict[str, str] = {}
        if self.leakage is None:
            found |= dict.fromkeys(WorkerOptions.own_keys(), "without --leakage")
        if scores_file:
            of_documents = {*ReadingOptions.own_keys()} - {"csv", "encoding"}
            unused = {"limit"} if self.leakage else of_documents
            found |= dict.fromkeys([*InferenceConfig.own_keys(), *sorted(unused)], "with --predictions")
        if runs_harness:
            of_rows = {*ReadingOptions.own_keys(), *ScoringConfig.own_keys(), *ComparisonConfig.own_keys(), *OF_DATA}
            found |= dict.fromkeys(of_rows - {"limit", "seed"}, "with --harness")
        return found
