"""dedup of repeated text: lines, paragraphs and passages that occurred before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, write_jsonl
from tests.stages.deduped import (
    dedup,
    kept,
    reference,
)

Gptctl = Callable[..., Ran]


def test_lines_and_paragraphs(tmp_path: Path, gptctl: Gptctl) -> None:
    """The first stays, wherever it stands; what went most often is shown; what has nothing left is dropped."""
    from pydoc_data.topics import topics

    menu = "Home | About us | Contact | Terms of service"
    rows = [{"id": name, "text": f"{menu}\n\n{topics[name]}"} for name in sorted(topics)]
    rows += [{"id": "again", "text": f"{menu}\n\n  {menu}  "}, {"id": "none", "text": ""}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    done = gptctl("dedup", "a.jsonl", "-o", "lines", "--method", "lines", "--json")
    assert done.code == 0, done.err
    seen: Counter[str] = Counter()
    expected: dict[str, int] = {}
    for row in rows:
        lines = [line.strip() for line in row["text"].split("\n")]
        expected[row["id"]] = sum(seen[line] == 0 or len(line) < 20 for line in set(lines) if line)
        seen.update(line for line in lines if len(line) >= 20)
    left = {row["id"]: row["text"] for row in kept(tmp_path / "lines")}
    assert "again" not in left and left["none"] == ""
    assert {name: len({line.strip() for line in text.split("\n") if line.strip()}) for name, text in left.items()} == {
        name: count for name, count in expected.items() if name != "again"
    }
    metrics = done.json["metrics"]
    repeats = Counter({line: count - 1 for line, count in seen.items() if count > 1})
    assert metrics["removed"] == metrics["repeats"] == repeats.total()
    assert [times for times, _ in metrics["often"]] == [times for _, times in repeats.most_common(5)]
    assert metrics["often"][0] == [len(topics) + 1, menu]
    assert all(repeats[line] == times for times, line in metrics["often"] if len(line) < 60)
    counts = done.json["counts"]
    assert counts["dropped"] == {"only_duplicates": 1}
    assert metrics["removed_bytes"] == counts["bytes_in"] - counts["bytes_kept"]
    assert metrics["changed"] == sum(row["text"] != left.get(row["id"]) for row in rows)
    for wanted in ("lines removed", "removed most often:", menu, "documents changed"):
        assert wanted in done.err
    found = dedup(tmp_path / "a.jsonl", out=tmp_path / "paragraphs", method="paragraphs")
    assert found.metrics["often"][0] == [len(topics) + 1, menu]
    assert 80 < found.metrics["removed"] < metrics["removed"]


def test_passages(tmp_path: Path) -> None:
    """50 words or more that stand before go, a passage is counted once, its neighbours stay."""
    pieces = reference()[:21]
    licence = " ".join(f"clause{n}" for n in range(70))
    rows = [{"id": f"d{n}", "text": f"{pieces[n]}\n{licence}\n{pieces[n + 1]}"} for n in range(0, 20, 2)]
    rows.append({"id": "quote", "text": "He wrote: " + " ".join(pieces[0].split()[10:70]) + " and no more."})
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = dedup(tmp_path / "a.jsonl", out=tmp_path / "out", method="substring")
    left = kept(tmp_path / "out")
    assert left[0]["text"] == rows[0]["text"]
    assert [row["text"] for row in left[1:-1]] == [f"{pieces[n]}\n{pieces[n + 1]}" for n in range(2, 20, 2)]
    assert left[-1]["text"] == "He wrote: and no more."
    assert found.metrics["often"] == [[9, licence[:60].rstrip()], [1, found.metrics["often"][1][1]]]
    assert found.metrics["removed"] == found.metrics["changed"] == 10
    dedup(tmp_path / "a.jsonl", out=tmp_path / "long", method="substring", min_words=71)
    assert all(licence in row["text"] for row in kept(tmp_path / "long")[:-1])


@pytest.mark.parametrize("method", ["lines", "substring"])
def test_repeated_text_against_what_was_there_before(method: str, tmp_path: Path) -> None:
    """What OLD has goes from NEW, as if both were one input; what OLD repeats itself counts for nothing."""
    from pydoc_data.topics import topics

    rows = [{"id": name, "text": topics[name]} for name in sorted(topics)]
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    write_jsonl(old, rows[:40] + rows[:5])
    write_jsonl(new, rows[40:] + rows[:3])
    alone = dedup(new, out=tmp_path / "alone", method=method)
    found = dedup(new, out=tmp_path / "out", method=method, against=(str(old),))
    both = dedup(old, new, out=tmp_path / "together", method=method)
    together = [row["text"] for row in kept(tmp_path / "together")]
    mine = [row["text"] for row in kept(tmp_path / "out")]
    assert mine == together[len(together) - len(mine) :]
    assert alone.metrics["removed"] < found.metrics["removed"] < both.metrics["removed"]
    assert alone.metrics["repeats"] < found.metrics["repeats"] < both.metrics["repeats"]
