"""URIs of the hub: their parts, what they are written as, and what is none."""

from __future__ import annotations

import pytest

from gptctl.core.errors import UsageError
from gptctl.io.hub.uri import HubUri
from gptctl.io.object_storage.address import Address, base_name, join


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("hf://datasets/ann/web", ("dataset", "ann/web", "main", "", "", "")),
        ("hf://datasets/ann/web@v1.0/data/*.jsonl", ("dataset", "ann/web", "v1.0", "data/*.jsonl", "", "")),
        ("hf://datasets/ann/web@refs/pr/3/a b.txt", ("dataset", "ann/web", "refs/pr/3", "a b.txt", "", "")),
        ("hf://datasets/ann/web@refs/convert/parquet", ("dataset", "ann/web", "refs/convert/parquet", "", "", "")),
        ("hf://datasets/ann/web@topic%2Fone/", ("dataset", "ann/web", "topic/one", "", "", "")),
        ("hf://datasets/ann/web?config=de&split=test", ("dataset", "ann/web", "main", "", "de", "test")),
        ("hf://ann/gpt", ("model", "ann/gpt", "main", "", "", "")),
        ("hf://models/ann/gpt@v2/sub", ("model", "ann/gpt", "v2", "sub", "", "")),
    ],
)
def test_parts(uri: str, parts: tuple[str, ...]) -> None:
    found = HubUri.parse(uri)
    assert (found.kind, found.repo, found.revision, found.path, found.config, found.split) == parts
    assert HubUri.parse(str(found)) == found


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/web", "names no dataset and no model"),
        ("hf://../x", "names no dataset and no model"),
        ("hf://ann/a--b", "names no dataset and no model"),
        ("hf://gpt2", "names no dataset and no model"),
        ("hf://spaces/ann/app", "names no dataset and no model"),
        ("hf://datasets/ann/web?splits=test", "unknown parameter 'splits'"),
        ("hf://ann/gpt?split=test", "unknown parameter 'split'"),
    ],
)
def test_what_is_none(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HubUri.parse(uri)


def test_as_an_address_of_storage() -> None:
    """The functions for all storage join and take apart a pinned URI too, with names that must be quoted."""
    uri = str(HubUri.parse(f"hf://datasets/ann/web@{'0' * 40}/100% [a] #1"))
    file = join(uri, "x?.jsonl")
    assert HubUri.parse(file).path == "100% [a] #1/x?.jsonl"
    assert base_name(file) == "x?.jsonl"
    assert Address.parse(file).path == f"datasets/ann/web@{'0' * 40}/100% [a] #1/x?.jsonl"
