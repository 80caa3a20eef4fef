"""Templates of strangers cost bounded time and memory, and end with an error that says why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gptctl.core.errors import DataError
from gptctl.text import chat_render
from gptctl.text.chat import ChatTemplate
from gptctl.text.chat_render import CHATML, TemplateCostsError
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from tests.model.hf.foreign_folders import make_tokenizer

TALK = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
OTHER = CHATML.replace("{% for", "{# another source #}{% for", 1)


@pytest.fixture(scope="module")
def foreign() -> Tokenizer:
    return Tokenizer.from_json(make_tokenizer("qwen").to_str(), SpecialTokens(None, "<|im_end|>", "<|endoftext|>"))


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(chat_render, "RENDER_SECONDS", 0.5)
    monkeypatch.setattr(chat_render, "RENDER_BYTES", 2**28)
    yield


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        ("{{ messages[0].role.split('') }}", "empty separator"),
        ("{{ messages|tojson(cls=dict) }}", "rejects a conversation"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ messages[9].role }}", "rejects a conversation"),
        ("{{ raise_exception('one\ntwo' * 1000) }}", "one two"),
        ("{% include 'a' %}", "rejects a conversation"),
        ("", "leaves out what the user says"),
        ("{{ ''.nothing }}", "leaves out what the user says"),
        ("{% for i in range(70) %}{{ 'x' * 1000000 }}{% endfor %}", "characters"),
    ],
)
def test_errors_of_templates(foreign: Tokenizer, source: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        ChatTemplate(source, foreign).samples(TALK)
    assert "\n" not in caught.value.message and len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes longer than"),
        ("{% set a = 9 %}{{ a ** (a ** (a ** a)) }}", "takes longer than"),
        ("{{ 'x' * 2000000000 }}", "GiB of memory"),
        ("{% set a = 'x' %}{{ a * 2000000000 }}", "GiB of memory"),
        ("{{ '%2000000000d' % messages | length }}", "GiB of memory"),
        ("{{ messages[0].content.center(2000000000) }}", "GiB of memory"),
    ],
)
def test_costs_of_templates(foreign: Tokenizer, source: str, words: str) -> None:
    """No other conversation is tried, because each would cost as much."""
    with pytest.raises(DataError, match=words):
        ChatTemplate(source, foreign).samples(TALK)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 10 ** (10 ** 4) }}",
        "{{ 9 ** (9 ** (9 ** 9)) }}",  # which Jinja computes when it compiles
        "{{ " + "(" * 100_000 + ")" * 100_000 + " }}",
        "{{ 1 | no_such_filter }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
        " " * (2**20 + 1),
    ],
)
def test_templates_that_cannot_be_compiled(foreign: Tokenizer, source: str) -> None:
    with pytest.raises(DataError, match=r"cannot be parsed|takes longer than") as caught:
        ChatTemplate(source, foreign)
    assert len(caught.value.message) < 500


def test_a_template_that_writes_nothing(foreign: Tokenizer) -> None:
    with pytest.raises(DataError, match="writes nothing"):
        ChatTemplate("", foreign).prompt([{"role": "system", "content": "w1"}])


def test_a_child_renders_as_this_process_does(foreign: Tokenizer) -> None:
    """Also after an error, and after the child was closed."""
    ours, other = ChatTemplate(CHATML, foreign), ChatTemplate(OTHER, foreign)
    odd = [{"role": "user", "content": "\ud800 \u202e {{ 1/0 }} \x00"}, *TALK[1:]]
    for talk in (TALK, odd, TALK * 3):
        assert other.render(talk) == ours.render(talk)
        with pytest.raises(DataError):
            other.render([{"role": "user", "content": "x"}, {"role": None, "content": []}])
        other.close()
    assert [tokens.tolist() for tokens, _ in other.samples(TALK)] == [t.tolist() for t, _ in ours.samples(TALK)]


def test_the_error_of_a_costly_template_is_its_own(foreign: Tokenizer) -> None:
    with pytest.raises(TemplateCostsError):
        ChatTemplate("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", foreign).prompt(
            TALK
        )
    with pytest.raises(DataError, match="cannot be parsed"):
        ChatTemplate("{% for %}", foreign)
