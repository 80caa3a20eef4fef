"""Layers of config values: precedence, TOML round trips, fingerprints, errors that name every bad key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core import config
from gptctl.core.config import Layer, SeedOption, Settings, WorkerOptions, key
from gptctl.core.errors import UsageError


class Inner(Settings):
    """A table."""

    depth: int = key(1, "", ge=0)
    names: tuple[str, ...] = key((), "")


class Sample(WorkerOptions, SeedOption):
    """A stage."""

    inner: Inner = key(Inner(), "")
    rate: float = key(0.5, "")
    note: str | None = key(None, "")


def test_layers_merge_table_by_table() -> None:
    built, origins = config.build(
        Sample, [Layer("file", {"inner": {"depth": 2}, "rate": 1}), Layer("--set", {"inner": {"names": "a, b"}})]
    )
    assert (built.inner.depth, built.inner.names, built.rate) == (2, ("a", "b"), 1.0)
    assert origins == {"inner.depth": "file", "rate": "file", "inner.names": "--set"}


def test_all_errors_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        config.build(Sample, [Layer("x", {"inner": {"dept": 1}, "rat": 1, "seed": "many"})])
    assert "'inner.dept' in x is not known (did you mean 'inner.depth'?)" in caught.value.message
    assert "'rat' in x is not known (did you mean 'rate'?)" in caught.value.message
    assert "seed in x takes a whole number, not 'many'" in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", {"a": 1}),
        ("a=1e-4", {"a": 1e-4}),
        ("a.b=true", {"a": {"b": True}}),
        ("a=no", {"a": "no"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": ""}),
    ],
)
def test_set_takes_a_toml_value_else_a_string(text: str, value: object) -> None:
    assert config.parse_set(text) == value


def test_set_without_equals() -> None:
    with pytest.raises(UsageError, match="key=value"):
        config.parse_set("steps")


@given(
    st.integers(0, 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_toml_round_trip_keeps_the_fingerprint(depth: int, rate: float, note: str) -> None:
    made = Sample(inner=Inner(depth=depth, names=(note,)), rate=rate, note=note)
    import tomllib

    again, _ = config.build(Sample, [Layer("file", tomllib.loads(config.to_toml(config.plain(made))))])
    assert again == made
    assert config.fingerprint(again.settings()) == config.fingerprint(made.settings())


def test_runtime_keys_are_not_settings() -> None:
    assert config.fingerprint(Sample(workers=1).settings()) == config.fingerprint(
        Sample(workers=8, executor="serial").settings()
    )
    assert config.fingerprint(Sample(seed=1).settings()) != config.fingerprint(Sample(seed=2).settings())


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = no")
    with pytest.raises(UsageError, match="not TOML"):
        config.read_toml(tmp_path / "c.toml", "clean", ["clean"])
    with pytest.raises(UsageError, match="no such config file"):
        config.read_toml(tmp_path / "d.toml", "clean", ["clean"])


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sample().seed = 3
