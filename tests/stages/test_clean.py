"""clean through the real command line: filters and presets, explanations, forecasts, masking, evaluation data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from gptctl.io.dataset import manifest
from tests.conftest import Ran, documents, tree_bytes, write_jsonl

Gptctl = Callable[..., Ran]
PROSE = (
    "The history of the town began with a small harbour that the fishermen of the coast had built. "
    "People came from all parts of the country to live there, and with them came trade and work. "
    "Nobody could have said at that time what the place would be a hundred years later. "
    "It was to become one of the largest ports, known to every sailor who crossed the sea. "
    "Today its old streets have been restored, and visitors walk them with great pleasure. "
    "Much of this is told in the books of a library that stands near the water."
)
GERMAN = (
    "Die Geschichte der Stadt begann mit einem kleinen Hafen, den die Fischer der Küste gebaut hatten. "
    "Aus allen Teilen des Landes kamen die Menschen, um dort zu leben und zu arbeiten. "
) * 2


def rows(gptctl: Gptctl, folder: str) -> list[dict[str, Any]]:
    """Read a dataset folder as JSON lines."""
    return [
        json.loads(line) for line in gptctl("inspect", folder, "--limit", "0", "--format", "jsonl").out.splitlines()
    ]


def test_the_web_preset_in_order(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pages.jsonl", [
        {"id": "good", "text": PROSE, "url": "https://example.org/a"},
        {"id": "blocked", "text": PROSE, "url": "http://www.casino.example:80/a"},
        {"id": "german", "text": GERMAN},
        {"id": "list", "text": "one item of many\n" * 60},
        {"id": "short", "text": "This is a short English text of one sentence."},
        {"id": "code", "text": PROSE + "\nThe body of this function is { return 0; } as you see."},
        {"id": "mail", "text": PROSE + " Write to jane.doe@example.org for more."},
    ])  # fmt: skip
    done = gptctl("clean", "pages.jsonl", "-o", "out", "--preset", "web", "--keep-rejects", "--json",
                  "--set", "url_blocklist.domains=casino.example")  # fmt: skip
    assert done.code == 0, done.err
    rejected = {
        row["id"]: row["reason"]
        for row in pa.ipc.open_file(tmp_path / "out/rejects/part-00000.arrow").read_all().to_pylist()
    }
    assert {row["id"]: row["reason"] for row in rows(gptctl, "out/rejects")} == rejected
    assert rejected == {
        "blocked": "url_blocklist.domains",
        "german": "language.min_score",
        "list": "gopher_repetition.max_duplicate_line_share",
        "short": "gopher_repetition.max_top_3_gram_char_share",
        "code": "c4.filter_curly_bracket",
    }
    kept = {row["id"]: row for row in rows(gptctl, "out")}
    assert kept["mail"]["text"].endswith("Write to <EMAIL> for more.")
    assert (kept["good"]["text"], kept["good"]["language"]) == (PROSE, "en")
    assert done.json["metrics"]["changed"]["pii: email"] == 1


def test_language_flag_and_its_settings_meet(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"id": "en", "text": PROSE}, {"id": "de", "text": GERMAN}])
    done = gptctl("clean", "d.jsonl", "-o", "de", "--language", "de", "--set", "language.min_score=0.5", "--json")
    assert (done.code, done.json["counts"]["dropped"]) == (0, {"language.min_score": 1}), done.err
    assert [row["id"] for row in rows(gptctl, "de")] == ["de"]
    done = gptctl("clean", "d.jsonl", "-o", "any", "--json")
    assert [(row["id"], row["language"]) for row in rows(gptctl, "any")] == [("en", "en"), ("de", "de")]
    done = gptctl("clean", "d.jsonl", "-o", "x", "--language", "klingon")
    assert (done.code, "'klingon'" in done.err) == (2, True)
    done = gptctl("clean", "d.jsonl", "-o", "bare", "--set", "identify_language=false")
    assert "language" not in rows(gptctl, "bare")[0]


def test_explain_shows_each_figure_and_writes_nothing(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"id": "a", "text": PROSE}, {"id": "b", "text": "hi there"}])
    done = gptctl("clean", "d.jsonl", "--filters", "gopher_repetition,gopher_quality", "--explain", "b", "--json")
    assert done.code == 0, done.err
    found = done.json["metrics"]
    assert (done.json["status"], found["verdict"]) == ("explained", "dropped")
    rules = {rule["reason"]: rule for rule in found["rules"]}
    top_2_gram = rules["gopher_repetition.max_top_2_gram_char_share"]
    assert (top_2_gram["figure"], top_2_gram["threshold"], top_2_gram["fails"]) == (1.0, 0.2, True)
    assert (top_2_gram["filter"], top_2_gram["datatrove"]) == ("gopher_repetition", "top_2_gram")
    min_words = rules["gopher_quality.min_words"]
    assert (min_words["figure"], min_words["dropped_if"], min_words["key"]) == (2.0, "below", "min_words")
    assert min_words["datatrove"] == "gopher_short_doc"
    assert not rules["gopher_repetition.max_duplicate_line_share"]["fails"]
    shown = " ".join(done.err.split())
    assert "gopher_repetition max_top_2_gram_char_share top_2_gram 1 above 0.2 drops" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"d.jsonl"}
    done = gptctl("clean", "d.jsonl", "--explain", "zzz")
    assert (done.code, "no document has the id 'zzz'" in done.err) == (2, True)
    assert gptctl("clean", "d.jsonl").code == 2


def test_a_dry_run_foretells_the_funnel(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE}, {"text": "short"}] * 40)
    plan = gptctl("clean", "d.jsonl", "-o", "out", "--dry-run", "--json").json["plan"]
    assert (plan["sample"]["in"], plan["sample"]["dropped"], plan["kept_share"]) == (80, {"length.min_chars": 40}, 0.5)
    assert not (tmp_path / "out").exists()


def test_evaluation_data_is_found(gptctl: Gptctl, tmp_path: Path) -> None:
    question = "what is the name of the small harbour that the fishermen of the northern coast had built in winter"
    write_jsonl(tmp_path / "eval.jsonl", [{"question": question.capitalize() + "?", "answer": "none"}])
    write_jsonl(
        tmp_path / "d.jsonl",
        [{"id": "leak", "text": f"Quiz: {question.upper()}!\n{GERMAN}"}, {"id": "clean", "text": PROSE}],
    )
    command = (
        "clean",
        "d.jsonl",
        "--decontaminate",
        "eval.jsonl",
        "--set",
        "contamination.text_column=question",
        "--json",
    )
    done = gptctl(*command, "-o", "out")
    assert (done.code, done.json["counts"]["dropped"]) == (0, {"contamination.words": 1}), done.err
    done = gptctl(*command, "-o", "marked", "--set", "contamination.action=mark")
    assert [row["contaminated"] for row in rows(gptctl, "marked")] == [True, False]
    write_jsonl(tmp_path / "eval.jsonl", [{"question": "something else " * 5}])
    assert gptctl(*command, "-o", "out").code == 5


def test_line_ends_of_other_systems_are_no_reason_to_go(gptctl: Gptctl, tmp_path: Path) -> None:
    text = PROSE.replace(". ", ".\r\n") + "\r\n"
    write_jsonl(tmp_path / "d.jsonl", [{"text": text}])
    command = ("clean", "d.jsonl", "--filters", "fineweb", "--set", "normalize=false", "--json")
    assert gptctl(*command, "-o", "ours").json["counts"]["dropped"] == {}
    theirs = gptctl(*command, "-o", "theirs", "--filter-compat", "datatrove")
    assert theirs.json["counts"]["dropped"] == {"fineweb.min_punctuated_line_share": 1}


def test_repeated_lines_go_and_are_counted(gptctl: Gptctl, tmp_path: Path) -> None:
    menu = "Home - About us - Contact - Terms of service - Imprint"
    write_jsonl(tmp_path / "d.jsonl", [{"text": f"{menu}\n{row['text']}"} for row in documents(30)])
    done = gptctl(
        "clean", "d.jsonl", "-o", "out", "--filters", "repeated_lines", "--set", "repeated_lines.unit=line", "--json"
    )
    assert done.json["metrics"]["changed"]["repeated_lines"] >= 30, done.err
    assert all(menu not in row["text"] for row in rows(gptctl, "out"))


def test_cleaning_twice_changes_nothing(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "d.jsonl",
        [*documents(40), {"id": "p", "text": PROSE}, {"id": "h", "text": f"<html><body><p>{PROSE}</p></body></html>"}],
    )
    assert gptctl("clean", "d.jsonl", "-o", "once", "--pii").code == 0
    assert gptctl("clean", "once", "-o", "twice", "--pii").code == 0
    assert tree_bytes(tmp_path / "once", "shards") == tree_bytes(tmp_path / "twice", "shards")


def test_nltk_words_say_what_ran(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE}])
    done = gptctl(
        "clean",
        "d.jsonl",
        "-o",
        "out",
        "--words",
        "nltk",
        "--filters",
        "gopher_quality",
        "--json",
        NLTK_DATA="/nonexistent",
    )
    assert done.code == 0, done.err
    assert done.json["metrics"]["words"] == "nltk words (no punkt data: untrained)"
    assert manifest.read(tmp_path / "out").metrics["words"] == done.json["metrics"]["words"]


def test_punkt_is_trained_on_the_input(gptctl: Gptctl, tmp_path: Path) -> None:
    text = "Mr. Smith met Dr. Jones. They spoke at length. Mr. Brown saw Dr. Green. It was late. "
    write_jsonl(tmp_path / "d.jsonl", [{"text": text * 20}] * 4)
    command = ("clean", "d.jsonl", "--words", "nltk", "--set", "punkt=train", "--filters", "gopher_quality", "--json")
    done = gptctl(*command, "-o", "out")
    assert done.code == 0, done.err
    assert done.json["metrics"]["words"] == "nltk words (punkt trained on this input)"
    assert gptctl(*command, "-o", "out").json["status"] == "up to date"


def test_sources_of_several_inputs_begin_with_their_names(gptctl: Gptctl, tmp_path: Path) -> None:
    """So dedup can prefer an input. A row that names its source keeps it, and a single input is as it was."""
    shared = documents(12)[:6]
    for folder, first in (("web", 0), ("code", 20), ("more/web", 40)):
        (tmp_path / folder).mkdir(parents=True)
        own = [{"text": row["text"]} for row in documents(60)[first : first + 5]]
        write_jsonl(tmp_path / folder / "part-1.jsonl", [{"text": row["text"]} for row in shared] + own)
    write_jsonl(tmp_path / "named.jsonl", [{"text": PROSE, "source": "a book"}, {"text": PROSE + PROSE}])
    named = ("web", "code", "more/web", "named.jsonl")
    assert gptctl("clean", *named, "-o", "clean").code == 0
    found = rows(gptctl, "clean")
    folder = tmp_path.name
    assert {row["source"] for row in found} == {
        f"{folder}/web/part-1.jsonl", "code/part-1.jsonl", "more/web/part-1.jsonl", "a book", "named.jsonl",
    }  # fmt: skip
    assert len({row["id"] for row in found}) == len(found)
    for out, first, second in (("unique", "code", "more/web"), ("other", "more/web", "code")):
        assert gptctl("dedup", "clean", "-o", out, "--keep", f"priority:{first},{second}").code == 0
        kept = [row["source"] for row in rows(gptctl, out)]
        assert kept.count(f"{first}/part-1.jsonl") > kept.count(f"{second}/part-1.jsonl") > 0
    assert gptctl("clean", "web", "-o", "alone").code == 0
    assert {row["source"] for row in rows(gptctl, "alone")} == {"part-1.jsonl"}


def test_what_was_looked_for_in_vain_is_said(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE, "url": "https://a.example/x", "link": 1}, {"text": GERMAN}])
    write_jsonl(tmp_path / "eval.jsonl", [{"question": "something else " * 8, "answer": "a b"}])
    done = gptctl("clean", "d.jsonl", "-o", "out", "--decontaminate", "eval.jsonl", "--pii", "--language", "en,de",
                  "--set", "mask.kinds=iban", "--json")  # fmt: skip
    assert done.code == 0, done.err
    for line in (
        "evaluation data: 1 row, column question (not answer; --set contamination.text_column=* compares all)",
        "no document shares 13 words in a row with the evaluation data",
        "no personal data was found",
        "no document was dropped by: language",
    ):
        assert line in done.err.splitlines()
    assert done.json["metrics"]["found"] == {"documents with evaluation texts": 0, "personal data": 0}
    done = gptctl("clean", "d.jsonl", "-o", "bare", "--preset", "none")
    assert not any(line.startswith("no ") for line in done.err.splitlines())


def test_a_blocklist_needs_urls(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE, "link": "https://a.example/x"}])
    command = ("clean", "d.jsonl", "-o", "out", "--filters", "url_blocklist", "--set", "url_blocklist.words=casino")
    for more in ((), ("--dry-run",)):
        done = gptctl(*command, *more)
        assert done.code == 3
        assert "no document has a URL in column 'url'; columns: id, text, source, link" in done.err
    done = gptctl(*command, "--set", "url_blocklist.column=link", "--force")
    assert (done.code, "no document was dropped by: url_blocklist" in done.err) == (0, True), done.err


def test_filters_that_can_drop_nothing(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE}])
    for name in ("url_blocklist", "language"):
        for more in ((), ("--dry-run",)):
            done = gptctl("clean", "d.jsonl", "-o", "out", "--filters", f"length,{name}", *more)
            assert (done.code, f"the filter {name} has nothing to drop" in done.err) == (2, True), done.err
    assert gptctl("clean", "d.jsonl", "-o", "web", "--preset", "web").code == 0


def test_little_kept_is_a_warning_and_no_next_command(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": GERMAN}] * 30 + [{"text": PROSE}])
    for more, warning in (
        (("--language", "zh"), "NOTHING WAS KEPT of 31 documents; most often because of language.min_score (31)"),
        (
            ("--language", "en"),
            "only 1 of 31 documents (3.2%) was kept; most often because of language.min_score (30)",
        ),
    ):
        for dry in ((), ("--dry-run",)):
            done = gptctl("clean", "d.jsonl", "-o", more[1], *more, *dry, "--json")
            assert (done.code, f"warning: {warning}" in done.err, "next: " in done.err) == (0, True, False), done.err
            assert done.json["warnings"][-1] == f"{warning}, a key that --set changes"  # behind the one on languages
    done = gptctl("dedup", "zh", "-o", "unique")
    assert (done.code, done.error_lines) == (
        3,
        [
            "error: zh holds no documents: gptctl clean kept none of 31",
            "hint: run it again with other settings: most often, language.min_score dropped them",
        ],
    )
    done = gptctl("clean", "d.jsonl", "-o", "de", "--language", "de", "--json")
    assert ("next: gptctl dedup de" in done.err, done.json["warnings"]) == (True, [])


def test_dropped_labels_are_a_warning(gptctl: Gptctl, tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text,category\n" + "No light,a\n" * 3 + "The light does not work at all,b\n")
    done = gptctl("clean", "tickets.csv", "-o", "out")
    assert "warning: 3 of the dropped documents have a label (column 'category')" in done.err
    assert (
        "next: gptctl dedup out" not in gptctl("clean", "tickets.csv", "-o", "none", "--set", "length.min_chars=99").err
    )
    assert "have a label" not in gptctl("clean", "tickets.csv", "-o", "all", "--preset", "none").err


def test_a_named_id_column_must_be_there(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"text": PROSE, "key": "k"}, {"text": GERMAN}])
    (tmp_path / "d.csv").write_text(f'text,key\n"{PROSE}",k\n')
    for out, name in enumerate(("d.jsonl", "d.csv")):
        done = gptctl("clean", name, "-o", out, "--id-column", "kee")
        assert (done.code, f"{name} has no column 'kee'; it has: text, key" in done.err) == (3, True), done.err
        assert gptctl("clean", name, "-o", out, "--id-column", "key", "--force").code == 0


def test_files_without_columns_take_no_names_of_columns(gptctl: Gptctl, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text(PROSE)
    for command in ("clean", "dedup", "tokenize"):
        done = gptctl(command, "notes", "-o", "out", "--text-column", "body", "--dry-run")
        assert done.code == 2
        assert "--text-column cannot have an effect: a.txt and the others have no columns" in done.err
    write_jsonl(tmp_path / "notes" / "b.jsonl", [{"body": GERMAN}])
    done = gptctl("clean", "notes", "-o", "out", "--text-column", "body", "--keep-rejects")
    assert (done.code, "no document was dropped, so there are no rejects" in done.err) == (0, True), done.err
