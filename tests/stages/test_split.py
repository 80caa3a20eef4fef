"""split: no near-duplicate on two sides, shares that are met, labels stratified; and what takes its output."""

from __future__ import annotations

import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Summary
from gptctl.io.dataset import manifest, shards
from gptctl.pipeline import data_splits
from gptctl.stages.dedup import Dedup
from gptctl.stages.split import Split, plan, run
from gptctl.text.dedup.shingles import Shingling
from tests.conftest import Ran, tree_bytes, write_jsonl
from tests.stages.deduped import corpus, dedup, reference
from tests.text.dedup import plain

Gptctl = Callable[..., Ran]
Row = dict[str, Any]
SPLITS = ("train", "val", "test")
LABELS = {"billing": 0.4, "bug": 0.3, "feature": 0.2, "login": 0.07, "other": 0.03}


def labelled(seed: int = 1) -> list[Row]:
    """Pieces of real text, all different, with labels that some have more often than others."""
    rng = random.Random(seed)
    labels = rng.choices(list(LABELS), list(LABELS.values()), k=len(reference()))
    return [{"id": f"t{i}", "text": text, "label": labels[i]} for i, text in enumerate(reference())]


def split(*inputs: Path, out: Path, context: Context | None = None, **settings: Any) -> Summary:
    """Run the stage in this process."""
    return run(Split(inputs=tuple(map(str, inputs)), out=str(out), **{"executor": "serial"} | settings), context)


def rows_of(out: Path, name: str) -> list[Row]:
    return shards.read_rows(out, manifest.read(out), name).to_pylist()


def sides(out: Path) -> dict[str, str]:
    """Return the split of each document by its id."""
    return {row["id"]: name for name in SPLITS for row in rows_of(out, name)}


def pairs_by_datasketch(rows: Iterable[Row], threshold: float) -> list[tuple[str, str]]:
    """Return the pairs of documents above a similarity: candidates of datasketch, compared in plain Python."""
    from datasketch import MinHash, MinHashLSH

    index, found, texts = MinHashLSH(threshold=0.5, num_perm=64), [], {}
    for row in rows:
        texts[row["id"]] = row["text"]
        signature = MinHash(num_perm=64, seed=9)
        signature.update_batch([" ".join(words).encode() for words in plain.shingles(row["text"], Shingling())])
        found += [(other, row["id"]) for other in index.query(signature)]
        index.insert(row["id"], signature)
    return [
        pair for pair in found if plain.jaccard(texts[pair[0]], texts[pair[1]], Shingling()) >= threshold
    ]  # fmt: skip


def test_no_near_duplicate_straddles(tmp_path: Path) -> None:
    """Every pair that datasketch finds is on one side; without the search for near-duplicates many are on two."""
    rows = [row for row in corpus() if len(row["text"].split()) > 20][:350]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    pairs = pairs_by_datasketch(rows, 0.8)
    done = split(source, out=tmp_path / "out", val=0.2, test=0.2)
    where = sides(tmp_path / "out")
    assert len(pairs) > 30 and len(where) == len(rows)
    assert [pair for pair in pairs if where[pair[0]] != where[pair[1]]] == []
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs(done.metrics["splits"][name]["documents"] - share * len(rows)) < 1
    assert done.metrics["duplicates"]["documents"] >= len({name for pair in pairs for name in pair})
    split(source, out=tmp_path / "exact", val=0.2, test=0.2, method="exact")
    where = sides(tmp_path / "exact")
    assert sum(where[one] != where[other] for one, other in pairs) > 5


def test_strata_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """Each label has as many documents in each split as scikit-learn gives it, but for the rounding."""
    from sklearn.model_selection import StratifiedShuffleSplit

    rows = labelled()
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    done = split(source, out=tmp_path / "out", val=0.15, test=0.1, stratify="label")
    labels = [row["label"] for row in rows]
    chosen = StratifiedShuffleSplit(
        1, train_size=int(len(rows) * 0.15 + 0.5), test_size=int(len(rows) * 0.1 + 0.5), random_state=0
    )
    val, test = next(chosen.split(rows, labels))
    theirs = {"val": Counter(labels[i] for i in val), "test": Counter(labels[i] for i in test)}
    for label in LABELS:
        for name in theirs:
            assert abs(done.metrics["labels"][label][name] - theirs[name][label]) <= 1, (label, name)
    for name in theirs:
        assert done.metrics["splits"][name]["documents"] == theirs[name].total()
    assert done.metrics["labels"] == {
        label: {name: sum(row["label"] == label for row in rows_of(tmp_path / "out", name)) for name in SPLITS}
        for label in sorted(LABELS)
    }


