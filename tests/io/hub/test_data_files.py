"""Which files of a dataset are read: its data without cards and code, the config and the split that a URI names."""

from __future__ import annotations

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.io.input.find import find_files
from gptctl.pipeline.data_splits import find_splits
from tests.hub_server import Hub

ROW = b'{"text": "a text"}\n'
TREE = {
    "README.md": b"# Web\n",
    ".gitattributes": b"*.parquet filter=lfs\n",
    "LICENSE.txt": b"CC0\n",
    "load.py": b"import os\n",
    "logo.png": b"\x89PNG",
    "data/train-00000-of-00002.jsonl": ROW,
    "data/train-00001-of-00002.jsonl": ROW,
    "data/validation-00000-of-00001.jsonl": ROW,
    "notes/dev/a.txt": b"a note",
    "notes/.hidden/b.txt": b"hidden",
}
TRAIN = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]
CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: ["en/a*.jsonl", "en/more.jsonl"]
  - split: test
    path: en/t.jsonl
- config_name: de
  data_dir: de
---
"""


def names(uri: str) -> list[str]:
    """Return the names of the files that a URI selects."""
    return [file.name for file in find_files(uri)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", [*TRAIN, "data/validation-00000-of-00001.jsonl", "notes/dev/a.txt"]),
        ("/data", [name.removeprefix("data/") for name in [*TRAIN, "data/validation-00000-of-00001.jsonl"]]),
        ("/data/train-*", [name.removeprefix("data/") for name in TRAIN]),
        ("/**/*.txt", ["notes/dev/a.txt"]),
        ("/README.md", ["README.md"]),
        ("?split=train", TRAIN),
        ("?split=val", ["data/validation-00000-of-00001.jsonl", "notes/dev/a.txt"]),
        ("/data?split=validation", ["validation-00000-of-00001.jsonl"]),
    ],
)
def test_selected(hub: Hub, path: str, expected: list[str]) -> None:
    """A folder and a glob pass over cards, licences, code, images and hidden files. A file is read if it is named."""
    hub.dataset("ann/web", TREE)
    assert names(f"hf://datasets/ann/web{path}") == expected


def test_several_inputs_have_names_of_their_own(hub: Hub) -> None:
    hub.dataset("ann/web", TREE)
    found = find_files("hf://datasets/ann/web/data", "data")
    assert [file.name for file in found][:2] == TRAIN
    assert {file.size for file in found} == {len(ROW)}


def test_configs_of_the_card(hub: Hub) -> None:
    files = dict.fromkeys(
        ["en/a1.jsonl", "en/a2.jsonl", "en/more.jsonl", "en/t.jsonl", "en/x.jsonl", "de/1.jsonl"], ROW
    )
    hub.dataset("ann/web", {"README.md": CARD.encode(), **files})
    with pytest.raises(UsageError, match="has several configs; its card has: en, de") as error:
        names("hf://datasets/ann/web")
    assert "?config=en'" in (error.value.hint or "")
    assert names("hf://datasets/ann/web?config=de") == ["de/1.jsonl"]
    assert names("hf://datasets/ann/web?config=en") == ["en/a1.jsonl", "en/a2.jsonl", "en/more.jsonl", "en/t.jsonl"]
    assert names("hf://datasets/ann/web?config=en&split=test") == ["en/t.jsonl"]
    assert names("hf://datasets/ann/web/en") == ["a1.jsonl", "a2.jsonl", "more.jsonl", "t.jsonl", "x.jsonl"]
    with pytest.raises(UsageError, match="has no config 'fr'"):
        names("hf://datasets/ann/web?config=fr")
    with pytest.raises(UsageError, match="has the splits train, test, but not 'val'"):
        names("hf://datasets/ann/web?config=en&split=val")
    with pytest.raises(UsageError, match="both a path and config="):
        names("hf://datasets/ann/web/en?config=en")


def test_the_default_config(hub: Hub) -> None:
    card = CARD.replace("config_name: de", "config_name: de\n  default: true")
    hub.dataset("ann/web", {"README.md": card.encode(), "en/a.jsonl": ROW, "de/1.jsonl": ROW})
    assert names("hf://datasets/ann/web") == ["de/1.jsonl"]


def test_splits_for_training(hub: Hub) -> None:
    """finetune and eval find the splits; what is no split of theirs is data without splits."""
    commit = next(iter(hub.dataset("ann/web", TREE).commits))
    start = f"hf://datasets/ann/web@{commit}"
    found = find_splits(start)
    assert found.named == {"train": f"{start}?split=train", "val": f"{start}?split=val"}
    assert find_splits(f"{start}/data/train-00000-of-00002.jsonl").whole
    assert find_splits(f"{start}?split=val").whole == f"{start}?split=val"
    hub.dataset("ann/one", {"README.md": b"", "all.jsonl": ROW})
    assert find_splits("hf://datasets/ann/one").named == {}


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("hf://datasets/ann/code", DataError, "has no data: it has README.md, load.py, page.zip"),
        ("hf://datasets/ann/code/more", UsageError, "no such file or folder: .*/more"),
        ("hf://datasets/ann/code?split=train", UsageError, "has no splits, but not 'train'"),
        ("hf://datasets/ann/broken", DataError, "the card .*README.md is damaged"),
    ],
)
def test_what_cannot_be_read(hub: Hub, uri: str, kind: type[Exception], message: str) -> None:
    hub.dataset("ann/code", {"README.md": b"# Code", "load.py": b"", "page.zip": b"PK"})
    hub.dataset("ann/broken", {"README.md": b"---\na: [\n---\n", "a.jsonl": ROW})
    with pytest.raises(kind, match=message):
        find_files(uri)
