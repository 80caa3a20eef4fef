"""Fonts of this machine that have the characters of a text."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "DejaVu Sans"  # comes with matplotlib
PLACEHOLDERS = "Last Resort"  # has a box for every character


@dataclass(frozen=True)
class Fonts:
    """The names of fonts in the order of preference, and the characters that none of the installed fonts has."""

    names: list[str]
    missing: str


def find_fonts(text: str) -> Fonts:
    """Return the fonts that are needed to draw a text: matplotlib's own, and installed ones for what it lacks."""
    from matplotlib import font_manager

    def covered(path: str) -> set[int]:
        return set(font_manager.get_font(path).get_charmap())

    names = [DEFAULT]
    missing = {ord(c) for c in text if not c.isspace()} - covered(font_manager.findfont(DEFAULT))
    if missing:
        for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
            if not entry.name.startswith(PLACEHOLDERS) and (found := missing & covered(entry.fname)):
                names.append(entry.name)
                missing -= found
            if not missing:
                break
    return Fonts(names, "".join(map(chr, sorted(missing))))
