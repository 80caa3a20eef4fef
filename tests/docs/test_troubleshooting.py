"""docs/troubleshooting.md quotes errors as the sources have them, below the right exit code."""

import re
from pathlib import Path

import pytest

from gptctl.core import errors
from tests.conftest import REPO

PAGE = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CODES = {"DataError": 3, "UsageError": 2, "MachineError": 4, "ConflictError": 5, "DivergedError": 6}


def quoted() -> list[tuple[int, str]]:
    """Give each text in a first column, with the exit code of its section."""
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        if head := re.match(r"Exit (\d)", section):
            found += [(int(head[1]), text) for text in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)]
    return found


@pytest.fixture(scope="module")
def sources() -> str:
    """All of gptctl, f-strings over several lines in one."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(REPO / "gptctl").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize(("code", "text"), quoted(), ids=lambda value: str(value)[:30])
def test_quoted_as_in_the_sources(code: int, text: str, sources: str) -> None:
    places = [found.start() for found in re.finditer(re.escape(text), sources)]
    assert places
    raised = (re.findall(r"\b(\w+Error)\(", sources[max(0, place - 300) : place]) for place in places)
    near = {CODES[names[-1]] for names in raised if names and names[-1] in CODES}
    assert code in near or not near  # none is near where the text is made apart from its error


def test_codes() -> None:
    assert {name: getattr(errors, name).exit_code for name in CODES} == CODES
    assert len(quoted()) >= 45
