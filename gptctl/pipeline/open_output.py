"""Open the output of a run: a folder of this machine, or a URI whose output is first written to a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptctl.core.config import StageConfig, Values
from gptctl.core.context import Context
from gptctl.core.run_folder import Run, open_run
from gptctl.io.dataset import manifest, shards
from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import is_uri
from gptctl.io.object_storage.output_store import ObjectOutputStore


@contextmanager
def open_output(out: str, config: StageConfig, context: Context, inputs: Values | None) -> Iterator[Run]:
    """Open OUT as `open_run` does. For a URI the run works in a local folder, which is uploaded when it finishes."""
    out = plain_path(out)
    store = ObjectOutputStore(out, context) if is_uri(out) else None
    folder = store.folder if store else Path(out)
    is_complete = store.is_complete if store else has_all_files
    with open_run(folder, config, context, inputs, is_complete=is_complete, store=store) as run:
        yield run


def has_all_files(folder: Path) -> bool:
    """Return whether all shards that the manifest lists exist with their sizes. Readers verify the checksums."""
    found = manifest.read(folder)
    has_shards = all(shards.has_size(folder, shard) for shard in found.shards)
    return has_shards and (found.kind != "tokens" or (folder / "tokenizer.json").exists())
