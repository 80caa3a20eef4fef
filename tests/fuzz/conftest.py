"""What all fuzz tests share."""

from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Take back what training sets for its thread: floats are drawn here that it would flush to zero."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: only a power cut undoes what was not flushed, and none is tried here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
