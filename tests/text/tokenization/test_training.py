"""Training gives the vocabulary that is asked for, and always the same one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.text.tokenization.training import cut_long_pieces, train
from gptctl.text.tokenizer import Tokenizer

DATA = Path(os.environ.get("GPTCTL_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
TEXTS = ["the cat sat on the mat", "the cat can't sit", "a mat, a cat"]

HASH_OF_TRAINING = """
import sysconfig, pathlib, xxhash
from gptctl.text.tokenization.training import train
folder = pathlib.Path(sysconfig.get_path("stdlib"))
texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))[:40]]
for algorithm in ("bpe", "words", "chars"):
    print(xxhash.xxh3_128_hexdigest(train(texts, algorithm, 1000).encode()))
"""


@pytest.mark.slow
def test_deterministic() -> None:
    """Repeated runs and one or two threads give the same bytes."""
    settings = [
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "2"},
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1"},
        {"TOKENIZERS_PARALLELISM": "false"},
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "2", "PYTHONHASHSEED": "1"},
    ]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", HASH_OF_TRAINING], env=os.environ | extra, check=True, capture_output=True, text=True
        ).stdout
        for extra in settings
    }
    assert len(outputs) == 1


def test_bpe() -> None:
    """End-of-text, 256 bytes, then merges; rare pairs are not merged."""
    vocabulary = json.loads(train(TEXTS, "bpe", 260))["model"]["vocab"]
    assert vocabulary["<|endoftext|>"] == 0 and len(vocabulary) == 260
    assert "at" in vocabulary
    with pytest.raises(UsageError, match="256 bytes"):
        train(TEXTS, "bpe", 256)


def test_words() -> None:
    """The commonest words, split as NLTK does; others are unknown; white space is lost."""
    tokenizer = Tokenizer.from_json(train(TEXTS, "words", 6))
    vocabulary = json.loads(tokenizer.to_json())["model"]["vocab"]
    assert list(vocabulary) == ["<|endoftext|>", "<unk>", "cat", "the", "a", "mat"]
    assert tokenizer.decode(tokenizer.encode("the   cat\nsat")) == "the cat <unk>"


def test_words_like_nltk() -> None:
    """The pattern inside tokenizer.json finds NLTK's words, but keeps quotes as they are."""
    from nltk.tokenize import NLTKWordTokenizer

    sentences = [
        "They'll say it's (well) done; can't we? I've $3.50, or 1,000!",
        "The U.S. state-of-the-art isn't here... 50% of it -- at 10:30.",
        "We cannot wanna say 'tis the King's and lords' and/or e-mail, o'clock",
        'He said "stop" and wouldn\'t.',
    ]
    tokenizer = Tokenizer.from_json(train(sentences, "words", 1000))
    spelling = {place: name for name, place in json.loads(tokenizer.to_json())["model"]["vocab"].items()}
    found = [spelling[place] for sentence in sentences for place in tokenizer.encode(sentence)]
    nltk = [word for sentence in sentences for word in NLTKWordTokenizer().tokenize(sentence)]
    assert found == [word.replace("``", '"').replace("''", '"') for word in nltk]


def test_chars() -> None:
    """Sorted characters after end-of-text; no text, no vocabulary."""
    assert list(json.loads(train(["ba", "ab c"], "chars", 0))["model"]["vocab"]) == [
        "<|endoftext|>",
        " ",
        "a",
        "b",
        "c",
    ]
    with pytest.raises(DataError):
        train([""], "chars", 0)


def test_unknown_algorithm() -> None:
    """The hint lists the algorithms."""
    with pytest.raises(UsageError) as caught:
        train(TEXTS, "bep", 300)  # type: ignore[arg-type]
    assert "bpe" in str(caught.value.hint)


def test_tiny_shakespeare_has_65_characters() -> None:
    """nanoGPT's 65 symbols and one end-of-text."""
    path = DATA / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"no such file: {path}")
    text = path.read_text(encoding="utf-8")
    tokenizer = Tokenizer.from_json(train([text], "chars", 0))
    assert tokenizer.vocab_size == 66
    assert len(tokenizer.encode(text)) == 1_115_394


def test_long_pieces_are_cut_and_nothing_else() -> None:
    long = "b" * 10_000 + " " * 5000 + "c, " + "1" * 4097 + "\u4e2d" * 9000 + "-" * 4096
    assert list(cut_long_pieces(["Some words.", "a" * 4096, "x. " * 9000])) == [
        "Some words.",
        "a" * 4096,
        "x. " * 9000,
    ]
    pieces = list(cut_long_pieces([long]))
    assert "".join(pieces) == long
    assert [len(piece) for piece in pieces] == [4096, 4096, 1808 + 4096, 904 + 3 + 4096, 1 + 4096, 4096, 808 + 4096]
