"""JUnit XML, Markdown and tables for people."""

from __future__ import annotations

from xml.etree import ElementTree

from gptctl.evals.comparison import compare
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.output import junit, markdown, tables
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions
from tests.evals.command import pairs

LABELS = ["a|b", "<b>c</b>", "\x1b[31m"]
ROWS = pairs(LABELS * 3, LABELS * 2 + LABELS[::-1])
OTHER = pairs(LABELS * 3, LABELS[::-1] * 2 + LABELS)
RESULT = scorer.score(ROWS, "labels", ScoringOptions())
CHECKS = [GateResult("f1 >= 0.9", False, "f1 0.8 < 0.9 \x07"), GateResult("accuracy >= 0", True, "accuracy is 0.7")]


def test_junit_has_a_case_for_each_gate() -> None:
    root = ElementTree.fromstring(junit.render(RESULT, CHECKS, 1.5).encode())
    [suite] = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "1.500")
    failed, passed = suite.findall("testcase")
    assert failed.find("failure").get("message") == "f1 0.8 < 0.9 \\x07"  # type: ignore[union-attr]
    assert (passed.get("name"), passed.find("failure")) == ("accuracy >= 0", None)
    figures = {found.get("name"): found.get("value") for found in suite.iter("property")}
    assert figures["accuracy"] == str(RESULT["accuracy"])


def test_junit_without_gates_has_a_case_for_each_figure() -> None:
    suite = ElementTree.fromstring(junit.render(RESULT, [], 0.0).encode())[0]
    assert suite.get("failures") == "0"
    assert "f1 is computed" in [case.get("name") for case in suite.findall("testcase")]


def test_markdown_survives_any_label() -> None:
    text = markdown.render(RESULT, CHECKS)
    assert "1 of 2 gates passed." in text
    assert "a\\|b" in text
    assert "<b>" not in text
    widths = {
        line.count("|") - line.count("\\|")
        for line in text.split("## Confusion")[1].splitlines()
        if line.startswith("|")
    }
    assert len(widths) == 1


def test_both_show_everything_beside_the_metrics() -> None:
    result = RESULT | {
        "compare": {"systems": ["a/new", "b/old"]} | compare.compare_rows(ROWS, OTHER, "labels", ScoringOptions()),
        "baselines": {"nb": {"f1": 0.5, "lift": {"f1": 0.1}, "mcnemar": {"b": 1, "c": 0, "p": 1.0}}},
        "leakage": {"n": 1, "exact": 1, "documents": 7, "rows": [], "clean": {"n": 8, "f1": 0.7}},
    }
    text = markdown.render(result, [])
    for part in (
        "| nb | 0.5000 (+0.1000) |",
        "Compared on the same rows",
        "| metric | new | old | difference | p |",
        "fixed: 4 rows that only new has right",
        "1 of 9 rows were found in 7 training documents",
    ):
        assert part in text
    titles = [table.title for table in tables.report_tables(result)]
    assert titles[1:3] == ["per class", "confusion"]
    assert "compared" in titles and "leakage (7 training documents)" in titles


def test_very_many_classes_are_not_shown() -> None:
    labels = [str(number) for number in range(40)]
    result = scorer.score(pairs(labels, labels), "labels", ScoringOptions(ci="none"))
    assert [table.title for table in tables.report_tables(result)] == ["tasks (macro)"]
    assert "## Per class" not in markdown.render(result, [])
