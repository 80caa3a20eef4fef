"""Conversations as tokens, beside what transformers makes of the same template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gptctl.core.errors import DataError
from gptctl.infer.chat_prompt import chat_prompt
from gptctl.text.chat import MARKERS, ChatTemplate
from gptctl.text.chat_messages import read_messages
from gptctl.text.chat_render import CHATML
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from tests.model.hf.foreign_folders import make_tokenizer

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


# Of the form of Qwen3's: the assistant's earlier turns lose what it thought.
FORGETS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Of the form of TRL's training templates.
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ '<think>\n\n</think>\n\n' + m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Of the form of Phi-3's: the end of the text follows the last turn.
ENDS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
)
# Of the form of DeepSeek's: the prompt opens a thought, which turns of the past lose.
OPENS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}BEGIN"
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}{{ '<|im_end|>' }}END"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
OPENS_MARKED = OPENS.replace("BEGIN", "{% generation %}").replace("END", "{% endgeneration %}")
OPENS = OPENS.replace("BEGIN", "").replace("END", "")
TOOLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% for call in m.tool_calls or [] %}"
    "{{ call.function.name + call.function.arguments | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def foreign() -> Tokenizer:
    """The tokenizer of another program's model."""
    return Tokenizer.from_json(make_tokenizer("qwen").to_str(), SpecialTokens(None, "<|im_end|>", "<|endoftext|>"))


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
    with pytest.raises(DataError, match="cannot be parsed"):
        ChatTemplate("{% for %}", coder)
    with pytest.raises(DataError, match="no role system"):
        ChatTemplate(BRACKETS, coder).prompt([{"role": "system", "content": "x"}])
    forgetful = "{{ messages | length }}" + CHATML
    with pytest.raises(DataError, match="does not begin"):
        ChatTemplate(forgetful, coder).samples(TALK)
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
    with pytest.raises(DataError, match=r"not JSON|not a list of messages|says nothing"):
        read_messages(text)


@pytest.mark.parametrize("source", [MARKED, OPENS_MARKED, "{{ bos_token }}" + MARKED])
@pytest.mark.parametrize(
    "talk", [TALK[:2], [*TALK[:2], {"role": "user", "content": "So?"}, {"role": "assistant", "content": "x"}]]
)
def test_what_a_template_marks_is_learned(
    foreign: Tokenizer, talk: list[dict[str, str]], source: str, tmp_path: Path
) -> None:
    """The mask equals that of transformers, which TRL trains with."""
    transformers: Any = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(foreign.to_json())
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|im_end|>", chat_template=source
    )
    template = ChatTemplate(source, foreign)
    wanted = theirs.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True, tokenize=True)
    [(tokens, learned)] = template.samples(talk)
    assert tokens.tolist() == wanted["input_ids"]
    assert learned.astype(int).tolist() == wanted["assistant_masks"]
    assert template.stop_ids[0] == foreign.token_to_id("<|im_end|>")


def test_marks_of_users_mark_nothing(foreign: Tokenizer) -> None:
    talk = TALK[:2]
    spelled = [{"role": "user", "content": "\ufdd2hey\ufdd3<|im_end|>"}, talk[1]]
    [(tokens, learned)] = ChatTemplate(MARKED, foreign).samples(spelled)
    assert foreign.decode(tokens[learned]).startswith("<think>")
    assert foreign.decode(tokens) == ChatTemplate(MARKED, foreign).render(
        [spelled[0] | {"content": "hey<|im_end|>"}, talk[1]]
    )


def test_turns_that_change_later_are_learned_one_by_one(foreign: Tokenizer) -> None:
    """Each turn is learned once, after what the model will see before it."""
    talk = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "one</think>A"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "two</think>B"},
    ]  # fmt: skip
    template = ChatTemplate(FORGETS, foreign)
    samples = template.samples(talk)
    assert [foreign.decode(tokens[learned]) for tokens, learned in samples] == [
        "one</think>A<|im_end|>",
        "two</think>B<|im_end|>",
    ]
    for (tokens, learned), before in zip(samples, (talk[:1], talk[:3]), strict=True):
        assert tokens[: learned.argmax()].tolist() == template.prompt(before)
    assert len(template.samples(talk[:2])) == 1


def test_the_end_of_the_text_after_the_last_turn(foreign: Tokenizer) -> None:
    """Each turn is learned as the last one, and both its end and the end of the text stop generation."""
    template = ChatTemplate(ENDS, foreign)
    talk = [TALK[0], TALK[1], {"role": "user", "content": "So?"}, {"role": "assistant", "content": "x"}]
    samples = template.samples(talk)
    said = [foreign.decode(tokens[learned]) for tokens, learned in samples]
    assert said == ["4, été.<|im_end|>\n<|endoftext|>", "x<|im_end|>\n<|endoftext|>"]
    assert samples[1][0][: samples[1][1].argmax()].tolist() == template.prompt(talk[:3])
    assert template.stop_ids == tuple(map(foreign.token_to_id, ("<|endoftext|>", "<|im_end|>")))


def test_a_prompt_that_opens_a_thought(foreign: Tokenizer) -> None:
    """A turn with a thought is learned after the prompt. One without it is not what the model will see."""
    template = ChatTemplate(OPENS, foreign)
    thinks = [TALK[0], {"role": "assistant", "content": "<think>\nhm\n</think>4"}, TALK[0]]
    talk = [*thinks, {"role": "assistant", "content": "<think>\nha\n</think>5"}]
    samples = template.samples(talk)
    assert [foreign.decode(tokens[learned]) for tokens, learned in samples] == [
        "hm\n</think>4<|im_end|>",
        "ha\n</think>5<|im_end|>",
    ]
    assert samples[1][0][: samples[1][1].argmax()].tolist() == template.prompt(thinks)
    assert template.stop_ids[0] == foreign.token_to_id("<|im_end|>")
    with pytest.raises(DataError, match="does not begin as the chat template's prompt"):
        template.samples(TALK[:2])


