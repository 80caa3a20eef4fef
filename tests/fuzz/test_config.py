"""Whatever a TOML file, --set, the environment or a flag says: a config, or exit code 2 with one line and a hint."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from gptctl.cli.resolve import resolve
from gptctl.cli.stages import config_model, stage_names
from gptctl.core.config import Layer, StageConfig, plain, show
from gptctl.core.errors import UsageError
from tests.fuzz.mutate import mutated
from tests.fuzz.profile import examples

STAGES = stage_names()
ARGUMENTS = {"inputs": ["x"], "out": "y", "model": "m", "data": "d", "tokens": "t", "path": "p"}
# TOML's own limits: no surrogates, 64-bit integers.
texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts | st.datetimes() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def keys_of(stage: str) -> list[str]:
    """The keys that a stage knows, those of its tables dotted."""
    found: list[str] = []
    for name, field in config_model(stage).model_fields.items():
        found.append(name)
        inner = getattr(field.default, "model_fields_set", None)
        if inner is not None:
            found += [f"{name}.{key}" for key in type(field.default).model_fields]
    return found


def resolved(stage: str, file: Path | None = None, sets: list[str] | None = None) -> StageConfig | None:
    """Resolve a config as the command line does, and show it; None where it was refused as it must be."""
    model = config_model(stage)
    flags = {name: value for name, value in ARGUMENTS.items() if name in model.model_fields}
    try:
        config, origins = resolve(stage, Layer("flag", flags), file, sets or [])
    except UsageError as error:
        assert error.exit_code == 2 and error.message and error.hint
        return None
    show(config, origins)
    plain(config)
    config.settings()
    config.sources()
    return config


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("GPTCTL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("stage", STAGES)
def test_any_value_for_any_key(stage: str, tmp_path: Path) -> None:
    """In a file, by --set as TOML, by --set as text."""
    file = tmp_path / "c.toml"
    names = st.sampled_from(keys_of(stage)) | texts

    @given(st.lists(st.tuples(names, values), max_size=4), st.booleans())
    @examples(60)
    def look(chosen: list[tuple[str, Any]], nested: bool) -> None:
        table: dict[str, Any] = {}
        for name, value in chosen:
            first, _, rest = name.partition(".")
            if rest and isinstance(table.setdefault(first, {}), dict):
                table[first][rest] = value
            elif not rest:
                table[first] = value
        file.write_text(tomli_w.dumps({stage: table} if nested else table), encoding="utf-8")
        resolved(stage, file)
        resolved(stage, None, [f"{name}={value}" for name, value in chosen])
        resolved(
            stage,
            None,
            [f"{name}={tomli_w.dumps({'v': value}).removeprefix('v = ').strip()}" for name, value in chosen],
        )

    look()


@given(
    st.binary(max_size=60)
    | mutated(b'preset = "basic"\nseed = 3\n[clean]\nfilters = ["length"]\n[clean.length]\nmin_chars = 1\n')
)
@example(b"v = " + b"[" * 5000)
@example(b"seed = " + b"9" * 5000)
@example(b"clean = 3")
@example(b"[[clean]]\nseed = 1")
@examples(200)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(data)
    resolved("clean", file)


@given(st.text(max_size=40) | st.text("ab.=[]{}\"'1-,\n #", max_size=30))
@example("seed=" + "9" * 5000)
@example("filters=" + "[" * 5000)
@example("filters={a=" * 500)
@example("mask.style=\ud800")
@example(".=1")
@example("a..b=1")
@examples(300)
def test_any_set(text: str) -> None:
    resolved("clean", None, [text])


@given(
    st.sampled_from(["PRESET", "SPLIT__BY", "LENGTH__MIN_CHARS", "FILTERS", "SEED", "MASK", "A__", "__", "SEED__A"]),
    st.text(string.printable, max_size=20),
)
@examples(100)
def test_any_environment(name: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"GPTCTL_{name}", value)
        resolved("clean")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "c.toml")
    assert resolved("clean", tmp_path / "c.toml") is None
