"""TextGenerator as a server or a notebook uses it: prompts, truncation, chat, batches, speculative decoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.model.classifier import Classifier
from gptctl.model.save import save_model
from gptctl.text.chat import MARKERS, ChatTemplate
from gptctl.text.chat_render import CHATML
from gptctl.text.tokenizer import Tokenizer
from tests.infer.test_text_stream import byte_level
from tests.model.test_gpt import make

PARAMS = SamplingParams(max_tokens=8, seed=3)


def saved(folder: Path, tokenizer: Tokenizer, name: str = "test-modern", **extra: object) -> Path:
    """Write a model with random weights."""
    model = make(name, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text_id)
    save_model(folder, model, tokenizer.to_json(), dict(extra))
    return folder


def test_prompts_leave_room_for_new_tokens(tmp_path: Path) -> None:
    """End-of-text comes first. A long prompt keeps its end, and at most a quarter of the context is reserved."""
    generator = TextGenerator.load(saved(tmp_path / "model", byte_level()), device="cpu")
    context = generator.engine.max_seq_len
    short, long = generator.encode(["the", "the " * 500], 8)
    assert short[0] == generator.tokenizer.end_of_text_id
    assert len(long) == context - 8
    assert long == generator.tokenizer.encode("the " * 500)[-len(long) :]
    assert generator.prompt_length(10_000) == context - context // 4


def test_the_stream_is_the_completion(tmp_path: Path) -> None:
    """Chunks join to the text, samples differ, and neither batch nor draft model changes them."""
    folder = saved(tmp_path / "model", byte_level())
    generator = TextGenerator.load(folder, device="cpu")
    prompts = generator.encode(["the", "a longer prompt"], PARAMS.max_tokens)
    together = generator.generate(prompts, PARAMS, samples_per_prompt=3)
    texts = ["" for _ in range(6)]
    for chunk in generator.stream(prompts, PARAMS, samples_per_prompt=3):
        texts[chunk.row] += chunk.text
    assert texts == [sample.text for samples in together for sample in samples]
    assert len(set(texts)) == 6
    drafted = TextGenerator.load(folder, device="cpu", draft=folder, num_draft_tokens=2)
    one_by_one = drafted.generate(prompts, PARAMS, samples_per_prompt=3, batch_size=1)
    assert [[sample.text for sample in samples] for samples in one_by_one] == [
        [sample.text for sample in samples] for samples in together
    ]


def test_a_stop_string_ends_a_completion(tmp_path: Path) -> None:
    """The text ends before it."""
    generator = TextGenerator.load(saved(tmp_path / "model", byte_level()), device="cpu")
    prompts = generator.encode(["the"], PARAMS.max_tokens)
    text = generator.generate(prompts, PARAMS)[0][0].text
    stop = text[2:4]
    ended = generator.generate(prompts, SamplingParams(max_tokens=8, seed=3, stop=(stop,)))[0][0]
    assert (ended.text, ended.finish_reason) == (text[: text.index(stop)], "stop")


def test_chat_needs_a_template(tmp_path: Path) -> None:
    """A user message and the same message as JSON are one prompt."""
    plain = byte_level()
    with pytest.raises(DataError, match="has no chat template"):
        TextGenerator.load(saved(tmp_path / "plain", plain), device="cpu").encode_chat(["the"], 8)
    chat = plain.with_special_tokens(MARKERS)
    stops = list(ChatTemplate(CHATML, chat).stop_ids)
    generator = TextGenerator.load(saved(tmp_path / "chat", chat, chat_template=CHATML, stop_ids=stops), device="cpu")
    message, json = generator.encode_chat(["the", '[{"role": "user", "content": "the"}]'], 8)
    assert message == json
    assert set(stops) <= set(generator.stop_ids)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    """A classifier, and a draft model with another tokenizer."""
    plain = byte_level()
    labels = Classifier(make("test-gpt2", vocab_size=plain.vocab_size), 2)
    save_model(tmp_path / "labels", labels, plain.to_json(), {})
    with pytest.raises(DataError, match="classifier"):
        TextGenerator.load(tmp_path / "labels", device="cpu")
    model = saved(tmp_path / "model", plain)
    other = saved(tmp_path / "other", plain.with_special_tokens(MARKERS), "test-gpt2")
    with pytest.raises(UsageError, match="another tokenizer"):
        TextGenerator.load(model, device="cpu", draft=other)