def test_the_same_for_any_number_of_tasks_and_another_for_another_seed(tmp_path: Path) -> None:
    rows = labelled()[:200]
    (tmp_path / "many").mkdir()
    for part in range(8):
        write_jsonl(tmp_path / "many" / f"{part}.jsonl", rows[part * 25 : part * 25 + 25])
    whole = write_jsonl(tmp_path / "in.jsonl", rows)
    split(whole, out=tmp_path / "one", stratify="label")
    split(whole, out=tmp_path / "small", stratify="label", max_memory="1MB", limit=200)
    split(tmp_path / "many", out=tmp_path / "parts", stratify="label")
    split(whole, out=tmp_path / "other", stratify="label", seed=5)
    assert sides(tmp_path / "one") == sides(tmp_path / "small") == sides(tmp_path / "parts")
    assert sides(tmp_path / "one") != sides(tmp_path / "other")


@pytest.mark.slow
def test_workers_and_pipes_give_the_same_bytes(tmp_path: Path, gptctl: Gptctl) -> None:
    write_jsonl(tmp_path / "in.jsonl", corpus())
    options = ("--by", "group:source", "--method", "minhash")
    assert gptctl("split", "in.jsonl", "-o", "one", *options, "--workers", "1").code == 0
    assert gptctl("split", "in.jsonl", "-o", "two", *options, "--workers", "2", "--max-memory", "1MB").code == 0
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    stream = gptctl("clean", "in.jsonl", "-o", "-", "--preset", "none")
    assert gptctl("split", "-", "-o", "piped", *options, stdin=stream.out).code == 0
    assert sides(tmp_path / "piped") == sides(tmp_path / "one")
    again = gptctl("split", "in.jsonl", "-o", "one", *options, "--json")
    assert again.json["status"] == "up to date" and "stay together" in again.err
    assert gptctl("doctor", "one", "--lineage").code == 0


def test_groups_stay_together(tmp_path: Path) -> None:
    """So do near-duplicates of different groups. Different labels are looked for among duplicates alone."""
    rows = [row | {"user": f"u{i % 40}", "label": "a"} for i, row in enumerate(labelled()[:300])]
    rows.append({"id": "copy", "text": rows[0]["text"], "user": "u7", "label": "b"})
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    done = split(source, out=tmp_path / "out", by="group:user")
    where, of_user = sides(tmp_path / "out"), defaultdict(set)
    for row in rows:
        of_user[row["user"]].add(where[row["id"]])
    assert all(len(found) == 1 for found in of_user.values())
    assert of_user["u0"] == of_user["u7"]
    assert {name for names in of_user.values() for name in names} == set(SPLITS)
    assert abs(done.metrics["splits"]["test"]["share"] - 0.1) < 16 / len(rows)
    assert done.metrics["conflicts"] == {"clusters": 1, "documents": 2}
    assert done.metrics["units"]["clusters"] <= 39  # the copy joins two groups


