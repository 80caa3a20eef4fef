"""Setting one key of a table changes that key alone: in every command, table and key, and over every preset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gptctl.cli.stages import config_model, stage_names
from gptctl.core.config import (
    Layer,
    Settings,
    StageConfig,
    Values,
    bare,
    build,
    choices_of,
    declaration,
    flatten,
    is_list,
    key,
    look_up,
    merge,
    nest,
    plain,
    table_of,
)

CHOOSE_OTHERS = {"preset", "recipe", "filters"}  # keys that stand for the values of others
REQUIRED: Values = {"inputs": ["x"], "out": "y", "base": "m", "model": "m", "data": ["d"], "path": "p", "paths": ["p"]}


def presets(stage: str) -> list[Values]:
    """What chooses the presets of a command."""
    if stage == "clean":
        from gptctl.text.cleaning.filter_presets import PRESETS

        return [{"preset": name} for name in PRESETS] + [{"filters": ["c4"]}]
    if stage == "pretrain":
        from gptctl.model.config import preset_names

        return [{"preset": name} for name in preset_names()] + [{"recipe": "modern", "preset": "gpt2"}]
    return [{}]


COMMANDS = [(stage, chosen) for stage in stage_names() for chosen in [{}, *presets(stage)]]


def keys(model: type[Any], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a model, those of tables dotted."""
    for name, field in model.model_fields.items():
        if table := table_of(field.annotation):
            yield from keys(table, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def others(value: Any, field: FieldInfo) -> list[Any]:
    """Values to try in the place of a key's own."""
    kind = bare(field.annotation)
    if choices := choices_of(kind):
        return [choice for choice in choices if choice != value]
    if kind is bool:
        return [not value]
    if is_list(kind):
        lists: list[list[Any]] = [
            ["a"],
            [],
            [0.5, 0.25],
            ["f1"],
            ["length"],
            ["email"],
            ["nb"],
            ["en"],
            [1.0],
            ["sliding"],
            ["full"],
            [False],
        ]
        return [one for one in lists if one != value]
    if kind in (int, float):
        return [n for n in (1, 2, 3, 4, 8, 16, 4096, 0, 0.5, 0.25, 0.125, (value or 1) * 2) if n != value]
    return [
        text
        for text in ("other", "muon", "adamw", "longest", "web", "db", "b", "2MB", "serial", "3000", "utf-8", "group:a")
        if text != value
    ]


def made(model: type[StageConfig], *layers: Values) -> Values:
    """The values of a config made from Python, as dotted keys."""
    given = {name: REQUIRED[name] for name, field in model.model_fields.items() if field.is_required()}
    for layer in layers:
        given = merge(given, layer)
    return flatten(plain(model.model_validate(given)))


def names_of(dotted: str, field: FieldInfo) -> set[str]:
    """The keys that a key sets: itself, or those that it stands for."""
    return set(declaration(field).paths) or {dotted}


def differing(left: Values, right: Values) -> set[str]:
    return {name for name in left.keys() | right.keys() if left.get(name) != right.get(name)}


@pytest.mark.parametrize(
    ("stage", "chosen"),
    COMMANDS,
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_one_key_changes_that_key_alone(stage: str, chosen: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    model = config_model(stage)
    monkeypatch.setattr(model, "without_effect", lambda self: {})
    base = made(model, chosen)
    for dotted, field in keys(model):
        if dotted in CHOOSE_OTHERS | chosen.keys():
            continue
        own = base.get(dotted)
        assert differing(base, made(model, chosen, nest(dotted, own))) == set(), dotted
        fits = False  # but for the values of other keys
        for value in others(own, field):
            try:
                changed = made(model, chosen, nest(dotted, value))
            except ValidationError as error:
                fits = fits or all(".".join(map(str, one["loc"])) != dotted for one in error.errors())
                continue
            assert differing(base, changed) == names_of(dotted, field), (dotted, value)
            break
        else:
            assert fits, f"no other value for {dotted}, which is {own!r}"
            continue
        built, origins = build(
            model,
            [Layer("preset", model.preset_layer(chosen)), Layer("file", chosen), Layer("--set", nest(dotted, value))],
            placeholders=True,
        )
        assert differing(base, flatten(plain(built))) - REQUIRED.keys() <= names_of(dotted, field)
        for name in names_of(dotted, field):
            assert look_up(plain(built), name) == changed[name]
            assert origins[name] == "--set"


class Inner(Settings):
    """A table."""

    one: int = key(1, "")
    two: tuple[int, int] = key((1, 1), "")


class Outer(Settings):
    """A table in a table, with another default than its class."""

    inner: Inner = key(Inner(one=5), "")
    three: int = key(1, "")


class Sample(StageConfig):
    """A command."""

    outer: Outer = key(Outer(inner=Inner(two=(7, 7)), three=3), "")


@pytest.mark.parametrize(
    "given",
    [{"outer": {"inner": {"one": 9}}}, {"outer": {"inner": Inner(one=9)}}],
)
def test_a_default_that_is_an_instance(given: Values) -> None:
    """Tables in tables keep their other keys. A group of keys made in Python counts as the keys that were set on it."""
    assert plain(Sample.model_validate(given)) == {
        "plugins": [],
        "outer": {"inner": {"one": 9, "two": [7, 7]}, "three": 3},
    }
    assert plain(Sample())["outer"] == {"inner": {"one": 5, "two": [7, 7]}, "three": 3}


def test_finetune_clip() -> None:
    """The bug that this file is about: one key of finetune's recipe brought seven values of another recipe."""
    from gptctl.stages.finetune import Finetune

    plainly = Finetune(base="m", data=("d",), out="o").training
    clipped = Finetune.model_validate({"base": "m", "data": ["d"], "out": "o", "training": {"grad_clip": 0.5}}).training
    assert clipped == plainly.model_copy(update={"grad_clip": 0.5})
    assert (clipped.lr, clipped.schedule, clipped.batch_size, clipped.lm_weight) == (5e-4, "linear", 32, 0.0)
