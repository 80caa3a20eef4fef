"""A cache of model outputs by content: the same requests are never run twice on the same model.

Requests are run in blocks. The key of a block hashes everything that its outputs depend on: the weights, the tokenizer,
the tokens, the options, the kind of device, and the versions of the programs. So no entry is ever out of date: a
changed weight or byte of data has another key. A block is written once, atomically, when it is finished. After a kill,
the same command continues with the first block that is not there.

    CACHE/ab/abcd....answers    xxh3-128 of the key and the rest, then the outputs as an Arrow file, a row per request
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash

from gptctl.core import atomic
from gptctl.core.cache_folder import cache_folder
from gptctl.core.errors import DataError, MachineError
from gptctl.core.regular_files import read_regular
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request

Block: TypeAlias = Sequence[Request]

MAX_BYTES = 2**30  # of the whole cache; the least recently used blocks are removed first
SUFFIX = ".answers"
CHECKSUM_BYTES = 16
VERSION = 2  # of the files; those of another version have other keys


class OutputCache:
    """A folder of outputs, or none. If it cannot be written, that costs time, not results: it warns once and stops."""

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.warn = warn
        self.damaged: list[Path] = []

    @staticmethod
    def folder_of(name: str) -> Path | None:
        """Return the folder for "none", a path, or "auto": eval/ in the cache folder of gptctl."""
        if name == "auto":
            return cache_folder() / "eval"
        return None if name == "none" else Path(name)

    def read(self, key: str, rows: int) -> Outputs | None:
        """Return the outputs of a block of `rows` requests; None if they are not there, or damaged."""
        if self.folder is None:
            return None
        path = path_of(self.folder, key)
        try:
            data = read_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, DataError):
            self.damaged.append(path)
            return None
        if checksum(key, data[CHECKSUM_BYTES:]) != data[:CHECKSUM_BYTES]:
            self.damaged.append(path)
            return None
        table = ipc.open_file(pa.BufferReader(data[CHECKSUM_BYTES:])).read_all()
        assert len(table) == rows, path
        with suppress(OSError):
            os.utime(path)  # marks the block as recently used
        return {name: table[name].to_pylist() for name in table.column_names}

    def warn_of_damage(self) -> None:
        """Warn once of all files that were found damaged."""
        if self.damaged:
            more = f" and {len(self.damaged) - 1:,} more" if len(self.damaged) > 1 else ""
            self.warn(f"damaged model outputs in the cache are computed again: {self.damaged[0]}{more}")
            self.damaged.clear()

    def write(self, key: str, outputs: Outputs) -> None:
        """Store the outputs of a block."""
        if self.folder is None:
            return
        table = pa.table(outputs)
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue().to_pybytes()
        try:
            atomic.write_bytes(path_of(self.folder, key), checksum(key, data) + data)
        except MachineError as error:
            self.warn(f"model outputs are not cached: {error.message}")
            self.folder = None

    def evict(self) -> None:
        """Remove the least recently used blocks until the rest fit. Other processes may be removing some too."""
        if self.folder is None:
            return
        files = []
        for path in self.folder.glob(f"*/*{SUFFIX}"):
            with suppress(OSError):
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda file: file[0]):
            if total <= MAX_BYTES:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def block_key(identity: Mapping[str, Any], block: Block) -> str:
    """Hash everything that a block's outputs depend on; `identity` describes all but the requests."""
    digest = xxhash.xxh3_128(orjson.dumps([VERSION, identity], option=orjson.OPT_SORT_KEYS))
    for request in block:
        digest.update(np.array([len(request.tokens), request.num_targets], np.int64).tobytes())
        digest.update(np.ascontiguousarray(request.tokens, np.int64).tobytes())
    return digest.hexdigest()


def checksum(key: str, data: bytes) -> bytes:
    """Hash the content of a file for the block with this key, so that the file of another block is damage too."""
    digest = xxhash.xxh3_128(key.encode())
    digest.update(data)
    return digest.digest()


def path_of(folder: Path, key: str) -> Path:
    """Return the file of a block."""
    return folder / key[:2] / f"{key}{SUFFIX}"
