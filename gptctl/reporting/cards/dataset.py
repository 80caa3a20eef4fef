"""The card of a dataset: what is in it, where it comes from, and what was done to it."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from gptctl.core.config import Values
from gptctl.core.formatting import format_bytes, format_number
from gptctl.core.markdown import code, escape, raw_table, table
from gptctl.core.summary import funnel
from gptctl.io import lineage
from gptctl.io.dataset import shards
from gptctl.io.lineage import Output
from gptctl.reporting.cards.blocks import commands_block, license_block, source_block, title_of
from gptctl.reporting.cards.subjects import MISSING, name_of, shorten

SAMPLE_ROWS = 10_000  # whose languages are counted
MIN_LANGUAGE_SHARE = 0.01
SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7),
         ("10M<n<100M", 10**8), ("100M<n<1B", 10**9), ("1B<n<10B", 10**10), ("10B<n<100B", 10**11))  # fmt: skip
LARGEST = "100B<n<1T"
TOOL_COLUMNS = {  # what gptctl's own columns hold
    "id": "identifies the document",
    "text": "the text",
    "source": "the input that the document comes from",
    "language": "language, identified by fastText (ISO 639)",
    "language_score": "how sure fastText is",
    "cluster_id": "the same for near-duplicates",
    "doc_id": "identifies the document",
    "tokens": "token ids",
    "n_bytes": "bytes of the text",
}
STEPS = {  # the settings of each command that say what it does to the data
    "clean": ("preset", "filters", "normalize", "remove_stopwords", "pii", "decontaminate"),
    "dedup": ("method", "threshold", "ngram", "shingle", "keep", "fold"),
    "split": ("val", "test", "by", "stratify", "method", "threshold"),
    "tokenize": ("algorithm", "vocab_size", "val", "test", "shuffle"),
}


def dataset_card(dataset: Output, license_id: str) -> str:
    """Return the card of documents or tokens.

    Everything in it was recorded. What only a person knows is marked with the hub's "[More Information Needed]".
    """
    assert dataset.manifest is not None
    schema = shards.read_rows(dataset.folder, dataset.manifest, limit=1).schema
    columns = [(code(f.name), escape(TOOL_COLUMNS.get(f.name, "")), code(str(f.type))) for f in schema]
    steps = [step for one in lineage.walk(dataset) for step in describe_step(one)]
    parts = [
        metadata(dataset, schema, license_id),
        f"# {title_of(dataset)}\n\n{introduction(dataset)}",
        f"## Uses\n\n{MISSING}",
        f"## Columns\n\n{raw_table(('column', 'content', 'type'), columns, left=True)}",
        f"## Splits\n\n{table(('split', 'rows', 'size'), split_rows(dataset))}",
        f"## Source data\n\n{source_block(dataset) or MISSING}",
        "## Processing",
        *steps,
        f"## Personal and sensitive information\n\n{personal(dataset)}",
        f"## Bias, risks and limitations\n\n{MISSING}",
        license_block(license_id, "the source data"),
        commands_block(dataset),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def metadata(dataset: Output, schema: pa.Schema, license_id: str) -> str:
    """Return the YAML at the top of the card."""
    from huggingface_hub import DatasetCardData

    assert dataset.manifest is not None
    splits = splits_of(dataset)
    rows = sum(count for _, count, _ in splits)
    suffix = Path(dataset.manifest.shards[0].path).suffix if dataset.manifest.shards else ".arrow"
    places = [
        (name, f"shards/{name}/*{suffix}" if dataset.manifest.of_split(name) else f"shards/*{suffix}")
        for name, _, _ in splits
    ]
    found = DatasetCardData(
        license=license_id,
        language=find_languages(dataset) or None,
        pretty_name=title_of(dataset),
        task_categories=["text-generation"],
        size_categories=[next((name for name, limit in SIZES if rows < limit), LARGEST)],
        tags=["gptctl", dataset.stage],
        configs=[{"config_name": "default", "data_files": [{"split": name, "path": path} for name, path in places]}],
        dataset_info={
            "features": [feature(field.name, field.type) for field in schema],
            "splits": [{"name": name, "num_examples": count} for name, count, _ in splits],
            "download_size": sum(size for _, _, size in splits),
        },
    )
    return f"---\n{found.to_yaml()}\n---"


def feature(name: str, kind: pa.DataType) -> Values:
    """Return a column as `datasets` writes it in a card."""
    return {"name": name} | feature_type(kind)


def feature_type(kind: pa.DataType) -> dict[str, Any]:
    """Return the type of a column as `datasets` writes it: a dtype, a list, or a struct."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        key = "large_list" if pa.types.is_large_list(kind) else "list"
        inner = feature_type(kind.value_type)
        return {key: inner.get("dtype", inner)}
    if pa.types.is_struct(kind):
        return {"struct": [feature(field.name, field.type) for field in kind]}
    names = {"double": "float64", "float": "float32", "halffloat": "float16"}
    return {"dtype": names.get(str(kind), str(kind))}


