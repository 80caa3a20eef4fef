"""What holds for the stages on any documents: cleaning twice is cleaning once, order and cuts do not change what stays."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.stages.clean import Clean
from gptctl.stages.clean import run as clean
from gptctl.text.cleaning.filter_presets import PRESETS
from tests.conftest import write_jsonl
from tests.fuzz.profile import examples
from tests.stages.deduped import dedup, kept, reference

WORDS = sorted({word for text in reference()[:40] for word in text.split()})
PIECES = [
    "\x00",
    "\r\n",
    "\u00a0",
    "â€™",
    "ï¬",
    "&amp;",
    "\u200b",
    "e\u0301",
    "<p>a</p>",
    "a@b.org",
    "\n\n\n",
    "  ",
    "1.",
    "\ufeff",
    "日本",
    "|",
]
pieces = st.lists(st.sampled_from(WORDS) | st.sampled_from(PIECES) | st.text(max_size=4), max_size=40).map(" ".join)


def cleaned(source: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    shutil.rmtree(out, ignore_errors=True)
    clean(Clean(inputs=(str(source),), out=str(out), executor="serial", **settings))
    return kept(out)


@pytest.mark.parametrize("preset", ["basic", *(name for name in PRESETS if name not in ("basic", "web"))])
def test_cleaning_twice_is_cleaning_once(preset: str, tmp_path: Path) -> None:
    """Nothing is repaired, dropped or masked that was not the first time. `web` drops lines, after which other rules see another text."""

    @given(st.lists(pieces, min_size=1, max_size=4))
    @examples(25, share=0.2)
    def look(texts: list[str]) -> None:
        write_jsonl(tmp_path / "a.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
        settings = {"preset": preset, "html": "never", "pii": True}
        once = cleaned(tmp_path / "a.jsonl", tmp_path / "once", **settings)
        if once:
            twice = cleaned(tmp_path / "once", tmp_path / "twice", **settings)
            assert [(row["id"], row["text"]) for row in twice] == [(row["id"], row["text"]) for row in once]

    look()


@pytest.mark.parametrize("method", ["minhash", "exact"])
def test_what_stays_does_not_depend_on_order_and_cuts(method: str, tmp_path: Path) -> None:
    """The clusters are the same sets of documents; with the longest kept, so are the texts that stay."""
    base = reference()[:12]

    @given(
        st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), min_size=2, max_size=14),
        st.randoms(use_true_random=False),
        st.integers(1, 3),
    )
    @examples(12, share=0.2)
    def look(chosen: list[tuple[int, int]], order: random.Random, files: int) -> None:
        rows = [{"id": f"d{n}", "text": variant(base[text], change, n)} for n, (text, change) in enumerate(chosen)]
        first = grouped(tmp_path / "one", [rows], method)
        order.shuffle(rows)
        cut = [rows[number::files] for number in range(files)]
        second = grouped(tmp_path / "two", [part for part in cut if part], method)
        assert first == second

    look()


def variant(text: str, change: int, number: int) -> str:
    """The text itself; or with some words changed or gone at its end, and of a length in bytes that no other has."""
    if not change:
        return text
    words = text.split()
    words[len(words) - change :] = [f"w{number}x{i}" for i in range(change)] if change < 7 else []
    made = " ".join(words)
    return made + "x" * (len(text.encode()) + 100 + number - len(made.encode()))


def grouped(folder: Path, parts: list[list[dict[str, str]]], method: str) -> tuple[list[str], int]:
    """Return the texts that stay, and the number of clusters."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    for number, part in enumerate(parts):
        write_jsonl(folder / "in" / f"{number}.jsonl", part)
    dedup(folder / "in", out=folder / "out", method=method, keep="longest", num_perm=32)
    stay = kept(folder / "out")
    return sorted(row["text"] for row in stay), len({row["cluster_id"] for row in stay})


@pytest.mark.parametrize("html", ["auto", "always", "never"])
@pytest.mark.parametrize("preset", PRESETS)
def test_input_without_a_readable_record(preset: str, html: str, tmp_path: Path) -> None:
    """A task may hold nothing but records that cannot be read: all of them are counted."""
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"other": 1}, {"text": None}])
    with pytest.raises(DataError, match="2 of 2 records are unreadable"):
        cleaned(tmp_path / "in", tmp_path / "none", preset=preset, html=html, max_bad=1, pii=True)
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": "A text that can be read."}])
    rows = cleaned(tmp_path / "in", tmp_path / "out", preset=preset, html=html, max_bad=1, pii=True)
    assert len(rows) <= 1
    assert (tmp_path / "out" / "quarantine.jsonl").read_text().count("\n") == 2
