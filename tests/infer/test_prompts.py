"""The prompts of a file, in any encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptctl.infer.prompts import Prompts
from gptctl.io.input.blocks import ReadOptions
from tests.io.input.udhr import ARTICLE_1


@pytest.mark.parametrize("name", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("as_json", [False, True])
def test_lines_in_any_encoding(name: str, as_json: bool, tmp_path: Path) -> None:
    """They are prompts, or JSON objects; those that were not UTF-8 are counted."""
    texts = [sentence.strip() for sentence in ARTICLE_1["German"][1].split(".") if sentence]
    lines = [f'{{"text": "{text}"}}' for text in texts] if as_json else texts
    (tmp_path / "p.txt").write_bytes("\r\n".join([*lines, ""]).encode(name))
    [found] = Prompts(str(tmp_path / "p.txt"), "", ReadOptions(), 16).tables(0)
    assert found.documents["text"].to_pylist() == texts
    assert sum(found.encodings.values()) == (0 if name.startswith("utf-8") else len(texts))


def test_objects_without_the_column_are_no_prompts(tmp_path: Path) -> None:
    """Not their JSON, which the model would go on with."""
    (tmp_path / "p.txt").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    prompts = Prompts(str(tmp_path / "p.txt"), "", ReadOptions(), 16)
    [found] = prompts.tables(0)
    assert found.documents["text"].to_pylist() == ["b"]
    assert [(record.reason, record.columns) for record in found.unreadable] == [("no column 'text'", ("prompt",))]
