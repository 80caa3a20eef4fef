"""A language can be named by its code or by its English name, wherever a language is named."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import gptctl as package
from gptctl.core.config import Layer, build
from gptctl.stages.clean import Clean
from gptctl.text import language_names
from gptctl.text.filters.language import LANGUAGES, Config
from gptctl.text.filters.stop_words import Config as StopWords
from gptctl.text.words import packaged_stop_words, stop_words
from tests.conftest import Ran, write_jsonl


def test_every_language_has_a_name_of_its_own() -> None:
    names = language_names.names()
    assert set(names) == set(LANGUAGES)
    listed = [name for found in names.values() for name in found]
    assert len(set(listed)) == len(listed) and not set(listed) & set(names)


@pytest.mark.parametrize("code", LANGUAGES)
def test_names_are_codes(code: str) -> None:
    for name in (code, code.upper(), *language_names.names()[code], language_names.names()[code][0].title()):
        assert Config(languages=(name, code)).languages == (code,)


@pytest.mark.parametrize(
    ("given", "name"),
    [("zh", "chinese"), ("de", "german"), ("German", "german"), ("sl", "slovene"), ("slovenian", "slovene"), ("hinglish", "hinglish")],
)  # fmt: skip
def test_codes_are_names_of_stop_word_lists(given: str, name: str) -> None:
    assert StopWords(language=given).language == name
    assert Clean(inputs=("a",), out="b", remove_stopwords=given).remove_stopwords == name
    assert stop_words(given)[0] == stop_words(name)[0] == packaged_stop_words()[name]


def test_languages_without_a_list_and_unknown_ones() -> None:
    with pytest.raises(package.GptctlError, match="no stop-word list is called 'ja'"):
        stop_words("ja")
    with pytest.raises(package.GptctlError, match="unknown language 'klingon'"):
        build(Clean, [Layer("flag", {"inputs": ["a"], "out": "b", "language": {"languages": ["klingon"]}})])


def test_a_name_takes_the_thresholds_of_the_language(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [{"text": "a"}])
    shown = [
        gptctl("clean", "raw.jsonl", "-o", "x", "--preset", "web", "--language", language, "--print-config").out
        for language in ("zh", "chinese", "Chinese")
    ]
    chinese, *others = (tomllib.loads(out.decode()) for out in shown)
    assert others == [chinese] * 2
    assert chinese["language"]["languages"] == ["zh"] and "c4" not in chinese["filters"]
