"""Chinese text from raw documents to an F1 score, through the real command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import chinese
from tests.conftest import Ran, write_jsonl

Gptctl = Callable[..., Ran]


def test_web_thresholds_of_the_language(gptctl: Gptctl, tmp_path: Path) -> None:
    """Chinese prose is kept, lists and English text are not; English thresholds are warned of."""
    listed = "我们昨天下午一起去公园里散步，天气非常好。\n" * 30
    english = "The history of the town began with a small harbour that the fishermen of the coast had built. " * 3
    rows = [*chinese.documents(3), {"id": "list", "text": listed}, {"id": "english", "text": english}]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    done = gptctl("clean", "raw.jsonl", "-o", "web", "--preset", "web", "--language", "zh", "--keep-rejects", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["kept"] == 3
    assert done.json["counts"]["dropped"] == {
        "gopher_repetition.max_duplicate_line_share": 1,
        "language.min_score": 1,
    }
    assert done.json["metrics"]["segmenters"] == {"Chinese by rjieba": 4}
    assert "words: Chinese by rjieba" in done.err
    both = gptctl("clean", "raw.jsonl", "-o", "both", "--preset", "web", "--language", "zh,en")
    assert "the thresholds of --preset web are those for English, also for zh" in both.err


def test_the_language_of_most_documents_is_offered(gptctl: Gptctl, tmp_path: Path) -> None:
    """English thresholds drop Chinese, German and Russian text: the summary says what would keep it."""
    english = {
        "id": "en",
        "text": "The history of the town began with a small harbour that the fishermen had built. " * 4,
    }
    german = "Die Geschichte der Stadt begann mit einem kleinen Hafen, den die Fischer gebaut hatten. " * 4
    russian = "История города началась с небольшой гавани, которую построили рыбаки побережья. " * 4
    said = {
        "zh": ([row["text"] for row in chinese.documents(3)], "Chinese (zh)"),
        "de": ([german] * 3, "German (de)"),
        "ru": ([russian] * 3, "Russian (ru)"),
    }
    for code, (texts, name) in said.items():
        write_jsonl(tmp_path / f"{code}.jsonl", [english, *({"id": str(n), "text": t} for n, t in enumerate(texts))])
        for more in ((), ("--dry-run",)):
            done = gptctl("clean", f"{code}.jsonl", "-o", f"out-{code}", "--preset", "web", *more)
            assert f"3 of 4 documents are in {name}, and only English (en) is kept: use --language {code}" in done.err
            assert "for which --preset web has thresholds" in done.err
    done = gptctl("clean", "zh.jsonl", "-o", "german", "--language", "german")
    assert "only German (de) is kept: use --language zh" in done.err and "thresholds" not in done.err
    assert (
        "documents are in" not in gptctl("clean", "zh.jsonl", "-o", "fine", "--preset", "web", "--language", "zh").err
    )


@pytest.mark.parametrize("command", ["dedup", "split"])
def test_options_that_find_near_copies_of_short_texts_are_named(gptctl: Gptctl, tmp_path: Path, command: str) -> None:
    """A changed character changes several segmented words. The summary names options, and these find the copies."""
    texts = [row["text"][:60] for row in chinese.documents(20)]
    copies = [f"{text[:30]}{'你' if text[30] != '你' else '我'}{text[31:]}" for text in texts]
    write_jsonl(tmp_path / "raw.jsonl", [{"id": str(n), "text": text} for n, text in enumerate([*texts, *copies])])
    more = ["--val", "0.2"] if command == "split" else []
    done = gptctl(command, "raw.jsonl", "-o", "words", *more, "--json")
    assert done.code == 0 and done.json["metrics"]["segmenters"] == {"Chinese by rjieba": 40}, done.err
    options = "--set shingle=chars --ngram 3 --threshold 0.7"
    assert "near-duplicates were compared by segmented words" in done.err and f"{options} finds more" in done.err
    by_characters = gptctl(command, "raw.jsonl", "-o", "characters", *more, *options.split(), "--json")
    assert by_characters.code == 0 and "segmented" not in by_characters.err, by_characters.err
    if command == "dedup":
        assert done.json["counts"]["kept"] > 20 >= by_characters.json["counts"]["kept"]
    else:
        found = [one.json["metrics"]["duplicates"]["documents"] for one in (done, by_characters)]
        assert found[0] < 40 and found[1] == 40


@pytest.mark.slow
def test_from_raw_text_to_a_score(gptctl: Gptctl, tmp_path: Path) -> None:
    """clean, dedup, tokenize, pretrain, a classifier and its F1."""
    rows = chinese.documents(180)
    copies = [
        row | {"id": row["id"] + "-copy", "text": row["text"].replace("。", "！", 1) + "今日"} for row in rows[::6]
    ]
    write_jsonl(tmp_path / "raw.jsonl", rows + copies)
    chain = (
        "clean raw.jsonl -o clean --preset web --language zh",
        "dedup clean -o unique --threshold 0.7",
        "tokenize unique -o tokens --vocab-size 600 --val 0.05 --test 0.05",
        "pretrain tokens -o run --preset test-modern --steps 60",
    )
    counts = {}
    for command in chain:
        done = gptctl(*command.split(), "--json")
        assert done.code == 0, done.err
        counts[command.split()[0]] = done.json
    assert counts["clean"]["counts"]["kept"] == 210
    assert counts["dedup"]["counts"]["kept"] == 180
    assert counts["dedup"]["metrics"]["segmenters"]["Chinese by rjieba"] == 210
    tokens = counts["tokenize"]["metrics"]
    assert (tokens["tokens_per_word"], tokens["unknown_share"]) == (None, 0)
    assert 0.5 < tokens["characters_per_token"] < 3
    (tmp_path / "data").mkdir()
    for name, part in (("train", rows[:126]), ("val", rows[126:150]), ("test", rows[150:])):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", part)
    done = gptctl("finetune", "run", "data", "-o", "classifier", "--epochs", "6", "--json")
    assert done.code == 0, done.err
    scores = gptctl("eval", "classifier", "data", "-o", "scores", "--json")
    assert scores.code == 0, scores.err
    assert scores.json["metrics"]["f1"] > 0.9
    prompt = gptctl("generate", "run", "今天，", "--max-tokens", "20")
    assert prompt.code == 0 and prompt.out.decode().startswith("今天，")


def test_a_vocabulary_of_words(gptctl: Gptctl, tmp_path: Path) -> None:
    """Words are segmented, the share of unknown ones is shown, and the tokenizer says what it needs."""
    write_jsonl(tmp_path / "raw.jsonl", chinese.documents(30))
    command = ("tokenize", "raw.jsonl", "-o", "tokens", "--algorithm", "words", "--vocab-size", "20", "--json")
    done = gptctl(*command, "--val", "0", "--test", "0")
    assert done.code == 0, done.err
    assert 0.2 < done.json["metrics"]["unknown_share"] < 0.9
    assert "unknown tokens" in done.err
    large = gptctl(*command[:3], "large", *command[4:6], "--vocab-size", "2000", "--json", "--val", "0", "--test", "0")
    assert large.json["metrics"]["unknown_share"] == 0
    assert 1.3 < large.json["metrics"]["characters_per_token"] < 2
    assert "(?#segmented: Chinese by rjieba)" in (tmp_path / "large" / "tokenizer.json").read_text()
    refused = gptctl("tokenize", "raw.jsonl", "-o", "x", "--vocab-size", "20")
    assert (refused.code, "no room for 256 bytes" in refused.err) == (2, True)
