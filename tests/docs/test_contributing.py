"""The files in docs/contributing.md do what the page says, each as one new file of a copy of the package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, plain_environment, write_jsonl
from tests.docs.pages import blocks
from tests.docs.test_commands import lines

PAGE = REPO / "docs" / "contributing.md"


def files() -> dict[str, str]:
    """Give each file that the page shows whole, by the path that was named last before it."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    shown = [block for block in blocks(PAGE) if block.language in ("python", "toml")]
    paths = (re.findall(r"`(gptctl/\S+\.(?:py|toml))`", "\n".join(text[: block.line])) for block in shown)
    return {path[-1]: block.text for path, block in zip(paths, shown, strict=True)}


@pytest.mark.slow
def test_one_new_file_each(tmp_path: Path) -> None:
    shutil.copytree(REPO / "gptctl", tmp_path / "gptctl", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(files()) == 3
    for path, code in files().items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(code, encoding="utf-8")
    write_jsonl(tmp_path / "raw.jsonl", [
        {"id": "d0", "text": "Documents are written in sentences, with a capital at the start."},
        {"id": "d1", "text": "BUY NOW, ALL OF THIS AND MORE, and do not wait."},
        {"id": "d2", "text": "The Story Of A Title, As Printed On A Page."},
    ])  # fmt: skip
    write_jsonl(
        tmp_path / "predictions.jsonl",
        [{"label": gold, "pred": pred} for gold, pred in zip("aaaabb", "aaabbb", strict=True)],
    )

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        environment = plain_environment() | {"PYTHONPATH": str(tmp_path), "GPTCTL_EXECUTOR": "serial"}
        arguments = [sys.executable, "-m", *command.split()]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    commands = [line for block in blocks(PAGE) if block.check == "contributing" for line in lines(block)]
    calm, calmer, explain, score, plan = commands
    done = run(f"{calm} --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["dropped"] == {"capitals.max_capital_share": 1}
    assert json.loads(run(f"{calmer} --json").stdout)["counts"]["dropped"] == {"capitals.max_capital_share": 2}
    assert "capitals max_capital_share 0.647059 above 0.5 drops" in " ".join(run(explain).stdout.split())
    refused = run(f"{calm} --set capitals.max_capital_share=2")
    assert refused.returncode == 2 and "max_capital_share" in refused.stderr
    found = json.loads(run(score).stdout)["metrics"]
    assert abs(found["kappa"] - (6 * 5 - 18) / (6 * 6 - 18)) < 1e-12 and found["accuracy"] == 5 / 6
    low, high = found["intervals"]["kappa"]
    assert low < found["kappa"] <= high
    planned = json.loads(run(plan).stdout)["plan"]
    block = 2 * 2 * 32 + (32 * 3 * 32 + 3 * 32) + (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32)
    assert planned["parameters"] == 512 * 32 + 64 * 32 + 6 * block + 2 * 32 and planned["steps"] == 100
