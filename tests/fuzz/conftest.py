"""What all fuzz tests share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: only a power cut undoes what was not flushed, and none is tried here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
