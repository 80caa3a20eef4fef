"""The page of `gptctl report`: what stands on it, that it needs nothing else, and that data stays data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from markdown_it import MarkdownIt

from gptctl.core import checked_json
from gptctl.io.lineage import trace
from gptctl.reporting.html import PALETTE
from tests.conftest import Ran, documents, run_gptctl, write_jsonl

Gptctl = Callable[..., Ran]
VOID = {"meta", "br", "line", "circle", "rect", "polyline", "input"}


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), and its text; fails where one is closed that is not open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if self.open[-1:] != ["style"] else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def scored(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the workspace's classifier, and the page about it and all before it."""
    folder = tmp_path_factory.mktemp("report")
    done = run_gptctl(
        "eval", workspace / "classifier", workspace / "labelled", "-o", "scored", "--baseline", "majority", cwd=folder
    )
    assert done.code == 0, done.err
    done = run_gptctl("report", "scored", "-o", "page.html", "--json", cwd=folder)
    assert done.code == 0, done.err
    stages = [one["stage"] for one in done.json["metrics"]["outputs"]]
    assert stages == ["clean", "dedup", "tokenize", "pretrain", "finetune", "eval"]
    return folder


def test_the_whole_chain_stands_on_the_page(scored: Path, workspace: Path) -> None:
    page = Page(scored / "page.html")
    for words in (
        "documents in", "dropped: exact_duplicate", "Clusters of duplicates by size", "vocab size", "val loss",
        "written after step 20", "Confusion matrix", "baseline majority", "gptctl pretrain tokens -o run --preset test-modern",
        "Calibration", "95% interval", 'preset = "test-modern"', "torch 2.",
    ):  # fmt: skip
        assert words in page.words, words
    raw = json.loads((workspace / "clean" / "run.json").read_text())["inputs"]["raw.jsonl"]
    assert raw in page.words
    assert "place not recorded" not in page.words


def test_each_file_is_shown_at_the_place_where_it_was_read(tmp_path: Path) -> None:
    """The page hashes nothing again: it knows the files of several inputs, and evaluation data, by their names."""
    for place, number in (("a/one.jsonl", 30), ("b/one.jsonl", 40)):
        (tmp_path / place).parent.mkdir()
        write_jsonl(tmp_path / place, documents(number))
    write_jsonl(tmp_path / "questions.jsonl", [{"question": "word " * 20}])
    done = run_gptctl(
        "clean", "a/one.jsonl", "b", "-o", "out", "--decontaminate", "questions.jsonl", "--workers", "1", cwd=tmp_path
    )
    assert done.code == 0, done.err
    origins = {origin.path: list(origin.fingerprints) for origin in trace(str(tmp_path / "out")).origins}
    assert origins == {
        str(tmp_path / "questions.jsonl"): ["decontaminate questions.jsonl"],
        str(tmp_path / "a/one.jsonl"): ["one.jsonl"],
        str(tmp_path / "b"): ["b/one.jsonl"],
    }


