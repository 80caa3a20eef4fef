"""What the report shows of an evaluation."""

from __future__ import annotations

from typing import Any

from gptctl.io.lineage import Output
from gptctl.reporting.sections.evaluation import MAX_FLIPPED, show_eval
from gptctl.reporting.sections.section import Section


def shown(metrics: dict[str, Any]) -> Section:
    section = Section(Output("scores", {"stage": "eval", "summary": {"metrics": metrics}}, None, ()), 1)
    show_eval(section)
    return section


def test_a_comparison_shows_both_scores_and_the_rows_that_flipped() -> None:
    row = {"id": "t<1>", "label": "bug", "pred": "bug", "other": "question"}
    comparison = {
        "systems": ["new", "old"],
        "n": 60,
        "mcnemar": {"b": 31, "c": 1, "p": 1e-6},
        "flipped": {"fixed": [row] * 31, "broken": [row | {"pred": "question", "other": "bug"}]},
        "f1": {"value": 0.9, "other": 0.4, "difference": 0.5, "interval": [0.4, 0.6], "p": 0.001},
    }
    tables = {table.title: table for table in shown({"f1": 0.9, "compare": comparison}).tables}
    compared = tables["Compared on the same rows"]
    assert compared.columns[:3] == ("", "new", "old")
    assert compared.rows == (("f1", "0.9000", "0.4000", "0.5000", "0.4000 to 0.6000", "0.001"),)
    fixed = tables["Fixed: 31 rows that only new has right, the first 20"]
    assert fixed.rows == (("t<1>", "bug", "bug", "question"),) * MAX_FLIPPED
    assert tables["Broken: 1 row that only old has right"].rows == (("t<1>", "bug", "question", "bug"),)


def test_many_classes_are_a_list_of_the_most_frequent_errors() -> None:
    labels = [f"c{number}" for number in range(31)]
    counts = [[9 if row == column else 0 for column in range(31)] for row in range(31)]
    counts[3][4], counts[5][6] = 1, 3
    section = shown({"f1": 0.9, "confusion": {"labels": labels, "matrix": counts, "invalid": [0] * 31}})
    [table] = [table for table in section.tables if "errors" in table.title]
    assert section.matrix is None
    assert table.rows == (("c5", "c6", "3", "25.0%"), ("c3", "c4", "1", "10.0%"))
