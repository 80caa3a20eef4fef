"""dedup through the real command line, on real text: the same bytes any way, in the memory that it is given; its report."""

from __future__ import annotations

import io
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gptctl.core.errors import ConflictError, DataError, MachineError, UsageError
from gptctl.io.dataset import manifest, stream
from gptctl.text.dedup.whole_documents import candidates, decisions, search
from gptctl.text.dedup.whole_documents.decisions import Decisions
from gptctl.text.dedup.whole_documents.verification import VerifiedPairs, VerifyPairs
from tests.conftest import REPO, Ran, read_jsonl, run_gptctl, tree_bytes, write_jsonl
from tests.stages.deduped import (
    Row,
    cluster_table,
    corpus,
    dedup,
    kept,
    plan_of,
    reference,
    stream_of,
)
from tests.stages.test_chain import shell

Gptctl = Callable[..., Ran]


def test_the_report(unique: tuple[Path, Ran]) -> None:
    """Funnel, sizes of clusters, the largest with samples, and pairs that were none, for people and for programs."""
    out, done = unique
    metrics, table = done.json["metrics"], cluster_table(out)
    assert metrics == manifest.read(out).metrics
    sizes = Counter(Counter(row["cluster_id"] for row in table.values()).values())
    assert metrics["clusters"] == {str(size): count for size, count in sorted(sizes.items())}
    assert 0 < metrics["false_positives"] < metrics["candidates"]
    by_cluster = Counter(row["cluster_id"] for row in table.values())
    assert [size for _, size, _ in metrics["largest"]] == [size for _, size in by_cluster.most_common(5)]
    for wanted in (
        "- exact_duplicate",
        "clusters of duplicates:",
        "  3  ",
        "4 to 7",
        "largest clusters:",
        "- below the threshold",
    ):
        assert wanted in done.err
    for cluster, size, sample in metrics["largest"]:
        assert f"{cluster}  " in done.err and sample in done.err and by_cluster[cluster] == size
    again = run_gptctl("dedup", out.parent / "raw", "-o", out, "--json")
    assert (again.json["status"], again.json["metrics"]) == ("up to date", metrics)
    assert "largest clusters:" in again.err


@pytest.mark.slow
def test_any_way_gives_the_same_bytes(unique: tuple[Path, Ran], raw: Path, tmp_path: Path) -> None:
    """Workers, engines, memory, pipes; and of the survivors all survive."""
    out, _ = unique
    done = run_gptctl("dedup", raw, "-o", "one", "--workers", "1", "--max-memory", "1MB", cwd=tmp_path)
    assert done.code == 0, done.err
    assert tree_bytes(tmp_path / "one") == tree_bytes(out)
    dedup(raw, out=tmp_path / "serial")
    assert tree_bytes(tmp_path / "serial") == tree_bytes(out)
    script = f"""
    gptctl dedup {raw} -o - --workers 2 > first.arrows && gptctl dedup - -o second < first.arrows
    """
    piped = shell(script, tmp_path)
    assert piped.returncode == 0, piped.stderr.decode()
    left = len(kept(out))
    assert left - 2 <= len(kept(tmp_path / "second")) <= left


