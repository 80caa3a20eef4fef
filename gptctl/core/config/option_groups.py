"""Options that several commands share, in groups. A command takes the groups that it uses."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationInfo, field_validator, model_validator

from gptctl.core import plugins
from gptctl.core.config.fields import flag, key
from gptctl.core.config.settings import Settings, StageConfig
from gptctl.core.config.values import Values

EXECUTORS = "gptctl.executors"


class CsvOptions(Settings):
    """How CSV and TSV files are written."""

    delimiter: str = key("auto", "Character between fields; auto finds , ; | or a tab in each file.")
    quote: str = key("auto", "Character around fields that contain delimiters; none turns quoting off.")

    @field_validator("delimiter", "quote")
    @classmethod
    def is_character(cls, value: str, info: ValidationInfo) -> str:
        """Return the character that is meant. Raises ValueError for what is not one ASCII character."""
        words = {"tab": "\t", "\\t": "\t"} if info.field_name == "delimiter" else {}
        value = words.get(value, value)
        is_word = value == "auto" or (value == "none" and info.field_name == "quote")
        if not is_word and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            also = "tab" if info.field_name == "delimiter" else "none"
            raise ValueError(f"{value!r} is not one ASCII character; give one, auto, or {also}")
        return value


class ReadingOptions(StageConfig):
    """How documents are read."""

    text_column: str = flag("text", "Column that holds the text.", metavar="COLUMN", panel="Input")
    id_column: str = flag(
        "id", "Column that holds the document's id. Without it, ids are made from file and position.",
        metavar="COLUMN", panel="Input",
    )  # fmt: skip
    limit: int = flag(0, "Read only the first N documents; 0 reads all.", metavar="N", panel="Input", ge=0)
    max_bad: float = key(
        0.01, "Share of unreadable records above which the command fails, if they are more than max_bad_records.",
        runtime=True, ge=0, le=1,
    )  # fmt: skip
    max_bad_records: int = key(5, "Number of unreadable records that never fail the command.", runtime=True, ge=0)
    max_doc_bytes: int = key(16 * 2**20, "Longest record read, in bytes; longer ones are quarantined.", ge=1024)
    encoding: str = key(
        "auto", "Encoding of text, CSV and TSV files that are not UTF-8, as Python names it; auto detects it."
    )
    csv: CsvOptions = key(CsvOptions(), "How CSV and TSV files are written.")

    @field_validator("encoding")
    @classmethod
    def known_encoding(cls, value: str) -> str:
        """Raise ValueError for what is no encoding of text."""
        try:
            if value != "auto":
                "a".encode(value)
        except (LookupError, ValueError) as error:
            raise ValueError(f"no encoding is called '{value}'; examples: cp1252, koi8-r, utf-16-le") from error
        return value


Codec = Literal["auto", "zstd", "lz4", "snappy", "gzip", "none"]
PARQUET_ONLY = ("snappy", "gzip")


class StorageOptions(StageConfig):
    """How documents are stored in a folder."""

    format: Literal["arrow", "parquet"] = flag(
        "arrow", "Format of the shards. Every command reads both; parquet is for other programs.", panel="Output"
    )
    compression: Codec = key(
        "auto",
        "Compression of the shards. auto: lz4 for arrow, zstd for parquet. snappy and gzip: for parquet only.",
    )

    def codec(self) -> str:
        """Return the compression that is meant, or "none"."""
        if self.compression != "auto":
            return self.compression
        return "zstd" if self.format == "parquet" else "lz4"

    @model_validator(mode="after")
    def format_has_codec(self) -> StorageOptions:
        """Raise ValueError for a compression that the format does not have."""
        if self.format == "arrow" and self.compression in PARQUET_ONLY:
            raise ValueError(f"compression {self.compression} is for --format parquet; arrow has zstd, lz4 and none")
        return self

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        out = getattr(self, "out", "")
        reasons = {"-": "with -o -: a pipe is always Arrow", None: "without -o"}
        unused = dict.fromkeys(StorageOptions.own_keys(), reasons[out]) if out in reasons else {}
        return super().without_effect() | unused


class WorkerOptions(StageConfig):
    """How many workers run the tasks, and what starts them."""

    workers: int = flag(
        0, "Worker processes; 0 starts one per processor. The output is the same for any number.",
        metavar="N", panel="Workers", runtime=True, ge=0,
    )  # fmt: skip
    executor: str = flag(
        "processes", "How workers are run. The output is the same for each.", panel="Workers", runtime=True,
        choices=lambda: plugins.names(EXECUTORS),
    )  # fmt: skip
    ray_address: str | None = flag(
        None, "Ray cluster to use; else RAY_ADDRESS, else this machine.",
        metavar="HOST:PORT", panel="Workers", runtime=True,
    )  # fmt: skip

    @field_validator("executor")
    @classmethod
    def known_executor(cls, value: str) -> str:
        """Raise ValueError for an unknown executor."""
        known = plugins.names(EXECUTORS)
        if value not in known:
            near = plugins.did_you_mean(value, known)
            raise ValueError(f"no executor is called '{value}'{near}; known: {', '.join(known)}")
        return value

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.executor == "serial" and self.workers != 1:
            found["workers"] = "with --executor serial"
        if self.executor != "ray":
            found["ray_address"] = "without --executor ray"
        return found

    def executor_options(self) -> Values:
        """Return the settings of the executor, besides the number of workers."""
        return {"address": self.ray_address} if self.executor == "ray" else {}

    def worker_count(self) -> int:
        """Return how many workers the executor runs at once. With Ray, 0 means the whole cluster."""
        count: int = plugins.load(EXECUTORS, self.executor).worker_count(self.workers)
        return count


class SeedOption(StageConfig):
    """The seed of commands that draw random numbers."""

    seed: int = flag(0, "Seed of all random numbers.", metavar="N", panel="Randomness")


class DeviceOption(StageConfig):
    """Where a model runs."""

    device: Literal["auto", "cpu", "cuda", "mps"] = flag(
        "auto", "Where the model runs; auto uses a GPU if there is one.", panel="Devices", runtime=True
    )


class ProcessOptions(DeviceOption):
    """Where a model runs, and in how many processes."""

    nproc_per_node: int = flag(
        1, "Processes on each machine, for --device cpu.", metavar="N", panel="Devices", ge=1, runtime=True
    )