def test_time_decides(tmp_path: Path) -> None:
    """The latest documents are test. A late copy of an early document stays with it."""
    rows = [row | {"when": f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}"} for i, row in enumerate(labelled()[:200])]
    rows.append({"id": "late", "text": rows[3]["text"], "when": "2025-01-01T12:00:00Z"})
    random.Random(3).shuffle(rows)
    done = split(write_jsonl(tmp_path / "in.jsonl", rows), out=tmp_path / "out", by="time:when", val=0.2, test=0.1)
    times = {name: [row["when"] for row in rows_of(tmp_path / "out", name) if row["id"] != "late"] for name in SPLITS}
    assert max(times["train"]) < min(times["val"]) and max(times["val"]) < min(times["test"])
    assert sides(tmp_path / "out")["late"] == "train"
    assert (done.metrics["late_copies"], len(times["val"]), len(times["test"])) == (1, 40, 20)


EMPTY = (None, "", "   ", "NaN", "nan")


def test_a_document_without_a_label_is_no_class(tmp_path: Path) -> None:
    """It is quarantined, in JSON lines, CSV and Parquet; there may be more of them than unreadable records."""
    import pyarrow.parquet as pq

    rows = labelled()[:100]
    for number, value in enumerate(EMPTY):
        rows[number * 7]["label"] = value
    write_jsonl(tmp_path / "in.jsonl", rows)
    written = [f'{row["id"]},"{row["text"].replace(chr(34), "")}",{row["label"] or ""}' for row in rows]
    (tmp_path / "in.csv").write_text("\n".join(["id,text,label", *written]))
    numbers = [float("nan") if row["label"] in EMPTY else float(len(row["label"])) for row in rows]
    pq.write_table(pa.table({"id": [row["id"] for row in rows], "text": [row["text"] for row in rows], "label": numbers}),
                   tmp_path / "in.parquet")  # fmt: skip
    for suffix in ("jsonl", "csv", "parquet"):
        warnings: list[str] = []
        out = tmp_path / suffix
        done = split(tmp_path / f"in.{suffix}", out=out, stratify="label", context=Context(warn=warnings.append))
        assert dict(done.counts.quarantined) == {"no label": 5} and done.counts.kept == 95
        assert not set(done.metrics["labels"]) & {"", "None", "nan", "NaN", "   "}
        lines = [orjson.loads(line) for line in (out / "quarantine.jsonl").read_bytes().splitlines()]
        assert [line["position"] for line in lines] == [f"id t{number * 7}" for number in range(5)]
        assert any("5 documents have no label" in line for line in warnings)


def test_copies_with_different_labels_are_listed(tmp_path: Path) -> None:
    """By split and by dedup."""
    rows = labelled()[:60]
    rows += [row | {"id": f"copy of {row['id']}", "label": "bug"} for row in rows[:10]]
    wrong = {row["id"] for row in rows[:10] if row["label"] != "bug"}
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    for made, out in (
        (split(source, out=tmp_path / "a"), tmp_path / "a"),
        (dedup(source, out=tmp_path / "b"), tmp_path / "b"),
    ):
        table = pa.concat_tables(
            pa.ipc.open_file(path).read_all() for path in sorted((out / "conflicts").glob("*.arrow"))
        )
        listed = {row["id"]: row for row in table.to_pylist()}
        assert listed.keys() == wrong | {f"copy of {name}" for name in wrong}
        assert {row["label"] for name, row in listed.items() if name.startswith("copy")} == {"bug"}
        assert made.metrics["conflicts"] == {"clusters": len(wrong), "documents": 2 * len(wrong)}
        assert manifest.read(out).metrics["conflicts"] == made.metrics["conflicts"]
    warnings: list[str] = []
    dedup(source, out=tmp_path / "b", context=Context(warn=warnings.append))  # up to date
    assert warnings == [f"{len(wrong)} clusters of duplicates ({2 * len(wrong)} documents) have different labels in "
                        f"'label'; see gptctl inspect {tmp_path / 'b'}/conflicts"]  # fmt: skip
    with pytest.raises(DataError, match="no document has a label in column 'kind'"):
        dedup(source, out=tmp_path / "c", label_column="kind")
    assert not Dedup(inputs=("x",), out="y").without_effect().get("label_column")


def test_a_label_is_never_in_test_alone(tmp_path: Path) -> None:
    """A label of one document, and one whose documents are all copies, are in train, and this is said."""
    rows = labelled()[:100]
    rows[0]["label"] = "once"
    rows += [{"id": f"c{i}", "text": rows[1]["text"], "label": "copied"} for i in range(3)]
    rows[1]["label"] = "copied"
    warnings: list[str] = []
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    done = split(
        source, out=tmp_path / "out", stratify="label", val=0.4, test=0.4, context=Context(warn=warnings.append)
    )
    assert done.metrics["labels"]["once"] == {"train": 1, "val": 0, "test": 0}
    assert done.metrics["labels"]["copied"] == {"train": 4, "val": 0, "test": 0}
    assert any("the test split has no document of these labels: copied, once" in line for line in warnings)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"val": 0.6, "test": 0.4}, UsageError, "leave nothing to train on"),
        ({"val": 0, "test": 0}, UsageError, "divide nothing"),
        ({"out": "-"}, UsageError, "cannot write to a pipe"),
        ({"stratify": "kind"}, DataError, "there is no column 'kind'; it has: id, text, source, label"),
        ({"by": "group:user"}, DataError, "there is no column 'user'"),
        ({"by": "time:label"}, DataError, "no document has a value in label"),
        ({"stratify": "id", "text": 11_000}, DataError, "more than 10,000 different values"),
    ],
)
def test_what_cannot_be_divided(settings: Row, error: type[Exception], words: str, tmp_path: Path) -> None:
    settings = dict(settings)
    rows = [{"id": f"d{i}", "text": f"{i}", "label": "a"} for i in range(settings.pop("text", 30))]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    config = Split(**{"inputs": (str(source),), "out": str(tmp_path / "out"), "executor": "serial", **settings})
    with pytest.raises(error, match=words):
        run(config)
    assert not (tmp_path / "out").exists() or not (tmp_path / "out" / "work").exists()  # a typo binds nothing
    if "different values" not in words:
        with pytest.raises(error, match=words):
            plan(config, Context())


