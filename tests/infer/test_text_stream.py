"""Streaming: joined pieces are the whole text, no half character, nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptctl.infer.text_stream import REPLACEMENT, TextStream
from gptctl.text.tokenizer import Tokenizer


def byte_level() -> Tokenizer:
    """Make a tokenizer of single bytes and some merges over text of several scripts."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    engine.train_from_iterator(["größer and größer, 漢字 and 漢字, naïve naïve the the"] * 3, trainer)
    return Tokenizer.from_json(engine.to_str())


def sentence_piece() -> Tokenizer:
    """Make a tokenizer whose words begin with a mark for the space, which is dropped at the beginning of a text."""
    words = ["<|endoftext|>", "\u2581a", "\u2581bc", "d", "e", "\u2581"]
    engine = Engine(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|endoftext|>"))
    engine.decoder = decoders.Metaspace()
    return Tokenizer.from_json(engine.to_str())


TOKENIZERS = {"bytes": byte_level(), "spaces": sentence_piece()}


def streamed(tokenizer: Tokenizer, tokens: Sequence[int], stops: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    """Feed tokens one by one until a stop; give the pieces."""
    stream, pieces = TextStream(tokenizer, stops, ()), []
    for token in tokens:
        pieces.append(stream.add(token))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
@settings(deadline=None)
def test_pieces_are_the_text_of_any_tokens(kind: str, data: st.DataObject) -> None:
    """Any tokens at all, most of which are no text in UTF-8."""
    tokenizer = TOKENIZERS[kind]
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    pieces, stream = streamed(tokenizer, tokens)
    assert "".join(pieces) == stream.text == tokenizer.decode(tokens)


@given(text=st.text(st.sampled_from("größe漢字🙂 ïab"), max_size=20))
@settings(deadline=None)
def test_characters_of_several_tokens_come_whole(text: str) -> None:
    """No replacement character where the text has none, and as early as can be."""
    tokenizer = TOKENIZERS["bytes"]
    tokens = tokenizer.encode(text)
    pieces, _ = streamed(tokenizer, tokens)
    assert "".join(pieces) == text
    assert REPLACEMENT not in "".join(pieces)
    for count in range(len(tokens)):
        known = tokenizer.decode(tokens[: count + 1])
        if not known.endswith(REPLACEMENT):
            assert "".join(pieces[: count + 1]) == known


@given(
    text=st.text(st.sampled_from("ab字 \n"), max_size=30),
    stops=st.lists(st.text(st.sampled_from("ab字\n"), min_size=1, max_size=4), max_size=3),
)
@settings(deadline=None)
def test_nothing_of_a_stop_string_is_shown(text: str, stops: list[str]) -> None:
    """The text ends before the one complete first; a beginning that comes to nothing is shown in the end."""
    places = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    wanted = text[: min(places)[1]] if places else text
    tokenizer = TOKENIZERS["bytes"]
    pieces, stream = streamed(tokenizer, tokenizer.encode(text), stops)
    assert "".join(pieces) == stream.text == wanted
    assert stream.stopped == bool(places)


def test_a_long_sample_costs_no_more_a_token() -> None:
    """Only the last tokens are decoded again."""
    tokenizer = TOKENIZERS["bytes"]
    stream, longest = TextStream(tokenizer, (), ()), 0
    decode = tokenizer.decode

    class Counting(Tokenizer):
        def __init__(self) -> None:
            pass

        def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:  # type: ignore[override]
            nonlocal longest
            longest = max(longest, len(ids))
            return decode(ids, skip_special_tokens=skip_special_tokens)

    stream.tokenizer = Counting()
    for token in tokenizer.encode("the größer 漢字 " * 50):
        stream.add(token)
    assert longest < 16
