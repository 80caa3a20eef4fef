"""The filter in docs/contributing.md does what the page says, as one new file in gptctl/text/filters/."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO, plain_environment, write_jsonl
from tests.docs.pages import blocks
from tests.docs.test_commands import lines

PAGE = REPO / "docs" / "contributing.md"


def test_a_filter_in_one_new_file(tmp_path: Path) -> None:
    found = blocks(PAGE)
    code = next(block.text for block in found if block.language == "python")
    clean, explain = lines(next(block for block in found if block.check == "contributing"))
    shutil.copytree(REPO / "gptctl", tmp_path / "gptctl", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "gptctl/text/filters/capitals.py").write_text(code, encoding="utf-8")
    write_jsonl(tmp_path / "raw.jsonl", [
        {"id": "d0", "text": "Documents are written in sentences, with a capital at the start."},
        {"id": "d1", "text": "BUY NOW, ALL OF THIS AND MORE, and do not wait."},
    ])  # fmt: skip

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        environment = plain_environment() | {"PYTHONPATH": str(tmp_path), "GPTCTL_ENGINE": "serial"}
        arguments = [sys.executable, "-m", *command.split()]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    done = run(f"{clean} --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["dropped"] == {"capitals": 1}
    done = run(explain)
    assert "capitals  0.647059   above 0.5  drops" in done.stderr
    refused = run(f"{clean} --set capitals.max_capital_share=2 -o other")
    assert refused.returncode == 2 and "max_capital_share" in refused.stderr
