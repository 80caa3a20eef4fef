"""An evaluation as JUnit XML, which CI systems show as tests: one per gate, or one per metric if there are no gates."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from gptctl.core.visible import visible
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.scoring.report import Report

SUITE = "gptctl eval"


def render(report: Report, gates: Sequence[GateResult], seconds: float) -> str:
    """Return one test suite. A gate that was missed is a failure; metrics are properties of the suite."""
    computed = [GateResult(f"{name} is computed", True, f"{name} is {value}") for name, value in numbers(report)]
    cases = list(gates) or computed
    failed = sum(not item.passed for item in cases)
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": SUITE,
            "tests": str(len(cases)),
            "failures": str(failed),
            "errors": "0",
            "skipped": "0",
            "time": f"{seconds:.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in numbers(report):
        ElementTree.SubElement(properties, "property", {"name": visible(name), "value": str(value)})
    for item in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": SUITE, "name": visible(item.name), "time": "0"})
        if item.passed:
            ElementTree.SubElement(case, "system-out").text = visible(item.message)
        else:
            failure = ElementTree.SubElement(case, "failure", {"type": "gate", "message": visible(item.message)})
            failure.text = visible(item.message)
    root = ElementTree.Element("testsuites", {"name": SUITE, "tests": str(len(cases)), "failures": str(failed)})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def numbers(report: Report) -> list[tuple[str, float | int]]:
    """Return the numbers at the top of a report."""
    return [(name, value) for name, value in report.items() if type(value) in (int, float)]
