"""docs/troubleshooting.md quotes errors as the sources have them, below the right exit code."""

import re
import signal
from pathlib import Path

import pytest

from gptctl.core import errors
from gptctl.core.errors import GptctlError
from gptctl.core.watcher import HANDLED
from tests.conftest import REPO

PAGE = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CODES = {kind.__name__: kind.exit_code for kind in GptctlError.__subclasses__() if kind is not errors.StoppedError}
SIGNALS = {129, 130, 138, 143}  # of HANDLED, on Linux


def sections() -> dict[str, str]:
    """Give each section of the page by its heading."""
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def quoted() -> list[tuple[int, str]]:
    """Give each text in a first column, with the exit code of its section."""
    found = []
    for heading, section in sections().items():
        if head := re.fullmatch(r"Exit (\d): .+", heading):
            rows = [line for line in section.splitlines() if line.startswith("|")][2:]
            found += [(int(head[1]), row.split("`")[1]) for row in rows]
            assert all(re.match(r"\| `[^`]+` \| [^|]+ \| .+ \|$", row) for row in rows), heading
    return found


@pytest.fixture(scope="module")
def sources() -> str:
    """All of gptctl, f-strings over several lines in one."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(REPO / "gptctl").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize(("code", "text"), quoted(), ids=lambda value: str(value)[:30])
def test_quoted_as_in_the_sources(code: int, text: str, sources: str) -> None:
    assert "{" not in text  # nobody sees the name of a variable
    places = [found.start() for found in re.finditer(re.escape(text), sources)]
    assert places
    raised = (re.findall(r"\b(\w+Error)\(", sources[max(0, place - 300) : place]) for place in places)
    near = {CODES[names[-1]] for names in raised if names and names[-1] in CODES}
    assert code in near or not near  # none is near where the text is made apart from its error


def test_every_exit_code_has_its_section() -> None:
    told = {int(code) for heading in sections() if heading.startswith("Exit") for code in re.findall(r"\d+", heading)}
    assert {signal.Signals(number).name for number in HANDLED} == {"SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1"}
    assert told == {1, *CODES.values(), *SIGNALS}
    assert {code for code, _ in quoted()} == {2, 3, 4, 5, 6}
    assert len(quoted()) >= 45 and len(set(quoted())) == len(quoted())


def test_the_other_codes_are_in_a_table() -> None:
    table = next(section for heading, section in sections().items() if heading.startswith("Exit 7"))
    rows = [line.split("|")[1] for line in table.splitlines() if re.match(r"\| *\d", line)]
    codes = {int(code) for row in rows for code in re.findall(r"\d+", row)}
    assert codes == {1, errors.GateError.exit_code, errors.PipeClosedError.exit_code, *SIGNALS}
