"""How llama.cpp turns text into tokens, and comparing that with a tokenizer on probe texts.

Byte-level BPE has a name for the patterns that split text before merging (llama.cpp, src/llama-vocab.cpp). The kind
"llama", which SentencePiece's BPE is written as, merges the neighbours whose joined token has the highest score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

from gptctl.text.tokenization.split_patterns import PATTERNS

WORD_START = "\u2581"  # how SentencePiece writes a space
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Names of llama.cpp, and the patterns that it applies one after the other.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "llama-bpe": (PATTERNS["modern"],),
    "qwen2": (PATTERNS["modern"].replace(r"\p{N}{1,3}", r"\p{N}"),),
    "gpt-4o": (PATTERNS["o200k"],),
    "starcoder": (r"\p{N}", GPT2),
}
TAKES_WHOLE_WORDS = ("llama-bpe",)  # a word that is a token is not merged from its parts
PROBES = (
    "Hello, world! It's 7 o'clock; we'll see what they'd say, I'M SURE IT'S fine.",
    "def f(x_1: int = 1024) -> str:\n    return f'{x_1 ** 2:.3f}'  # 3.14159 != 2,718,281\n\n\nclass A:\n\tpass\n",
    "Größe, naïve café, Ещё одна строка. Ελληνικά, עברית, العربية 2024, हिन्दी में, ไทย",
    "中文字符和日本語のテキスト、한국어",
    "two  spaces, three   spaces, tab\tand\r\nlines \n \n end   \n\n\n\nlast",
    "emoji 🙂👩‍👩‍👧 x²+y³=½ №5 €100 … “quotes” — dash/slash\\back http://a.b/c?d=e&f=1%20 <tag>",
    "a_b-c a.b@c.de $$$ ---- ((()))",
    "12345678901234567890 1 22 333 4444 0x1F 1e-05 v2.0.1 ABCdefGHI camelCaseWord HTTPServer's don't DON'T ’s ’LL",
)


def named_split(definition: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name of the way a byte-level BPE splits text, or None if no way gives the same tokens."""
    tokenizer = without_added_tokens(definition)
    wanted = pieces(tokenizer.pre_tokenizer)
    name = next((name for name in SPLITS if pieces(splitter(name)) == wanted), None)
    if name is None:
        return None
    model = definition["model"] | {"ignore_merges": name in TAKES_WHOLE_WORDS}
    theirs = without_added_tokens({**definition, "model": model, "normalizer": None})
    theirs.pre_tokenizer = splitter(name)
    return name if tokens(theirs) == tokens(tokenizer) else None


def splitter(name: str) -> pre_tokenizers.PreTokenizer:
    """Return what splits text as llama.cpp does under a name."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[name]]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def pieces(splitter: pre_tokenizers.PreTokenizer) -> list[list[str]]:
    """Return the pieces of the probe texts."""
    return [[piece for piece, _ in splitter.pre_tokenize_str(text)] for text in PROBES]


def without_added_tokens(definition: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer without the tokens that are cut out of a text before it is split."""
    return Tokenizer.from_str(json.dumps({**definition, "added_tokens": [], "post_processor": None}))


def tokens(tokenizer: Tokenizer) -> list[list[int]]:
    """Return the tokens of the probe texts, without those that a tokenizer adds."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(PROBES), add_special_tokens=False)]


def merge_scores(definition: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of all tokens by which llama.cpp merges in the order of a BPE's merges.

    The score is minus the place of the first merge that makes the token, and the lowest for tokens that no merge makes.
    """
    merges = definition["model"].get("merges") or []
    scores = dict.fromkeys(definition["model"]["vocab"], -float(len(merges)))
    for place, pair in reversed(list(enumerate(merges))):
        scores["".join(pair if isinstance(pair, list) else pair.split(" "))] = -float(place)
    return scores


def adds_a_space(definition: Mapping[str, Any], scores: Mapping[str, float]) -> bool | None:
    """Return whether llama.cpp must put a space before a text, so that its kind "llama" gives the tokens of a BPE.

    `scores` are those of `merge_scores`. Return None if it gives others either way.
    """
    vocabulary: dict[str, int] = definition["model"]["vocab"]
    wanted = tokens(without_added_tokens(definition))
    for adds in (True, False):
        if [merged(" " * adds + text, vocabulary, scores) for text in PROBES] == wanted:
            return adds
    return None


def merged(text: str, vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[int]:
    """Return the tokens that llama.cpp's kind "llama" gives for a text."""
    parts = list(text.replace(" ", WORD_START))
    while (best := best_pair(parts, vocabulary, scores)) is not None:
        parts[best : best + 2] = ["".join(parts[best : best + 2])]
    found: list[int] = []
    for part in parts:
        if part in vocabulary:
            found.append(vocabulary[part])
        else:
            found += [vocabulary[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


def best_pair(parts: Sequence[str], vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> int | None:
    """Return where the neighbours stand whose joined token has the highest score, the first of equals."""
    joined = (parts[i] + parts[i + 1] for i in range(len(parts) - 1))
    found = [(-scores[text], i) for i, text in enumerate(joined) if text in vocabulary]
    return min(found)[1] if found else None
