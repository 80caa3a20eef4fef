"""Score a model, or any system's predictions: accuracy, precision, recall, F1 with intervals; bits per byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from gptctl.core import atomic, plugins
from gptctl.core.config import DataConfig, Values, argument, flag, key, plain
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.rundir import open_run
from gptctl.core.summary import Counts, Summary, Table
from gptctl.evals import classification, confusion, gates, language
from gptctl.io import dataset, labelled, shards
from gptctl.io.manifest import Manifest
from gptctl.io.predictions import read_predictions
from gptctl.io.records import infer
from gptctl.io.schema import with_kind
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from gptctl.model.classifier import Classifier
    from gptctl.model.gpt import GPT

EXAMPLES = (
    "gptctl eval classifier labelled --metrics f1",
    "gptctl eval classifier labelled/test.jsonl -o scores --fail-under f1=0.1 --json",
    "gptctl eval --predictions scores --average weighted",
)
Rows = list[dict[str, Any]]


class Eval(DataConfig):
    """Evaluate a model on the val and test splits of DATA, or score a file of predictions.

    A classifier gets accuracy, precision, recall and F1, per class, with 95 % intervals; a language model gets
    perplexity and bits per byte. The figures at the top of --json are those of the last split: test, if there is one.
    """

    model: str | None = argument(None, "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    data: str | None = argument(None, "DATA", "File or folder with the texts.")
    predictions: str | None = flag(
        None, "Score this file of id, label, pred instead (- reads JSON lines).", panel="Input", runtime=True
    )
    out: str | None = flag(None, "Folder for predictions and metrics.", panel="Output", short="-o", runtime=True)
    metrics: tuple[str, ...] = flag(("accuracy", "precision", "recall", "f1"), "Metrics: a,b.", panel="Metrics")
    average: Literal["macro", "micro", "weighted", "binary"] = flag(
        "macro", "How classes are averaged.", panel="Metrics"
    )
    positive: str | None = flag(None, "The positive label, for --average binary.", panel="Metrics")
    labels: tuple[str, ...] | None = flag(
        None, "The label set: a,b; the model's or the ones seen if not given.", panel="Metrics"
    )
    zero_division: Literal["0", "1", "nan"] = key("0", "Value of 0/0.")
    macro_over: Literal["present", "all"] = key("present", "Classes in the macro average.")
    label_column: str = flag("label", "Column that holds the label.", panel="Input")
    fail_under: tuple[str, ...] = flag(
        (), "Exit with 7 if a metric is lower: f1=0.8,accuracy=0.7.", panel="Metrics", runtime=True
    )
    batch_size: int = key(64, "Texts per forward pass.", ge=1, runtime=True)
    stride: int = key(0, "Tokens scored per window of a long document; 0 takes the whole context.", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", "Device.", panel="Devices", runtime=True)

    def zero(self) -> Any:
        """Give zero_division as the metrics take it."""
        return "nan" if self.zero_division == "nan" else float(self.zero_division)


def plan(config: Eval, context: Context) -> Summary:
    """Check the command and say what would be scored."""
    checked(config)
    facts: Values = {"metrics": list(config.metrics), "average": config.average}
    facts["what"] = f"predictions {config.predictions}" if config.predictions else f"{config.model} on {config.data}"
    return Summary("eval", "planned", (config.out,) if config.out else (), plan=facts)


def run(config: Eval, context: Context | None = None) -> Summary:
    """Score, and write predictions and metrics if -o was given."""
    context = context or Context()
    bars = checked(config)
    if config.out is None:
        result, _, _ = score(config, context)
        return summarise(config, result, bars, context)
    inputs = fingerprints(config)
    with open_run(Path(config.out), config, context, inputs, intact=dataset.intact) as record:
        if record.up_to_date:
            found = record.previous_summary()
            return summarise(config, found.metrics, bars, context, "up to date")
        result, rows, kind = score(config, context)
        shard = shards.write_shard(record.path, "shards/part-00000.arrow", prediction_table(rows, kind))
        atomic.write_json(record.path / "metrics.json", result)
        counts = Counts(documents_in=len(rows), kept=len(rows))
        declared = Manifest(kind, "eval", config.settings(), inputs, (shard,), counts, result)
        return record.finish(summarise(config, result, bars, context), declared)


def checked(config: Eval) -> list[gates.Gate]:
    """Refuse a command that names nothing or too much to score; give the bars of --fail-under."""
    if (config.predictions is None) == (config.model is None):
        raise UsageError(
            "name either MODEL and DATA, or --predictions", "gptctl eval MODEL DATA, or gptctl eval --predictions FILE"
        )
    if config.model is not None and config.data is None:
        raise UsageError("DATA is missing", "gptctl eval MODEL DATA")
    for name in config.metrics:
        plugins.load(classification.METRICS, name)
    if config.average == "binary" and config.positive is None:
        raise UsageError("--average binary needs --positive LABEL", "name the positive label; it is never guessed")
    return [gates.parse(text) for text in config.fail_under]


def fingerprints(config: Eval) -> dict[str, str]:
    """Hash what is scored."""
    from gptctl.io.files import content_hash
    from gptctl.io.inputs import find_files

    if config.predictions:
        if config.predictions == "-":
            raise UsageError("--predictions - cannot be written with -o", "save standard input to a file first")
        return {file.name: content_hash(file.path) for file in find_files(config.predictions)}
    from gptctl.model import sealed
    from gptctl.model.locate import find_model

    assert config.model is not None and config.data is not None
    files = {file.name: content_hash(file.path) for file in find_files(config.data)}
    return {"model": sealed.checksum(find_model(config.model) / "model.safetensors"), **files}


def score(config: Eval, context: Context) -> tuple[Values, Rows, str]:
    """Give the metrics, the rows they come from, and what kind of rows they are."""
    if config.predictions:
        rows = read_predictions(config.predictions)
        named = dict.fromkeys(str(row.get("split", "predictions")) for row in rows)
        parts = {name: [row for row in rows if str(row.get("split", "predictions")) == name] for name in named}
        return (
            by_split({name: report(config, part, config.labels) for name, part in parts.items()}),
            rows,
            "predictions",
        )
    assert config.model is not None and config.data is not None
    from gptctl.model.classifier import Classifier
    from gptctl.model.folder import load_model
    from gptctl.model.locate import find_model
    from gptctl.train import device

    where = device.pick(config.device)
    device.prepare(device.threads())
    model, _, tokenizer_json, extra = load_model(find_model(config.model))
    coder = Tokenizer.from_json(tokenizer_json)
    splits: dict[str, Values] = {}
    rows, kind = [], "scores"
    for split, table in labelled.evaluation_splits(config, config.data, extra.get("data", {})):
        if isinstance(model, Classifier):
            part = classify(config, model, coder, table, extra["label_names"], split, where, context)
            splits[split], kind = report(config, part, config.labels or tuple(extra["label_names"])), "predictions"
        else:
            part = score_texts(config, model, coder, table, where, context)
            splits[split] = language_report(part, coder)
        rows += [{"split": split, **row} for row in part]
    return by_split(splits), rows, kind


def by_split(splits: dict[str, Values]) -> Values:
    """Put the last split's figures (test's) at the top, and all of them below "splits"."""
    last = list(splits)[-1]
    return splits[last] | {"split": last} | ({"splits": splits} if len(splits) > 1 else {})


def classify(
    config: Eval,
    model: Classifier,
    coder: Tokenizer,
    table: pa.Table,
    names: list[str],
    split: str,
    where: torch.device,
    context: Context,
) -> Rows:
    """Label the texts of a split."""
    from gptctl.infer.classify import fit_context, probabilities

    gold = labelled.labels_of(table, config.label_column, split)
    texts = [
        fit_context(tokens, coder.end_of_text_id, model.config.context)
        for tokens in coder.encode_each(table["text"].to_pylist())
    ]
    found = probabilities(
        model, texts, config.batch_size, where, lambda done: context.progress(done, len(texts), "texts")
    )
    ids = table["id"].to_pylist()
    return [
        {"id": identity, "label": label, "pred": names[int(p.argmax())], "probs": p.tolist()}
        for identity, label, p in zip(ids, gold, found, strict=True)
    ]


def score_texts(
    config: Eval, model: GPT, coder: Tokenizer, table: pa.Table, where: torch.device, context: Context
) -> Rows:
    """Give each document's nats, bytes and tokens. End-of-text stands before a document and is not scored."""
    from gptctl.infer.score import Pass, nats

    texts = table["text"].to_pylist()
    documents = coder.encode_each(texts)
    for text, tokens in zip(texts, documents, strict=True):
        if coder.decode(tokens.tolist()) != text:
            raise DataError(
                "the tokenizer loses text: decode(encode(x)) differs from x",
                "bits per byte would flatter it; use a lossless tokenizer (bpe, bytes)",
            )
    length = model.config.context
    plans = [
        [Pass(*window) for window in language.windows(len(tokens), length, config.stride or length)]
        for tokens in documents
    ]
    found = nats(
        model,
        documents,
        plans,
        coder.end_of_text_id,
        config.batch_size,
        where,
        lambda done: context.progress(done, None, "windows"),
    )
    return [
        {"id": identity, "nats": float(value), "bytes": len(text.encode()), "tokens": len(tokens)}
        for identity, value, text, tokens in zip(table["id"].to_pylist(), found, texts, documents, strict=True)
    ]