def test_by_is_checked() -> None:
    for value in ("groups:user", "group:", "cluster:x", "time"):
        with pytest.raises(ValueError, match="does not say what to divide by"):
            Split(inputs=("x",), out="y", by=value)
    assert Split(inputs=("x",), out="y", by="time:t").without_effect()["stratify"].startswith("with --by time")


def test_others_take_the_splits(tmp_path: Path, workspace: Path, gptctl: Gptctl) -> None:
    """tokenize keeps them, one of them is an input of any command, and what would mix them is refused."""
    source = write_jsonl(tmp_path / "in.jsonl", labelled()[:120])
    split(source, out=tmp_path / "parts", stratify="label")
    assert data_splits.find_splits(str(tmp_path / "parts")).named.keys() == set(SPLITS)
    done = gptctl("tokenize", "parts", "-o", "tokens", "--tokenizer", workspace / "tokens", "--executor", "serial")
    assert done.code == 0, done.err
    tokens = {name: {row["doc_id"] for row in rows_of(tmp_path / "tokens", name)} for name in SPLITS}
    assert {doc: name for name in SPLITS for doc in tokens[name]} == sides(tmp_path / "parts")
    dedup(tmp_path / "parts" / "shards" / "test", out=tmp_path / "unique")
    assert {
        row["id"] for row in shards.read_rows(tmp_path / "unique", manifest.read(tmp_path / "unique")).to_pylist()
    } == {row["id"] for row in rows_of(tmp_path / "parts", "test")}
    with pytest.raises(DataError, match="is divided into train, val, test, which this command would mix"):
        dedup(tmp_path / "parts", out=tmp_path / "x")
    refused = gptctl("tokenize", "parts", "-o", "x", "--val", "0.3")
    assert (refused.code, "divided into train, val and test already" in refused.err) == (2, True)


@pytest.mark.slow
def test_finetune_and_eval_take_the_splits(tmp_path: Path, workspace: Path, gptctl: Gptctl) -> None:
    """train is trained on, val selects the weights, test is scored; a changed input is noticed, an equal one is not."""
    rows = labelled()[:150]
    for row in rows[::30]:
        row["label"] = ""
    write_jsonl(tmp_path / "in.jsonl", rows)
    done = gptctl("split", "in.jsonl", "-o", "parts", "--stratify", "label", "--test", "0.2")
    assert (done.code, "gptctl finetune MODEL parts -o tuned --label-column label" in done.err) == (0, True), done.err
    tuned = gptctl("finetune", workspace / "run", "parts", "-o", "clf", "--epochs", "0.5", "--json")
    assert tuned.code == 0 and "held out" not in tuned.err, tuned.err
    scored = gptctl("eval", "clf", "parts", "-o", "scores", "--json").json["metrics"]
    sizes = {name: len(rows_of(tmp_path / "parts", name)) for name in SPLITS}
    assert {name: part["n"] for name, part in scored["splits"].items()} == {
        name: sizes[name] for name in ("val", "test")
    }
    assert (scored["split"], set(scored["baselines"])) == ("test", {"majority", "nb"})
    one = gptctl("eval", "clf", tmp_path / "parts" / "shards" / "val", "--json").json["metrics"]
    assert (one["split"], one["n"]) == ("val", sizes["val"])
    assert b"changed" not in gptctl("doctor", "clf", "scores", "--lineage").out
    shutil.rmtree(tmp_path / "parts")
    assert gptctl("split", "in.jsonl", "-o", "parts", "--stratify", "label", "--seed", "9").code == 0
    assert b"(changed)" in gptctl("doctor", "clf", "--lineage").out


def test_near_duplicates_are_found_by_more_bands_than_dedup_has(tmp_path: Path) -> None:
    """Pairs just above the threshold, of which dedup's bands miss some."""
    rng, rows = random.Random(2), []
    for number, text in enumerate(reference()[:100]):
        words = text.split()
        changed = list(words)
        for place in rng.sample(range(0, len(words), 6), 2):
            changed[place] = f"new{place}"
        rows += [{"id": f"a{number}", "text": " ".join(words)}, {"id": f"b{number}", "text": " ".join(changed)}]
    near = [
        (one["id"], other["id"])
        for one, other in zip(rows[::2], rows[1::2], strict=True)
        if plain.jaccard(one["text"], other["text"], Shingling()) >= 0.8
    ]
    split(write_jsonl(tmp_path / "in.jsonl", rows), out=tmp_path / "out", val=0.25, test=0.25)
    where = sides(tmp_path / "out")
    assert len(near) > 50 and [pair for pair in near if where[pair[0]] != where[pair[1]]] == []
    assert any(where[one] != where[other] for one, other in combinations(where, 2))
