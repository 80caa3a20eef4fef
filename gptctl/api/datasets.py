"""Datasets that the commands wrote, as tables of Arrow, pandas, Polars and Hugging Face datasets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptctl.api.errors import as_gptctl_error
from gptctl.core.errors import UsageError
from gptctl.core.extras import require
from gptctl.core.summary import Counts
from gptctl.core.visible import escape_html

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from gptctl.io.dataset.manifest import Manifest

SHOWN_ROWS = 5


class Dataset:
    """The output of a data command: documents, tokens, clusters, samples or predictions.

    path: the folder, or its URI in object storage.
    split: "train", "val" or "test" of a divided dataset; an empty string for all rows.
    """

    def __init__(self, path: str | Path, split: str = "") -> None:
        self.path = str(path)
        self.split = split
        if split and split not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise UsageError(f"{self.path} has no split '{split}'", f"splits: {known}")

    @cached_property
    @as_gptctl_error
    def manifest(self) -> Manifest:
        """The manifest: what the folder holds, from what it was made, and with which settings."""
        from gptctl.io.dataset import manifest

        return manifest.read(self.path)

    @property
    def kind(self) -> str:
        """What the rows are: "documents", "tokens", "samples" or "predictions"."""
        return self.manifest.kind

    @property
    def splits(self) -> list[str]:
        """The splits of a divided dataset, in their order on disk."""
        return [split for split in dict.fromkeys(shard.split for shard in self.manifest.shards) if split]

    @property
    def counts(self) -> Counts:
        """How many documents the command read, kept, dropped and quarantined."""
        return self.manifest.counts

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures that the command recorded."""
        return self.manifest.metrics

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(shard.rows for shard in self.manifest.shards if not self.split or shard.split == self.split)

    @as_gptctl_error
    def to_arrow(self, limit: int | None = None) -> pa.Table:
        """Return the rows as one Arrow table, or the first `limit` of them. The checksum of each shard is verified.

        Raises GptctlError if a shard is missing or damaged.
        """
        from gptctl.io.dataset import shards

        return shards.read_rows(self.path, self.manifest, self.split, limit)

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame. Raises GptctlError if pandas is not installed."""
        require("pandas")
        return self.to_arrow(limit).to_pandas()

    def to_polars(self, limit: int | None = None) -> pl.DataFrame:
        """Return the rows as a Polars DataFrame. Raises GptctlError if Polars is not installed."""
        polars: Any = require("polars")
        frame: pl.DataFrame = polars.from_arrow(self.to_arrow(limit))
        return frame

    def to_datasets(self, limit: int | None = None) -> datasets.Dataset:
        """Return the rows as a Hugging Face dataset. Raises GptctlError if `datasets` is not installed."""
        library: Any = require("datasets")
        return library.Dataset(self.to_arrow(limit).replace_schema_metadata(None))

    def __repr__(self) -> str:
        """Return one line that says what this is."""
        split = f", split '{self.split}'" if self.split else ""
        return f"<gptctl.Dataset {self.path}: {len(self):,} rows of {self.kind}{split}>"

    def _repr_html_(self) -> str:
        """Return the first rows as a table for notebooks."""
        table = self.to_arrow(SHOWN_ROWS)
        head = "".join(f"<th>{escape_html(name)}</th>" for name in table.column_names)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape_html(short(value))}</td>' for value in row.values())}</tr>"
            for row in table.to_pylist()
        )
        return f"<p>{escape_html(repr(self))}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def short(value: Any, width: int = 80) -> str:
    """Return a value as text, cut to a cell's width."""
    text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
