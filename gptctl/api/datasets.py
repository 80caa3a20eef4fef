"""Datasets that the commands wrote, as tables of Arrow, pandas, Polars and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from gptctl.api.errors import as_gptctl_error
from gptctl.api.given import as_given
from gptctl.core.errors import UsageError
from gptctl.core.extras import require
from gptctl.core.summary import Counts
from gptctl.core.visible import escape_html

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from gptctl.io.dataset.manifest import Manifest, Shard

SHOWN_ROWS = 5
BATCH_ROWS = 1000  # rows that are dictionaries of Python at a time


class Dataset:
    """The output of a data command: documents, tokens, clusters, samples or predictions.

    path: the folder, or its URI in object storage.
    split: "train", "val" or "test" of a divided dataset; an empty string for all rows.
    """

    def __init__(self, path: str | Path, split: str = "") -> None:
        self.path = str(path)
        self.split = split
        self._opened: tuple[str, pa.Table] | None = None  # the shard of the last row that was asked for
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
        return sum(shard.rows for shard in self._shards)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dictionaries. One shard is in memory at a time."""
        for shard in self._shards:
            yield from (row for batch in self._read(shard).to_batches(BATCH_ROWS) for row in batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return a row as a dictionary, or the rows of a slice. Raises IndexError for a row that does not exist."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = as_given("index", index)
        if type(number) is not int:
            raise UsageError(f"rows have numbers, not {index!r}", "columns are in to_arrow()")
        number += len(self) if number < 0 else 0
        if number < 0:
            raise IndexError(f"there is no row {index}: the dataset has {len(self):,}")
        for shard in self._shards:
            if number < shard.rows:
                if self._opened is None or self._opened[0] != shard.path:
                    self._opened = shard.path, self._read(shard)
                return dict(self._opened[1].slice(number, 1).to_pylist()[0])
            number -= shard.rows
        raise IndexError(f"there is no row {index}: the dataset has {len(self):,}")

    @property
    def _shards(self) -> list[Shard]:
        return [shard for shard in self.manifest.shards if not self.split or shard.split == self.split]

    @as_gptctl_error
    def _read(self, shard: Shard) -> pa.Table:
        from gptctl.io.dataset.manifest import read_shard
        from gptctl.io.dataset.shard_format import read_table

        return read_table(read_shard(self.path, shard), shard.path)

    @as_gptctl_error
    def to_arrow(self, limit: int | None = None) -> pa.Table:
        """Return the rows as one Arrow table, or the first `limit` of them. The checksum of each shard is verified.

        Raises GptctlError if a shard is missing or damaged.
        """
        from gptctl.io.dataset import shards

        if limit is not None and (type(limit) is not int or limit < 0):
            raise UsageError(f"limit takes a whole number of at least 0, not {limit!r}", "leave it out for all rows")
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