def report(config: Eval, rows: Rows, labels: tuple[str, ...] | None) -> Values:
    """Score predictions."""
    matrix = confusion.count([row["label"] for row in rows], [row["pred"] for row in rows], labels)
    return classification.report(
        matrix, config.metrics, config.average, config.positive, config.zero(), True, config.seed, config.macro_over
    )


def language_report(rows: Rows, coder: Tokenizer) -> Values:
    """Give perplexity and bits per byte over all documents."""
    total, size, tokens = (
        sum(row["nats"] for row in rows),
        sum(row["bytes"] for row in rows),
        sum(row["tokens"] for row in rows),
    )
    return {
        "n": len(rows),
        "tokens": tokens,
        "bytes": size,
        "loss": total / tokens if tokens else None,
        "perplexity": language.perplexity(total, tokens),
        "bits_per_byte": language.bits_per_byte(total, size),
        "tokenizer": coder.hash,
    }


def prediction_table(rows: Rows, kind: str) -> pa.Table:
    """Put the rows into the Arrow form of their kind; a column that some rows lack is null there."""
    texts = ("id", "label", "pred") if kind == "predictions" else ("id",)
    names = dict.fromkeys(name for row in rows for name in row if name not in texts)
    columns = {name: infer([row.get(name) for row in rows]) for name in names}
    named = {name: pa.array([text_of(row.get(name)) for row in rows], pa.string()) for name in texts}
    table = pa.table(named | columns)
    return table.replace_schema_metadata(with_kind(table.schema, kind).metadata)


