"""An index of shards that does not fit its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptctl.core.errors import DataError
from gptctl.model.files.shard_index import SHARD_INDEX, IndexedReader


@pytest.mark.parametrize(
    "stored",
    [
        {"a": {"dtype": "torch.float32", "parts": [["../x.safetensors", [0], [1]]]}},
        {"a": {"dtype": "torch.load", "parts": [["x.safetensors", [0], [1]]]}},
        {"a": {"dtype": "torch.float32", "parts": [["x.safetensors", [0, 0], [1]]]}},
        {"a": {"dtype": "torch.float32", "parts": 5}},
        {"a": []},
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, stored: object) -> None:
    (tmp_path / SHARD_INDEX).write_text(json.dumps(stored))
    with pytest.raises(DataError, match=r"shard-index.json is damaged"):
        IndexedReader(tmp_path).read_metadata()
