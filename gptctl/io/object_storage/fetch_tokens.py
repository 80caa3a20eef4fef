"""Local copies of token datasets in object storage, so that training can memory-map them."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.cache_folder import cache_folder
from gptctl.core.errors import DataError
from gptctl.core.run_record import MANIFEST
from gptctl.io.dataset import manifest
from gptctl.io.dataset.manifest import Manifest, Shard
from gptctl.io.files import content_hash, read_if_exists
from gptctl.io.object_storage.address import join
from gptctl.io.object_storage.output_store import parallel_map


def fetch_tokens(uri: str, found: Manifest) -> Path:
    """Download a dataset of tokens, and return the local folder. Each shard is downloaded once and verified.

    The folder is named by the content, so equal datasets share it. Raises DataError (3) if a file is missing or
    damaged.
    """
    folder = cache_folder() / "datasets" / found.content()
    with closing(parallel_map(partial(fetch_shard, uri, folder), found.shards)) as arrivals:
        for _ in arrivals:
            pass
    for name in ("tokenizer.json", MANIFEST):  # the manifest last, as in any dataset
        data = read_if_exists(join(uri, name))
        if data is None:
            raise DataError(f"{join(uri, name)} is absent", f"make it again: gptctl {found.stage} ... -o {uri}")
        atomic.write_bytes(folder / name, data)
    return folder


def fetch_shard(uri: str, folder: Path, shard: Shard) -> None:
    """Download a shard, unless it is there with the right content."""
    path = folder / shard.path
    if not path.exists() or content_hash(str(path)) != shard.xxh3_128:
        atomic.write_bytes(path, manifest.read_shard(uri, shard))