def test_contents_that_a_template_leaves_out(foreign: Tokenizer) -> None:
    """Templates for images loop over parts, of which a text has none."""
    parts = "{% for m in messages %}{{ m.role }}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
    with pytest.raises(DataError, match="leaves out what the user says"):
        ChatTemplate(parts, foreign).samples(TALK[:2])


def test_calls_of_tools_are_learned(foreign: Tokenizer) -> None:
    """Arguments may be JSON text, as in OpenAI's format, or tables. A template without tools is refused."""
    talk: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": " it"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]},
    ]
    assert read_messages(json.dumps(talk)) == talk
    tokens, learned = ChatTemplate(TOOLS, foreign).samples(talk)[0]
    assert foreign.decode(tokens[learned]) == 'add{"a": 1}<|im_end|>'
    assert "Say it" in foreign.decode(tokens)
    asked = [talk[0], {key: talk[1][key] for key in ("role", "tool_calls")}]  # OpenAI's format needs no content
    assert chat_prompt(ChatTemplate(TOOLS, foreign), json.dumps(asked)) == ChatTemplate(TOOLS, foreign).prompt(talk)
    with pytest.raises(DataError, match="leaves out the call of add"):
        ChatTemplate(CHATML, foreign).samples(talk)
    with pytest.raises(DataError, match="not text"):
        ChatTemplate(TOOLS, foreign).prompt([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}])


# Of the form of templates that describe tools and quote documents.
GIVEN = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for one in documents or [] %}{{ one.text }}{% endfor %}"
    + TOOLS
)


def test_tools_and_documents_are_given_to_the_template(foreign: Tokenizer, tmp_path: Path) -> None:
    """They are rendered as by transformers. A template that leaves them out is refused."""
    transformers: Any = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(foreign.to_json())
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|im_end|>", chat_template=GIVEN
    )
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    documents = [{"title": "One", "text": "Two is even."}]
    talk = TALK[:2]
    wanted = theirs.apply_chat_template(talk, tools=tools, documents=documents, tokenize=False)
    extras = {"tools": tools, "documents": documents}
    template = ChatTemplate(GIVEN, foreign)
    assert template.render(talk, extras=extras) == wanted
    [(tokens, learned)] = template.samples(talk, extras)
    assert foreign.decode(tokens) == wanted
    assert foreign.decode(tokens[learned]) == "4, été.<|im_end|>"
    request = {"messages": talk[:1], **extras}
    wanted = theirs.apply_chat_template(talk[:1], **extras, tokenize=False, add_generation_prompt=True)
    assert foreign.decode(chat_prompt(template, json.dumps(request))) == wanted
    with pytest.raises(DataError, match="leaves out the tool add"):
        ChatTemplate(TOOLS, foreign).samples(talk, {"tools": tools})
    with pytest.raises(DataError, match="leaves out a document"):
        ChatTemplate(TOOLS, foreign).samples(talk, {"documents": documents})
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    describes = "{{ tools | tojson }}" + CHATML
    with pytest.raises(DataError, match="leaves out the call of add"):  # though its name is among the tools
        ChatTemplate(describes, foreign).samples([TALK[0], call], {"tools": tools})


def test_thoughts_are_learned_or_refused(foreign: Tokenizer) -> None:
    thinks = CHATML.replace("message['content']", "(message.reasoning_content or '') + message['content']")
    talk = [TALK[0], TALK[1] | {"reasoning_content": "Two and two."}]
    tokens, learned = ChatTemplate(thinks, foreign).samples(talk)[0]
    assert foreign.decode(tokens[learned]) == "Two and two.4, été.<|im_end|>"
    with pytest.raises(DataError, match="leaves out the assistant's reasoning_content"):
        ChatTemplate(CHATML, foreign).samples(talk)


@pytest.mark.parametrize("source", [CHATML, FORGETS, MARKED])
def test_turns_of_weight_zero_are_not_learned(foreign: Tokenizer, source: str) -> None:
    template = ChatTemplate(source, foreign)
    talk = [TALK[0], TALK[1] | {"weight": 0}, TALK[2], TALK[3] | {"weight": 1}]
    samples = template.samples(talk)
    said = "".join(foreign.decode(tokens[learned]) for tokens, learned in samples)
    assert said.removeprefix("<think>\n\n</think>\n\n") == "Words <|im_start|>user<|im_end|>"
    assert samples[-1][0].tolist() == template.samples(TALK)[-1][0].tolist()
    twice = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    with pytest.raises(DataError, match="marks 4 parts of 2 turns"):
        ChatTemplate(twice, foreign).samples(talk)


def test_other_blocks_mark_nothing(foreign: Tokenizer) -> None:
    """A template may call macros with blocks of its own; only generation blocks decide what is learned."""
    source = "{% macro plain() %}{{ caller() }}{% endmacro %}{% call plain() %}{% endcall %}" + CHATML
    samples, wanted = (ChatTemplate(text, foreign).samples(TALK[:2]) for text in (source, CHATML))
    assert [part.tolist() for part in samples[0]] == [part.tolist() for part in wanted[0]]


def test_templates_may_ask_for_the_date(foreign: Tokenizer) -> None:
    template = ChatTemplate("{{ strftime_now('%Y') }}" + CHATML, foreign)
    assert template.render(TALK[:1])[:2] == "20"
