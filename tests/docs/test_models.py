"""The page about models is the one that the script makes from the families."""

from __future__ import annotations

from tests.conftest import REPO
from tests.docs.models import page


def test_the_page_is_up_to_date() -> None:
    assert (REPO / "docs" / "models.md").read_text(encoding="utf-8") == page()
