"""A copy on this machine of a dataset in object storage, for those who map its shards into memory."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.core.run_record import MANIFEST
from gptctl.io.dataset import manifest
from gptctl.io.dataset.manifest import Manifest, Shard
from gptctl.io.files import content_hash, read_if_exists
from gptctl.io.object_storage.address import join
from gptctl.io.object_storage.remote import cache_folder, parallel_map


def fetch_tokens(uri: str, found: Manifest) -> Path:
    """Return the folder with a copy of a dataset of tokens; each shard is fetched once and verified.

    The folder belongs to the content: equal datasets share it. Raises DataError (3) where a file is absent or damaged.
    """
    folder = cache_folder() / "datasets" / found.content()
    with closing(parallel_map(partial(fetch_shard, uri, folder), found.shards)) as arrivals:
        for _ in arrivals:
            pass
    for name in ("tokenizer.json", MANIFEST):  # the manifest last, as in every output
        data = read_if_exists(join(uri, name))
        if data is None:
            raise DataError(f"{join(uri, name)} is absent", f"make it again: gptctl {found.stage} ... -o {uri}")
        atomic.write_bytes(folder / name, data)
    return folder


def fetch_shard(uri: str, folder: Path, shard: Shard) -> None:
    """Fetch a shard, unless it is there."""
    path = folder / shard.path
    if not path.exists() or content_hash(str(path)) != shard.xxh3_128:
        atomic.write_bytes(path, manifest.read_shard(uri, shard))
