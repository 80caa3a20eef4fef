"""A result as JUnit XML, which CI systems show as tests: a test case for each gate, or for each metric without one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from gptctl.evals.scoring.metric_results import Values
from gptctl.evals.stats.gates import Check

SUITE = "gptctl eval"
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def render(result: Values, checks: Sequence[Check], seconds: float) -> str:
    """Write one test suite. A gate that was missed is a failure; metrics stand in its properties."""
    measured = [Check(f"{name} is measured", True, f"{name} is {value}") for name, value in figures(result)]
    cases = list(checks) or measured
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
    for name, value in figures(result):
        ElementTree.SubElement(properties, "property", {"name": clean(name), "value": str(value)})
    for item in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": SUITE, "name": clean(item.name), "time": "0"})
        if item.passed:
            ElementTree.SubElement(case, "system-out").text = clean(item.message)
        else:
            failure = ElementTree.SubElement(case, "failure", {"type": "gate", "message": clean(item.message)})
            failure.text = clean(item.message)
    root = ElementTree.Element("testsuites", {"name": SUITE, "tests": str(len(cases)), "failures": str(failed)})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def figures(result: Values) -> list[tuple[str, float | int]]:
    """List the numbers of a result that stand by themselves."""
    return [(name, value) for name, value in result.items() if type(value) in (int, float)]


def clean(text: str) -> str:
    """Replace characters that XML cannot hold: labels may have any."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
