"""Names of inputs: short, and different for different paths."""

from __future__ import annotations

import pytest

from gptctl.io.input.names import distinct_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["data/web", "code/"], ["web", "code"]),
        (["a/web", "b/web", "code"], ["a/web", "b/web", "code"]),
        (["x/a/web", "y/a/web", "b/web"], ["x/a/web", "y/a/web", "b/web"]),
        (["/web", "/a/web"], ["web", "a/web"]),
        (["web", "code/../web"], ["web", "web"]),
        (["s3://bucket/one/web?region=eu", "s3://KEY:SE/CRET@bucket/two/web"], ["one/web", "two/web"]),
        (["web.jsonl", "old/web.jsonl"], ["mix/web.jsonl", "old/web.jsonl"]),
    ],
)
def test_names_are_as_short_as_they_can_be(
    paths: list[str], names: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to a folder `mix`."""
    folder = tmp_path_factory.mktemp("names") / "mix"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert distinct_names(paths) == names
