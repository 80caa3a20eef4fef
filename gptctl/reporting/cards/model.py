"""The card of a model: what it is, what it was trained on, how it was trained, and its scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gptctl.core.config import Values
from gptctl.core.formatting import format_duration, format_interval, format_number
from gptctl.core.markdown import code, code_block, escape, table
from gptctl.io import lineage
from gptctl.io.files import read_if_exists
from gptctl.io.lineage import Output
from gptctl.io.object_storage.address import join
from gptctl.reporting.cards.blocks import commands_block, license_block, source_block, title_of
from gptctl.reporting.cards.dataset import find_languages
from gptctl.reporting.cards.subjects import MISSING, find_datasets, find_evaluations, name_of, unique
from gptctl.reporting.curves import unit_of
from gptctl.reporting.sections.section import metrics_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SHAPE = (
    ("layers", "layers"), ("heads", "attention heads"), ("hidden_size", "hidden size"),
    ("max_seq_len", "context (tokens)"), ("vocab_size", "vocabulary"),
)  # fmt: skip
RECIPE = ("optimizer", "lr", "schedule", "warmup_steps", "weight_decay", "batch_size", "seq_len")
TASKS = {"scores": "text-generation", "choices": "multiple-choice", "harness": "text-generation"}  # by kind of eval
NOT_SCORES = ("n", "invalid", "truncated", "context", "stride")


def model_card(model: Output, outputs: Sequence[Output], license_id: str) -> str:
    """Return the card of a training run. `outputs` are searched for evaluations of it.

    Everything in it was recorded. What only a person knows is marked with the hub's "[More Information Needed]".
    """
    evaluations = find_evaluations(model, outputs)
    parts = [
        metadata(model, evaluations, license_id),
        f"# {title_of(model)}\n\n{introduction(model)}",
        f"## Model\n\n{table(('', 'value'), describe_model(model))}",
        f"## Uses\n\n{MISSING}",
        f"## Bias, risks and limitations\n\n{MISSING}",
        f"## How to use it\n\n{code_block(usage(model), 'sh')}",
        f"## Training data\n\n{training_data(model)}",
        f"## Training\n\n{table(('', 'value'), describe_training(model))}",
        f"## Evaluation\n\n{evaluation(model, evaluations)}",
        license_block(license_id, "the training data and of the base model"),
        commands_block(model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def metadata(model: Output, evaluations: Sequence[Output], license_id: str) -> str:
    """Return the YAML at the top of the card."""
    from huggingface_hub import ModelCardData

    data = names_of_data(model)
    results = [result for one in evaluations for result in eval_results(one)] or list(val_results(model, data))
    languages = unique(code for one in find_datasets(lineage.walk(model)) for code in find_languages(one))
    found = ModelCardData(
        license=license_id,
        language=languages or None,
        library_name="gptctl",
        pipeline_tag="text-classification" if unit_of(model) == "texts" else "text-generation",
        base_model=[name_of(base.path) for base in bases(model)] or None,
        datasets=data or None,
        metrics=unique(result.metric_type for result in results) or None,
        tags=["gptctl", model.stage],
        model_name=title_of(model) if results else None,
        eval_results=results or None,
    )
    return f"---\n{found.to_yaml()}\n---"


def bases(model: Output) -> list[lineage.Origin]:
    """Return the models that a run was trained from."""
    return [origin for origin in model.origins if origin.role in ("base", "model")]


def names_of_data(model: Output) -> list[str]:
    """Return the names of the datasets that a model was trained on, those of its base model included."""
    made = find_datasets(lineage.walk(model))
    data = [origin.path for origin in model.origins if origin.role == "data" and origin.path not in ("", "-")]
    return unique(name_of(path) for path in (*data, *(one.folder for one in made)))


def eval_results(evaluation: Output) -> Iterator[EvalResult]:
    """Yield the scores of an evaluation as entries of the hub's model-index."""
    from huggingface_hub import EvalResult

    metrics = metrics_of(evaluation)
    kind = evaluation.manifest.kind if evaluation.manifest else ""
    task = TASKS.get(kind, "text-classification" if "accuracy" in metrics else "text-generation")
    data = next((name_of(o.path) for o in evaluation.origins if o.role in ("data", "harness") and o.path), "unnamed")
    for name, value in scores(metrics):
        yield EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=metrics.get("split"),
            metric_type=name,
            metric_value=round(value, 6),
        )


