"""The table of reasons in docs/clean.md names every rule of every filter, with datatrove's name for it."""

import re

from gptctl.core import plugins
from tests.conftest import REPO

# A filter whose rules depend on a setting.
SETTINGS = {"language": {"languages": ("en",)}}


def test_the_table_of_reasons_is_complete() -> None:
    expected = {}
    for name in plugins.names("gptctl.text.filters"):
        module = plugins.load("gptctl.text.filters", name)
        for rule in module.rules(module.Config(**SETTINGS.get(name, {}))):
            expected[f"{name}.{rule.key}"] = rule.datatrove
    page = (REPO / "docs" / "clean.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| .* \| (?:`(\w+)` )?\|$", page, re.MULTILINE))
    others = {"classifier.keep_fraction": "", "html_seconds": "", "html_crash": "", "contamination.words": ""}
    assert table == expected | others
