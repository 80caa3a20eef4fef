"""The Python API is the stages: the same config, the same result as the command line."""

from collections.abc import Callable
from pathlib import Path

from gptctl.stages.clean import Clean, run
from gptctl.stages.pretrain import Pretrain
from tests.conftest import Ran, documents, tree_bytes, write_jsonl


def test_clean_from_python_equals_the_command_line(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    rows = [*documents(30), {"id": "short", "text": "tiny"}]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    summary = run(Clean(inputs=(str(tmp_path / "raw.jsonl"),), out=str(tmp_path / "python")))
    assert (summary.counts.documents_in, dict(summary.counts.dropped)) == (31, {"length.min_chars": 1})
    assert gptctl("clean", "raw.jsonl", "-o", "shell").code == 0
    assert tree_bytes(tmp_path / "python") == tree_bytes(tmp_path / "shell")


def test_a_preset_is_applied_and_can_be_overridden() -> None:
    config = Pretrain(preset="char-cpu", model={"layers": 2})
    assert (config.model.layers, config.model.hidden_size, config.training.steps) == (2, 128, 2000)
    assert Clean(inputs=(), out="x", preset="none").filters == ()
    assert Clean(inputs=(), out="x", filters=("length",)).filters == ("length",)
