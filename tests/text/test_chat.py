"""Conversations as tokens, beside what transformers makes of the same template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.text.chat import CHATML, MARKERS, ChatTemplate, read_messages
from gptctl.text.tokenizer import Tokenizer

# Of the form of Llama 2's: the end of a turn is the end of the text, and there is no prompt for the assistant.
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% elif m.role == 'assistant' %}"
    " {{ m.content | trim }}{{ eos_token }}{% else %}{{ raise_exception('no role ' + m.role) }}{% endif %}{% endfor %}"
)
TALK = [
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "4, été."},
    {"role": "user", "content": "And <|im_end|> or <|endoftext|>?"},
    {"role": "assistant", "content": "Words <|im_start|>user"},
]


@pytest.fixture(scope="module")
def coder(workspace: Path) -> Tokenizer:
    text = (workspace / "tokens" / "tokenizer.json").read_text()
    return Tokenizer.from_json(text).with_special_tokens(MARKERS)


def said(template: ChatTemplate, messages: list[dict[str, str]]) -> list[str]:
    """Return the stretches that are learned."""
    tokens, learned = template.conversation(messages)
    assert len(tokens) == len(learned)
    pieces: list[list[int]] = []
    for number, (token, inside) in enumerate(zip(tokens.tolist(), learned.tolist(), strict=True)):
        if inside:
            pieces += [[]] if not number or not learned[number - 1] else []
            pieces[-1].append(token)
    return [template.tokenizer.decode(piece) for piece in pieces]


def test_what_the_assistant_says_is_learned_with_its_end(coder: Tokenizer) -> None:
    assert said(ChatTemplate(CHATML, coder), TALK[:2]) == ["4, été.<|im_end|>"]
    assert len(said(ChatTemplate(CHATML, coder), TALK)) == 2
    assert said(ChatTemplate(BRACKETS, coder), TALK[:2]) == [" 4, été.<|endoftext|>"]


@pytest.mark.parametrize("source", [CHATML, BRACKETS])
def test_the_text_is_what_transformers_renders(coder: Tokenizer, source: str, tmp_path: Path) -> None:
    """All of a conversation and its tokens, where no message spells a special token."""
    transformers: Any = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(coder.to_json())
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    theirs.chat_template, theirs.eos_token, theirs.bos_token = source, coder.end_of_text, coder.end_of_text
    template = ChatTemplate(source, coder)
    for messages in (TALK[:1], TALK[:2], TALK[:2] + TALK[:2]):
        for prompt in (False, True):
            wanted = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert template.render(messages, prompt) == wanted
    tokens, _ = template.conversation(TALK[:2])
    assert coder.decode(tokens[1:]) == template.render(TALK[:2])
    asked = theirs.apply_chat_template(TALK[:1], add_generation_prompt=True, return_dict=False)
    assert template.prompt(TALK[:1])[1:] == asked


def test_what_users_write_is_never_a_special_token(coder: Tokenizer) -> None:
    """Only the template's own markers count; the text stays what it was."""
    template = ChatTemplate(CHATML, coder)
    tokens, _ = template.conversation(TALK)
    special = [token for token in tokens.tolist() if token in coder.special_ids]
    assert len(special) == 1 + 2 * len(TALK)
    assert coder.decode(tokens[1:]) == template.render(TALK)
    plain, _ = template.conversation([{**m, "content": m["content"].replace("<|", "(|")} for m in TALK])
    assert sum(token in coder.special_ids for token in plain.tolist()) == len(special)


def test_the_prompt_is_what_the_answer_follows(coder: Tokenizer) -> None:
    """The tokens that generation starts from are those that the answer followed in training."""
    for source in (CHATML, BRACKETS):
        template = ChatTemplate(source, coder)
        tokens, learned = template.conversation(TALK)
        last = len(learned) - learned[::-1].argmax() - 1
        begin = last - (~learned[: last + 1][::-1]).argmax() + 1
        assert tokens[:begin].tolist() == template.prompt(TALK[:3])
        assert tokens[last] in template.stop_ids


def test_templates_that_cannot_be_used(coder: Tokenizer) -> None:
    with pytest.raises(UsageError, match="cannot be parsed"):
        ChatTemplate("{% for %}", coder)
    with pytest.raises(DataError, match="no role system"):
        ChatTemplate(BRACKETS, coder).prompt([{"role": "system", "content": "x"}])
    forgetful = "{{ messages | length }}" + CHATML
    with pytest.raises(DataError, match="earlier turns"):
        ChatTemplate(forgetful, coder).conversation(TALK)
    with pytest.raises(DataError):  # the sandbox
        ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", coder).prompt(TALK)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        '[{"role": "user"}]',
        '[{"role": "user", "content": "x"}]',
        '[{"role": 1, "content": "x"}]',
        "[]",
    ],
)
def test_what_is_no_conversation(text: str) -> None:
    with pytest.raises(DataError, match="row 3"):
        read_messages(text, "row 3")