def test_memory_cuts_the_keys_into_ranges(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sorted, and what is compared, at once grows with --max-memory; what comes out does not."""
    sorted_keys: list[int] = []
    text_bytes: set[int] = set()
    pair_buckets, verify = candidates.pair_buckets, VerifyPairs.__call__

    def counted(keys: Any, docs: Any) -> Any:
        sorted_keys.append(len(keys))
        return pair_buckets(keys, docs)

    def noted(self: VerifyPairs, docs: tuple[int, int]) -> VerifiedPairs:
        text_bytes.add(self.text_bytes)
        return verify(self, docs)

    monkeypatch.setattr(candidates, "pair_buckets", counted)
    monkeypatch.setattr(VerifyPairs, "__call__", noted)
    most = {}
    for memory in ("1MB", "100MB"):
        sorted_keys.clear()
        text_bytes.clear()
        dedup(raw, out=tmp_path / memory, max_memory=memory)
        most[memory] = max(sorted_keys)
        assert sum(sorted_keys) >= 10 * 1347
        assert search.SORTING_BYTES * max(sorted_keys) < 1.2 * int(memory[:-2]) * 10**6
        assert text_bytes == {max(2**20, int(memory[:-2]) * 10**6 // 8)}
    assert most["100MB"] == 10 * 1347 > most["1MB"]
    assert tree_bytes(tmp_path / "1MB") == tree_bytes(tmp_path / "100MB")


def test_a_cluster_of_20000(tmp_path: Path) -> None:
    """No step looks at all pairs: each document is compared with a few others. Too little memory says how much it is."""
    rng = random.Random(1)
    words = reference()[7].split()
    rows = []
    for number in range(20_000):
        changed = list(words)
        changed[rng.randrange(len(words))] = f"x{number}"
        rows.append({"id": str(number), "text": " ".join(changed)})
    write_jsonl(tmp_path / "near.jsonl", rows)
    with pytest.raises(MachineError, match="more duplicates than --max-memory holds") as caught:
        dedup(tmp_path / "near.jsonl", out=tmp_path / "out", max_memory="1MB")
    assert caught.value.exit_code == 4
    enough = (caught.value.hint or "").rpartition(" ")[2]
    found = dedup(tmp_path / "near.jsonl", out=tmp_path / "out", max_memory=enough)
    assert found.counts.kept < 20
    assert found.metrics["candidates"] < 10 * 20_000
    assert sum(int(size) * count for size, count in found.metrics["clusters"].items()) >= 19_990


def test_other_settings_inputs_and_old_documents_are_a_conflict(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:40])
    write_jsonl(tmp_path / "old.jsonl", corpus()[40:80])
    against = (str(tmp_path / "old.jsonl"),)
    dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against)
    assert dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against, max_memory="2MB").status == "up to date"
    for changed in ({"threshold": 0.7}, {"keep": "longest"}, {"against": ()}, {"verify": False}, {"method": "exact"}):
        with pytest.raises(ConflictError):
            dedup(tmp_path / "new.jsonl", out=tmp_path / "out", **({"against": against} | changed))
    write_jsonl(tmp_path / "old.jsonl", corpus()[40:81])
    with pytest.raises(ConflictError, match=r"against old\.jsonl"):
        dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against)
    with pytest.raises(ConflictError, match=r"new\.jsonl"):
        dedup(tmp_path / "old.jsonl", out=tmp_path / "out", against=against)


def test_what_does_not_go_together(tmp_path: Path, gptctl: Gptctl) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", corpus()[:5])
    wrong: list[tuple[Row, str]] = [
        ({"index": "datasketch", "keep": "longest"}, "--index datasketch works with"),
        ({"index": "datasketch", "against": (str(source),)}, "--index datasketch works with"),
        ({"index": "datasketch", "method": "exact"}, "--index datasketch works with"),
        ({"redis": "redis://localhost"}, "redis=URL needs --index datasketch"),
        ({"method": "lines", "keep": "longest"}, "cuts text out of them"),
    ]
    for settings, wanted in wrong:
        with pytest.raises(UsageError, match=wanted):
            dedup(source, out=tmp_path / "out", **settings)
        with pytest.raises(UsageError, match=wanted):
            plan_of(source, **settings)
    done = gptctl("dedup", "a.jsonl", "-o", "out", "--max-memory", "10kB")
    assert (done.code, len(done.error_lines), "too little" in done.err) == (2, 2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["exact", "lines", "paragraphs", "substring"])
def test_any_way_gives_the_same_bytes_by_any_method(method: str, raw: Path, tmp_path: Path) -> None:
    dedup(raw, out=tmp_path / "two", method=method, executor="processes", workers=2, max_memory="1MB")
    dedup(raw, out=tmp_path / "one", method=method)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["minhash", "substring"])
def test_ray_gives_the_same_bytes(method: str, raw: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Also where nobody says how many workers a cluster has."""
    pytest.importorskip("ray")
    done = gptctl("dedup", raw, "-o", "ray", "--executor", "ray", "--method", method)
    assert done.code == 0, done.err
    dedup(raw, out=tmp_path / "one", method=method)
    assert tree_bytes(tmp_path / "ray") == tree_bytes(tmp_path / "one")


def test_odd_inputs(tmp_path: Path) -> None:
    """One document, equal ones, empty and null texts, nothing at all."""
    write_jsonl(tmp_path / "one.jsonl", [{"text": "one"}])
    write_jsonl(tmp_path / "equal.jsonl", [{"text": reference()[3]}] * 300)
    write_jsonl(tmp_path / "blank.jsonl", [{"text": text} for text in ("", None, "", " ", "x")])
    (tmp_path / "empty.jsonl").write_text("")
    for method in ("minhash", "exact", "lines", "substring"):
        blank = 3 if method in ("minhash", "exact") else 4
        for name, left in (("one", 1), ("equal", 1), ("blank", blank)):
            found = dedup(tmp_path / f"{name}.jsonl", out=tmp_path / f"{name}-{method}", method=method, max_bad=0.2)
            assert found.counts.kept == left, (method, name)
            assert found.counts.quarantined.total() == (name == "blank")
        with pytest.raises(DataError, match="no record"):
            dedup(tmp_path / "empty.jsonl", out=tmp_path / f"empty-{method}", method=method)
    assert len(cluster_table(tmp_path / "equal-minhash")) == 300


def test_seeds_of_any_size(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", corpus()[:50])
    for seed in (-1, 2**40):
        assert dedup(tmp_path / "a.jsonl", out=tmp_path / str(seed), seed=seed).counts.kept > 20


def test_a_limit(raw: Path, tmp_path: Path) -> None:
    """Only the first documents are looked at."""
    found = dedup(raw, out=tmp_path / "some", limit=600)
    rows = read_jsonl(raw)[:600]
    write_jsonl(tmp_path / "some.jsonl", rows)
    dedup(tmp_path / "some.jsonl", out=tmp_path / "same")
    assert found.counts.documents_in == 600
    assert [row["id"] for row in kept(tmp_path / "some")] == [row["id"] for row in kept(tmp_path / "same")]


def test_a_dry_run_foretells_the_disk(raw: Path, unique: tuple[Path, Ran], tmp_path: Path, gptctl: Gptctl) -> None:
    plan = gptctl("dedup", raw, "-o", "out", "--dry-run", "--json", "--workers", "2", "--max-memory", "1MB").json[
        "plan"
    ]
    assert (plan["bands"], plan["rows_per_band"]) == (9, 13)
    assert plan["candidate_probability"] == {f"{s}0": round(1 - (1 - s**13) ** 9, 4) for s in (0.7, 0.8, 0.9)}
    metrics = unique[1].json["metrics"]
    assert plan["documents"] == pytest.approx(1347, rel=0.1)
    assert plan["bytes_per_document_on_disk"] == pytest.approx(16 * 10 + 48 + 5, abs=1)
    # The shingles of the candidates come on top, some 1.3 bytes for each byte of their text.
    text = sum(len(row["text"].encode()) for row in corpus() if row["id"] in cluster_table(unique[0]))
    assert metrics["disk_bytes"] == pytest.approx(plan["disk_bytes"] + 1.3 * text, rel=0.3)
    assert plan["sort_ranges"] == pytest.approx(10 * 1347 * search.SORTING_BYTES / 500_000, abs=1)
    assert not (tmp_path / "out").exists()
    for method in ("exact", "lines", "substring"):
        facts = plan_of(raw, method=method)
        found = dedup(raw, out=tmp_path / method, method=method)
        assert facts["disk_bytes"] == pytest.approx(found.metrics["disk_bytes"], rel=0.25), method
    assert plan_of(raw, index="datasketch")["index_bytes"] > 5_000_000
    assert "documents" not in plan_of(Path("-"))


def test_survivors_are_looked_up_for_many_tasks_at_once(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each task would open nearly all others' runs: a square of the input."""
    rows = read_jsonl(raw)
    piped = stream_of(*(rows[first : first + 130] for first in range(0, 1300, 130)))
    monkeypatch.setattr(stream, "standard_input", lambda: io.BytesIO(piped))
    looked_up: list[int] = []
    describe = Decisions.describe

    def counted(self: Decisions, part: slice) -> pa.Table:
        looked_up.append(len(self.clusters.docs[part]))
        return describe(self, part)

    monkeypatch.setattr(Decisions, "describe", counted)
    dedup(Path("-"), out=tmp_path / "at once")
    assert looked_up == [0, len(cluster_table(tmp_path / "at once"))]
    looked_up.clear()
    monkeypatch.setattr(decisions, "DOCUMENT_BYTES", 10_000)
    dedup(Path("-"), out=tmp_path / "in steps", max_memory="1MB")
    assert max(looked_up) <= 100 and 5 < len(looked_up) < 12
    assert tree_bytes(tmp_path / "in steps") == tree_bytes(tmp_path / "at once")


@pytest.mark.slow
def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """Each line of docs/dedup.md works; those with Redis are planned only, as the server is elsewhere."""
    rows = corpus()
    for number, name in enumerate(("clean", "monday", "tuesday", "wednesday")):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "a.jsonl", rows[100 * number : 100 * number + 150])
    text = (REPO / "docs" / "dedup.md").read_text()
    commands = re.findall(r"^gptctl (dedup [^#\n]+)|`gptctl (dedup [^`]+)`", text, re.MULTILINE)
    assert len(commands) > 10
    for command in (block or inline for block, inline in commands):
        words = command.split()
        out = tmp_path / words[words.index("-o") + 1]
        if words[1] == "clean" or "redis" in command:
            shutil.rmtree(out, ignore_errors=True)
        done = run_gptctl(*words, *(["--dry-run"] if "redis" in command else []), cwd=tmp_path)
        assert done.code == 0, (command, done.err)
        assert "--dry-run" in command or "redis" in command or manifest.read(out).counts.kept
