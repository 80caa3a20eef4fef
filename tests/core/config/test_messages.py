"""Messages about values: for every key of every command and any wrong value, our own sentences."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from gptctl.cli.stages import config_model, stage_names
from gptctl.core.config import Layer, build, declaration, nest, table_of
from gptctl.core.errors import UsageError
from tests.core.config.test_tables import keys

WRONG: tuple[Any, ...] = (
    "junk", "", "1e999", "-1", "nan", 10**30, -5, 1.5, float("inf"), True, [], [1, "x"], [[1]], {"a": 1}, {}, "\x00", "a,b",
)  # fmt: skip
THEIRS = ("input should", "unable to parse", "valid ", "value error", "assertion", "instance of", "type=", "pydantic")


@pytest.mark.parametrize("stage", stage_names())
def test_no_words_of_pydantic(stage: str) -> None:
    model = config_model(stage)
    seen: set[str] = set()

    def look(dotted: str, field: FieldInfo) -> None:
        origins = cycle((("--set", f"--set {dotted}"), ("c.toml", dotted)))
        for value, (origin, name) in zip(WRONG, origins, strict=False):
            try:
                build(model, [Layer(origin, nest(dotted, value))], placeholders=True)
            except UsageError as error:
                assert not any(word in error.message.lower() for word in THEIRS), error.message
                assert "is missing" not in error.message, error.message
                table = name.replace(dotted, dotted.split(".")[0])
                stood_for = declaration(field).paths
                assert any(one in error.message for one in (table, *stood_for, "-o ", "is called", "is not known")), (
                    error.message
                )
                assert error.hint
                seen.add(dotted)

    for dotted, field in keys(model):
        look(dotted, field)
    for name, field in model.model_fields.items():
        if table_of(field.annotation):
            look(name, field)
    assert len(seen) > len(list(keys(model))) // 2


def test_several_at_once_have_one_hint() -> None:
    with pytest.raises(UsageError) as caught:
        build(config_model("tokenize"), [Layer("flag", {"vocab_size": "8k", "val": "2"})])
    for part in ("--vocab-size takes", "--val takes", "INPUT... is missing", "-o is missing"):
        assert part in caught.value.message
    assert caught.value.hint == "see gptctl tokenize --help and --print-config"