def text_of(value: Any) -> str | None:
    """Compare labels as text: 1 and "1" are the same."""
    return None if value is None else str(value)


def summarise(
    config: Eval,
    result: Values,
    bars: list[gates.Gate],
    context: Context,
    status: Literal["done", "up to date"] = "done",
) -> Summary:
    """Show the figures and list the bars that were missed."""
    shown = {name: value for name, value in result.items() if name != "warnings"}
    for line in result.get("warnings", []):
        context.warn(line)
    tables = [
        table_of(split, part)
        for split, part in result.get("splits", {result.get("split", "predictions"): result}).items()
    ]
    if "confusion" in result:
        tables += [per_class_table(result), confusion_table(result)]
    misses = tuple(gates.check(result, bars))
    scored = sum(part["n"] for part in result.get("splits", {"": result}).values())
    counts = Counts(documents_in=scored, kept=scored)
    outputs = (config.out,) if config.out else ()
    return Summary("eval", status, outputs, counts, plain(shown), tables=tuple(tables), misses=misses)


def table_of(split: str, part: Values) -> Table:
    """Show the numbers of one split, with their intervals."""
    rows = []
    for name, value in part.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = part.get("intervals", {}).get(name)
        rows.append(
            (
                name,
                f"{value:,}" if isinstance(value, int) else f"{value:.4f}",
                f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "",
            )
        )
    return Table(f"{split} ({part.get('average', 'all documents')})", ("metric", "value", "95 % interval"), tuple(rows))


def per_class_table(result: Values) -> Table:
    """Show precision, recall, F1 and support of each class."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"

    rows = tuple(
        (label, *(cell(values[name]) for name in ("precision", "recall", "f1", "support")))
        for label, values in result["per_class"].items()
    )
    return Table("per class", ("class", "precision", "recall", "f1", "support"), rows)


def confusion_table(result: Values) -> Table:
    """Show the confusion matrix: a row per true class, a column per predicted one."""
    matrix = result["confusion"]
    columns = ("true \\ predicted", *matrix["labels"], "invalid")
    rows = tuple(
        (label, *(f"{count:,}" for count in row), f"{invalid:,}")
        for label, row, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    )
    return Table("confusion", columns, rows)
