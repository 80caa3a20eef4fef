"""What every filter promises: settings with defaults, rules named after their keys, one figure per rule and document."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gptctl.core.plugins import names
from gptctl.text.cleaning.filter_chain import FILTERS, load_filter
from gptctl.text.filters import DocumentBatch

# Rules that no key turns off: a document without text.
WITHOUT_KEY = {"empty"}


@pytest.mark.parametrize("name", names(FILTERS))
def test_each_rule_is_named_after_a_key(name: str) -> None:
    module = load_filter(name)
    config = module.Config(**({"languages": ("en",)} if name == "language" else {}))
    rules = module.rules(config)
    assert rules
    assert {rule.key for rule in rules} <= module.Config.model_fields.keys() | WITHOUT_KEY
    assert len({rule.key for rule in rules}) == len(rules)


@pytest.mark.parametrize("name", names(FILTERS))
def test_each_rule_has_a_figure_for_each_document(name: str) -> None:
    module = load_filter(name)
    config = module.Config()
    batch = DocumentBatch(pa.array(["One document of some words.", "", None], pa.large_string()))
    figures = module.measure(batch, config).figures
    assert figures.shape == (3, len(module.rules(config)))