def val_results(model: Output, data: Sequence[str]) -> Iterator[EvalResult]:
    """Yield the last scores on the val split, for a model without an evaluation."""
    from huggingface_hub import EvalResult

    task = "text-classification" if unit_of(model) == "texts" else "text-generation"
    for name, value in metrics_of(model).items():
        if name.startswith("val_") and isinstance(value, float):
            yield EvalResult(
                task_type=task,
                dataset_type=data[0] if data else "unnamed",
                dataset_name=data[0] if data else "unnamed",
                dataset_split="val",
                metric_type=name.removeprefix("val_"),
                metric_value=round(value, 6),
            )


def scores(metrics: Values) -> list[tuple[str, float]]:
    """Return the scores of an evaluation by name."""
    return [(name, value) for name, value in metrics.items() if isinstance(value, float) and name not in NOT_SCORES]


def introduction(model: Output) -> str:
    """Return one sentence that says what the model is."""
    labels = (read_config(model).get("extra") or {}).get("label_names") or []
    what = f"A classifier of {len(labels)} labels" if labels else "A GPT"
    base = " and ".join(code(name_of(one.path)) for one in bases(model))
    origin = f"fine-tuned from {base}" if base else "trained from random weights"
    shown = f" The labels are {', '.join(map(escape, map(str, labels)))}." if 0 < len(labels) <= 50 else ""
    return f"{what}, {origin} with gptctl.{shown}"


def read_config(model: Output) -> Values:
    """Return the config.json of the model that a run wrote, or nothing."""
    try:
        found = json.loads(read_if_exists(join(model.folder, "model/config.json")) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def describe_model(model: Output) -> list[tuple[str, str]]:
    """Return the parameters and the shape of the model."""
    metrics, shape = metrics_of(model), read_config(model).get("gptctl") or {}
    rows = [("parameters", format_number(metrics.get("parameters")))]
    return rows + [(label, format_number(shape[name])) for name, label in SHAPE if name in shape]


def usage(model: Output) -> str:
    """Return commands that use the model."""
    name = title_of(model)
    if unit_of(model) == "texts":
        return f"gptctl eval {name} DATA"
    return f'gptctl generate {name} "Once upon a time"\ngptctl eval {name} DATA'


def training_data(model: Output) -> str:
    """Return the names of the data, how much of it was read, and the raw files."""
    names = ", ".join(code(name) for name in names_of_data(model)) or "Not recorded"
    sources = metrics_of(model).get("sources") or []
    rows = [(str(s["name"]), format_number(s["tokens"]), format_number(s["epochs"])) for s in sources]
    read = table(("source", "tokens trained on", "epochs"), rows) if rows else ""
    return "\n\n".join(part for part in (f"{names}.", read, source_block(model)) if part)


def describe_training(model: Output) -> list[tuple[str, str]]:
    """Return how long the model was trained, and the main settings of its recipe."""
    metrics: Values = (model.record.get("summary") or {}).get("metrics") or metrics_of(model)
    recipe: dict[str, Any] = (model.record.get("settings") or {}).get("training") or {}
    rows = [("steps", format_number(metrics.get("steps"))), (unit_of(model), format_number(metrics.get("tokens")))]
    rows += [(name.replace("_", " "), format_number(recipe[name])) for name in RECIPE if recipe.get(name) is not None]
    if metrics.get("train_seconds"):
        rows.append(("training time", format_duration(metrics["train_seconds"])))
    rows += [
        (name.replace("_", " "), format_number(metrics[name])) for name in ("train_loss", "val_loss") if name in metrics
    ]
    return rows


def evaluation(model: Output, evaluations: Sequence[Output]) -> str:
    """Return a table of scores, intervals and baselines for each evaluation."""
    if not evaluations:
        none = "Not evaluated on data of its own."
        val = [(name, format_number(value)) for name, value in metrics_of(model).items() if name.startswith("val_")]
        return f"{none} On the val split, at the end of training:\n\n{table(('metric', 'value'), val)}" if val else none
    parts = []
    for one in evaluations:
        metrics = metrics_of(one)
        intervals, baselines = metrics.get("intervals") or {}, metrics.get("baselines") or {}
        columns = ("metric", "value", "95% interval", *(f"baseline {name}" for name in baselines))
        rows = [
            (name, format_number(value), format_interval(intervals.get(name)),
             *(format_number(baseline.get(name)) for baseline in baselines.values()))
            for name, value in scores(metrics)
        ]  # fmt: skip
        about = f"{title_of(one)}: {metrics.get('n', 0):,} rows, {metrics.get('split') or 'tasks'}"
        parts.append(f"### {escape(about)}\n\n{table(columns, rows)}")
        parts += [f"- {escape(warning)}" for warning in metrics.get("warnings") or []]
    return "\n\n".join(parts)
