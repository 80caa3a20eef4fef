"""Answers of models that were already given, by content: the same question to the same model is not asked twice.

Pieces of text go to the model in blocks. A block's key hashes everything that its answers depend on: the weights, the
tokenizer, the tokens, how the model is asked, the kind of device, and the versions of the programs. So nothing is ever
out of date: a changed weight or byte of data is another key. A block is written once, atomically, when it is answered;
what was killed goes on with the first block that is not there.

    CACHE/ab/abcd....answers    xxh3-128 of what follows, then the answers as an Arrow file, a row per piece
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash

from gptctl.core import atomic
from gptctl.core.errors import MachineError
from gptctl.evals.inference.loaded_model import Answers
from gptctl.evals.scoring.metric_results import Values
from gptctl.infer.score import Request
from gptctl.io.object_storage.remote import cache_folder

Block = Sequence[Request]
Ask = Callable[[Iterable[Block]], Iterator[Answers]]  # answers blocks in order, perhaps in several processes

BATCHES_PER_BLOCK = 4  # a kill loses at most so many forward passes of each process
MAX_BYTES = 2**30  # of the whole cache; the blocks that were not used for longest go first
SUFFIX = ".answers"
CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class Asking:
    """What was done: pieces in all, pieces answered from the cache, and the seconds the model took for the rest."""

    answers: Answers
    pieces: int
    cached: int
    model_seconds: float


def folder_of(name: str) -> Path | None:
    """Return the cache that is meant by "none", a folder, or "auto": eval/ in the folder that gptctl keeps for
    caches."""
    if name == "auto":
        return cache_folder() / "eval"
    return None if name == "none" else Path(name)


def blocks_of(pieces: Sequence[Request], batch_size: int) -> list[Block]:
    """Cut pieces into blocks. The same pieces make the same blocks, whatever was asked before."""
    size = batch_size * BATCHES_PER_BLOCK
    return [pieces[start : start + size] for start in range(0, len(pieces), size)]


def answer_all(
    pieces: Sequence[Request],
    batch_size: int,
    asker: Values,
    ask: Ask,
    folder: Path | None,
    warn: Callable[[str], None],
    progress: Callable[[int], None] = lambda done: None,
) -> Asking:
    """Answer all pieces, from the cache where they are there.

    `asker` describes the model and how it is asked. `folder` is the cache; None leaves it out. A cache that cannot be
    written costs time, not results: it is told once and passed over.
    """
    blocks = blocks_of(pieces, batch_size)
    keys = [key_of(asker, block) for block in blocks]
    found = [None if folder is None else read(folder, key, len(block)) for key, block in zip(keys, blocks, strict=True)]
    missing = [number for number, answers in enumerate(found) if answers is None]
    cached = len(pieces) - sum(len(blocks[number]) for number in missing)
    done, started = cached, time.monotonic()
    for number, answers in zip(missing, ask(blocks[i] for i in missing), strict=True):
        found[number] = answers
        done += len(blocks[number])
        progress(done)
        if folder is not None:
            try:
                write(folder, keys[number], answers)
            except MachineError as error:
                warn(f"answers are not kept: {error.message}")
                folder = None
    seconds = time.monotonic() - started if missing else 0.0
    if folder is not None and missing:
        make_room(folder)
    return Asking(join([answers for answers in found if answers is not None]), len(pieces), cached, seconds)


def key_of(asker: Values, block: Block) -> str:
    """Hash everything that a block's answers depend on."""
    digest = xxhash.xxh3_128(orjson.dumps(asker, option=orjson.OPT_SORT_KEYS))
    for piece in block:
        digest.update(np.array([len(piece.tokens), piece.num_targets], np.int64).tobytes())
        digest.update(np.ascontiguousarray(piece.tokens, np.int64).tobytes())
    return digest.hexdigest()


def place(folder: Path, key: str) -> Path:
    """Say where a block's answers stand."""
    return folder / key[:2] / f"{key}{SUFFIX}"


def read(folder: Path, key: str, pieces: int) -> Answers | None:
    """Read a block's answers; None where there are none, or none that are whole."""
    path = place(folder, key)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if xxhash.xxh3_128_digest(data[CHECKSUM_BYTES:]) != data[:CHECKSUM_BYTES]:
        return None
    table = ipc.open_file(pa.BufferReader(data[CHECKSUM_BYTES:])).read_all()
    if len(table) != pieces:
        return None
    with suppress(OSError):
        os.utime(path)
    return {name: table[name].to_pylist() for name in table.column_names}


def write(folder: Path, key: str, answers: Answers) -> None:
    """Keep a block's answers. Raises MachineError (4) where the folder can't be written."""
    table = pa.table(answers)
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    atomic.write_bytes(place(folder, key), xxhash.xxh3_128_digest(data) + data)


def join(blocks: Sequence[Answers]) -> Answers:
    """Put the answers of all blocks together."""
    names = blocks[0].keys() if blocks else ()
    return {name: [value for block in blocks for value in block[name]] for name in names}


def make_room(folder: Path) -> None:
    """Remove the answers that were not used for longest, until the rest fit. Others may be removing too."""
    files = []
    for path in folder.glob(f"*/*{SUFFIX}"):
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
