"""The plug-in in docs/plugins.md does what the page says."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPO, Ran, write_jsonl
from tests.docs.pages import blocks
from tests.docs.test_commands import lines

PAGE = REPO / "docs" / "plugins.md"


def test_the_filter_of_the_page(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    (code,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    (tmp_path / "capitals.py").write_text(code, encoding="utf-8")
    write_jsonl(tmp_path / "raw.jsonl", [
        {"id": "d0", "text": "Documents are written in sentences, with a capital at the start."},
        {"id": "d1", "text": "BUY NOW, ALL OF THIS AND MORE, and do not wait."},
        {"id": "d2", "text": "The Story Of A Title, As Printed On A Page."},
    ])  # fmt: skip
    calm, calmer, explain = [line for block in blocks(PAGE) if block.check == "plugins" for line in lines(block)]
    done = gptctl(*calm.split()[1:], "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["dropped"] == {"capitals.max_capital_share": 1}
    assert gptctl(*calmer.split()[1:], "--json").json["counts"]["dropped"] == {"capitals.max_capital_share": 2}
    assert "0.647059" in gptctl(*explain.split()[1:]).out.decode()
    recorded = json.loads((tmp_path / "calm" / "run.json").read_text())["plugins"]
    assert recorded["gptctl.text.filters.capitals"]["from"] == "capitals.py"


def test_the_error_of_the_page(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    (code,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    (tmp_path / "capitals.py").write_text(code.replace("def measure(", "def count("), encoding="utf-8")
    write_jsonl(tmp_path / "raw.jsonl", [{"id": "a", "text": "some text"}])
    done = gptctl("clean", "raw.jsonl", "-o", "out", "--plugin", "capitals.py", "--filters", "capitals")
    assert done.code == 2
    text = PAGE.read_text(encoding="utf-8")
    for line in done.error_lines:
        assert line.replace(f"{tmp_path}/", "") in text
