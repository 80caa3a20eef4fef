"""What the pages say of the code, and of each other."""

import re
from pathlib import Path

import pytest

from gptctl.cli.stages import stage_names
from tests.conftest import REPO
from tests.docs.pages import PAGES
from tests.docs.reference import reference


def test_the_reference_is_that_of_the_code() -> None:
    assert (REPO / "docs" / "commands.md").read_text(encoding="utf-8") == reference(), (
        "python -m tests.docs.reference > docs/commands.md"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            place, _, part = target.partition("#")
            found = (page.parent / place) if place else page
            assert found.exists(), target
            if part:
                headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                assert part in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                    target
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_rows_of_tables_have_as_many_cells_as_their_header(page: Path) -> None:
    """A table is a header, a line of dashes, and rows. A row that no header precedes would be shown as text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    header = 0
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("|"):
            header = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        if not header:
            assert re.fullmatch(r"\|(:?-+:?\|)+", following.replace(" ", "")), f"no header above: {line}"
            header = cells
        assert cells == header and line.rstrip().endswith("|"), line


def test_the_index_has_each_page_and_each_stage_its_page() -> None:
    index = (REPO / "docs" / "README.md").read_text(encoding="utf-8")
    names = {page.name for page in (REPO / "docs").glob("*.md")} - {"README.md"}
    assert names == set(re.findall(r"\]\((\w[\w.-]+\.md)\)", index))
    assert {f"{stage}.md" for stage in stage_names()} <= names