def test_it_needs_nothing_else_and_everybody_can_read_it(scored: Path) -> None:
    """No script, nothing loaded; landmarks, headings in order, figures that say what they show, tables with heads."""
    page = Page(scored / "page.html")
    assert len((scored / "page.html").read_bytes()) < 200_000
    assert not {"script", "iframe", "img", "link", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "srcset", "xlink:href") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert all(svg["role"] == "img" for svg in page.all("svg"))
    pictures = (scored / "page.html").read_text().count("<svg ")
    assert pictures > 4 and pictures == len(page.all("desc")) == len(page.all("title")) - 1  # and the page's own
    assert all(head.get("scope") in ("col", "colgroup", "row") for head in page.all("th"))
    css = (scored / "page.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "@import" not in css and "url(" not in css
    assert "prefers-color-scheme:dark" in css


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("name", ["ink", "muted", "good", "bad", "c1", "c2", "c3", "c4"])
def test_text_has_the_contrast_of_wcag_aa(name: str, scheme: int) -> None:
    for behind in ("page", "card"):
        light, dark = sorted((luminance(PALETTE[name][scheme]), luminance(PALETTE[behind][scheme])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, behind


def test_data_stays_data(gptctl: Gptctl, tmp_path: Path) -> None:
    """Markup in texts, ids, columns and names is shown, not obeyed."""
    evil = "</p><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \x1b[31m"
    rows = [{"id": f"<b>{i}", "text": f"{evil} {row['text']}"} for i, row in enumerate(documents(6))]
    write_jsonl(tmp_path / "<i>raw.jsonl", [*rows, {"id": "short", "text": "<u>x"}])
    with (tmp_path / "<i>raw.jsonl").open("a") as file:
        file.write("<script>broken\n")
    command = ("clean", "<i>raw.jsonl", "-o", "<s>clean", "--keep-rejects", "--html", "never", "--set", "max_bad=0.5")
    assert gptctl(*command).code == 0
    assert gptctl("report", "<s>clean", "--card").code == 0
    page = Page(tmp_path / "report.html")
    assert not {"script", "img", "b", "i", "s", "u"} & {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>" in page.words and "{{ 7*7 }}" in page.words and "\x1b" not in page.words
    assert "<script>broken" in page.words
    assert "dropped: length.min_chars" in page.words
    card = DatasetCard.load(tmp_path / "dataset-card.md")
    tokens = MarkdownIt("commonmark").enable("table").parse(card.text)
    kinds = {token.type for block in tokens for token in (block, *(block.children or []))}
    assert not {"html_inline", "html_block", "link_open", "image"} & kinds
    assert card.data.pretty_name == "s-clean" and "<i>raw.jsonl" in card.text


def test_runs_under_way_killed_and_damaged(workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    """What there is is shown, and what is the matter is said."""
    killed = gptctl("pretrain", workspace / "tokens", "-o", "killed", "--preset", "test-modern", "--steps", "40", "--set", "log_every=1",
                    "--set", "eval_every=10", fault="kill:30")  # fmt: skip
    assert killed.code == -9
    shutil.copytree(workspace / "clean", tmp_path / "damaged")
    (tmp_path / "damaged" / "shards" / "part-00000.arrow").write_bytes(b"gone")
    shutil.copytree(workspace / "unique", tmp_path / "finishing")  # killed between its last record and its manifest
    (tmp_path / "finishing" / "manifest.json").unlink()
    record = checked_json.read(tmp_path / "finishing" / "run.json")
    assert record is not None
    checked_json.write(tmp_path / "finishing" / "run.json", record | {"status": "finishing"})
    done = gptctl("report", "killed", "damaged", "finishing", "-o", "page.html", "--json")
    assert done.code == 0, done.err
    states = {one["folder"]: one["state"] for one in done.json["metrics"]["outputs"]}
    assert (states["killed"], states["finishing"]) == ("killed", "killed")
    page = Page(tmp_path / "page.html")
    assert "was killed (pid" in page.words
    assert "train loss from" in page.words
    assert "not all of it can be shown" in page.words


@pytest.mark.slow
def test_runs_are_compared(workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    for name, lr in (("low", "0.0001"), ("high", "0.01")):
        made = gptctl(
            "pretrain",
            workspace / "tokens",
            "-o",
            name,
            "--preset",
            "test-modern",
            "--steps",
            "4",
            "--lr",
            lr,
            "--set",
            "eval_every=2",
        )
        assert made.code == 0, made.err
    assert gptctl("report", "low", "high").code == 0
    page = Page(tmp_path / "report.html")
    assert "Side by side: pretrain" in page.words and "Settings that differ" in page.words and "0.0001" in page.words
    assert all(f"Validation loss of each by {axis}" in page.words for axis in ("step", "tokens", "time"))
    again = (tmp_path / "report.html").read_bytes()
    assert gptctl("report", "low", "high").code == 0
    assert (tmp_path / "report.html").read_bytes() == again


def test_what_is_no_output(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    for path, code in (("nowhere", 2), (str(tmp_path), 3)):
        done = gptctl("report", path)
        assert (done.code, len(done.error_lines)) == (code, 2), done.err
    shutil.copytree(workspace / "clean", tmp_path / "clean")
    done = gptctl("report", "clean", "-o", "clean/report.html")
    assert (done.code, "inside an output" in done.err) == (2, True)


def test_the_cards_are_what_the_hub_reads(scored: Path, workspace: Path) -> None:
    """The hub's own classes load both cards; scores, license, languages and columns are those of the outputs."""
    done = run_gptctl(
        "report", "scored", "-o", "carded.html", "--card", "--license", "Apache-2.0", "--json", cwd=scored
    )
    assert done.code == 0, done.err
    assert done.json["outputs"] == ["carded.html", "model-card.md", "dataset-card.md"]
    model = ModelCard.load(scored / "model-card.md")
    known = json.loads((scored / "scored" / "metrics.json").read_text())
    results = {one.metric_type: one for one in model.data.eval_results}
    assert results["f1"].metric_value == pytest.approx(known["f1"], abs=1e-6)
    assert (results["f1"].task_type, results["f1"].dataset_name) == ("text-classification", "labelled")
    assert (model.data.license, model.data.base_model, model.data.pipeline_tag) == (
        "apache-2.0", ["run"], "text-classification",
    )  # fmt: skip
    assert model.data.datasets == ["labelled", "unique"] and "f1" in model.data.metrics
    assert "| baseline majority |" in model.text and "gptctl finetune run labelled" in model.text
    data = DatasetCard.load(scored / "dataset-card.md")
    assert {"id", "text", "source", "cluster_id"} <= {one["name"] for one in data.data.dataset_info["features"]}
    shards = list((workspace / "unique" / "shards").rglob("*.arrow"))
    assert data.data.dataset_info["download_size"] == sum(path.stat().st_size for path in shards)
    assert data.data.license == "apache-2.0" and data.data.language == ["en"]
    for card in (model, data):
        assert "/tmp/" not in card.content and str(scored) not in card.content
        assert "[More Information Needed]" in card.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["documents", "tokens"])
def test_datasets_loads_a_folder_with_its_card(kind: str, gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Files, splits and columns are as the card says; otherwise the library refuses them."""
    from datasets import load_dataset

    if kind == "documents":
        shutil.copytree(workspace / "unique", tmp_path / "made")
    else:
        write_jsonl(tmp_path / "raw.jsonl", documents(60))
        done = gptctl("tokenize", "raw.jsonl", "-o", "made", "--vocab-size", "300", "--val", "0.2", "--test", "0")
        assert done.code == 0, done.err
    assert gptctl("report", "made", "--card", "--license", "mit").code == 0
    shutil.copy(tmp_path / "dataset-card.md", tmp_path / "made" / "README.md")
    loaded = load_dataset(str(tmp_path / "made"), cache_dir=str(tmp_path / "cache"))
    shards = json.loads((tmp_path / "made" / "manifest.json").read_text())["shards"]
    assert sum(part.num_rows for part in loaded.values()) == sum(shard["rows"] for shard in shards)
    assert set(loaded) == ({"train"} if kind == "documents" else {"train", "val"})


def test_a_license_that_nobody_named_is_unknown(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    done = gptctl("report", workspace / "clean", "--card")
    assert (done.code, "license: unknown" in done.err) == (0, True), done.err
    assert DatasetCard.load(tmp_path / "dataset-card.md").data.license == "unknown"
    assert not (tmp_path / "model-card.md").exists()
    for options, words in ((("--license", "mit"), "without --card"), (("--card", "--license", "a b"), "not a license")):
        done = gptctl("report", workspace / "clean", *options)
        assert (done.code, words in done.err) == (2, True), done.err


def test_outputs_that_are_named_twice_are_shown_once(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """By a relative path, and by the absolute path of the lineage."""
    done = run_gptctl("report", "clean", "unique", "-o", tmp_path / "page.html", "--json", cwd=workspace)
    assert [one["stage"] for one in done.json["metrics"]["outputs"]] == ["clean", "dedup"], done.err


def test_rows_that_flipped_between_two_systems_are_listed(gptctl: Gptctl, tmp_path: Path) -> None:
    rows = [{"id": f"<{number}>", "label": "ab"[number % 2], "pred": "ab"[number % 2]} for number in range(8)]
    write_jsonl(tmp_path / "new.jsonl", rows)
    write_jsonl(tmp_path / "old.jsonl", [row | ({"pred": "c"} if row["id"] == "<3>" else {}) for row in rows])
    done = gptctl("eval", "--predictions", "new.jsonl", "--compare", "old.jsonl", "-o", "scores")
    assert done.code == 0, done.err
    assert gptctl("report", "scores").code == 0
    words = "".join(Page(tmp_path / "report.html").words.split())
    assert "Fixed:1rowthatonlynew.jsonlhasrightidlabelnew.jsonlold.jsonl<3>bbc" in words