def splits_of(dataset: Output) -> list[tuple[str, int, int]]:
    """Return name, rows and bytes of each split. A dataset without splits is all "train", as on the hub."""
    assert dataset.manifest is not None
    found: dict[str, tuple[int, int]] = {}
    for shard in dataset.manifest.shards:
        rows, size = found.get(shard.split or "train", (0, 0))
        found[shard.split or "train"] = rows + shard.rows, size + shard.bytes
    return [(name, rows, size) for name, (rows, size) in found.items()]


def split_rows(dataset: Output) -> list[tuple[str, str, str]]:
    """Return the splits as rows of a table."""
    return [(name, f"{rows:,}", format_bytes(size)) for name, rows, size in splits_of(dataset)]


@lru_cache(maxsize=8)
def _languages(folder: str, content: str) -> tuple[str, ...]:
    found = lineage.read_complete_manifest(folder)
    if found is None:
        return ()
    table = shards.read_rows(folder, found, limit=SAMPLE_ROWS)
    if "language" not in table.column_names:
        return ()
    counts = Counter(str(code) for code in table["language"].to_pylist() if code)
    least = max(MIN_LANGUAGE_SHARE * len(table), min(2, len(table)))
    return tuple(code for code, n in counts.most_common() if n >= least)


def find_languages(dataset: Output) -> list[str]:
    """Return the languages of at least 1 % of the first 10,000 documents, the most frequent first."""
    return list(_languages(dataset.folder, dataset.manifest.content())) if dataset.manifest else []


def introduction(dataset: Output) -> str:
    """Return what the dataset is in one or two sentences."""
    assert dataset.manifest is not None
    counts = dataset.manifest.counts
    text = f"{counts.kept:,} documents with {format_bytes(counts.bytes_kept)} of text, made with gptctl."
    languages = find_languages(dataset)
    if not languages:
        return text
    return f"{text} Languages of at least 1 % of the first {SAMPLE_ROWS:,} documents: {escape(', '.join(languages))}."


def describe_step(output: Output) -> list[str]:
    """Return a heading, the settings and the counts of one command."""
    settings: Values = output.record.get("settings") or {}
    names = STEPS.get(output.stage)
    if names is None or output.manifest is None:
        return []
    rows = [(name, show_setting(settings[name])) for name in names if settings.get(name) is not None]
    counts = funnel("", output.manifest.counts)
    heading = f"### {escape(output.stage)}: {escape(name_of(output.folder))}"
    return [heading, table(("setting", "value"), rows), table(counts.columns, counts.rows)]


def show_setting(value: Any) -> str:
    """Return the value of a setting, without the folders of this machine."""
    if isinstance(value, list | tuple):
        return ", ".join(map(show_setting, value)) or "none"
    return shorten(value) if isinstance(value, str) else format_number(value)


def personal(dataset: Output) -> str:
    """Return which personal data was masked."""
    for one in lineage.walk(dataset):
        settings: Values = one.record.get("settings") or {}
        if settings.get("pii"):
            kinds = (settings.get("mask") or {}).get("kinds") or []
            return f"Masked by pattern: {escape(', '.join(map(str, kinds)))}. Names and addresses are not recognized."
    return "Nothing was masked. The texts may contain personal data."
