"""Separate the words of scripts that are written without spaces between words.

Chinese is segmented by rjieba, Japanese by fugashi (MeCab) with the dictionary ipadic, Thai by nlpo3 with PyThaiNLP's
list of words. Lao, Khmer, Burmese and the like are segmented by PyICU. PyICU also serves the others if their own
packages are not installed. Without any of these, each character with its combining marks is a word. Nothing is
downloaded. `segmenters_used` says what was used, and `tell` tells people, with what to install.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.context import Context
from gptctl.core.extras import EXTRAS, Extra, install_hint
from gptctl.text.scripts import HAN, KANA, OTHER, THAI, UNSPACED, count_letters, letters_of

CHARACTERS = "characters"
# Of the Chinese characters and kana of a text, this share is kana from which on it is Japanese. Japanese prose has more
# than half, and a Chinese text that quotes a Japanese name has far less.
JAPANESE_KANA_SHARE = 0.1
# What segments a language best, if PyICU ("icu") does not.
MODULES = {"Japanese": "fugashi", "Thai": "nlpo3"}
RJIEBA = Extra("Chinese words", ("rjieba>=0.2",))  # gptctl requires it, but works without it
LONGEST_RUN = 2000  # characters that are segmented at once, so that a text without punctuation takes bounded memory
STACKERS = "\u17d2\u1039\u1a60"  # put the next letter of Khmer, Burmese and Tai Tham below the last one
OTHER_SCRIPTS = "Lao, Khmer or Burmese"

Split = Callable[[str], list[str]]


@dataclass(frozen=True)
class Segmenter:
    """What splits a run of letters into words, and its name for people."""

    name: str
    split: Split


def separate_words(text: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return the column with a space on both sides of each word of a script that is written without spaces.

    Documents without such a script are not copied. Nulls stay null.
    """
    counts = count_letters(text)
    rows = counts[:, UNSPACED].any(axis=1)
    if not rows.any():
        return text
    japanese = _is_japanese(counts)[rows].tolist()
    documents = text.filter(pa.array(rows)).to_pylist()
    separated = [_separate(document, chosen) for document, chosen in zip(documents, japanese, strict=True)]
    return pc.replace_with_mask(text, pa.array(rows), pa.array(separated, pa.large_string()))


def separate_text(text: str) -> str:
    """Return one text with its words separated, as `separate_words` does."""
    if text.isascii():
        return text
    separated: str = separate_words(pa.array([text], pa.large_string()))[0].as_py()
    return separated


def separate_characters(text: str) -> str:
    """Return one text with spaces around each character, with its marks, of scripts without spaces.

    This depends on no package, so that scores are the same on each machine.
    """
    return text if text.isascii() else _patterns()[2].sub(r" \g<0> ", text)


def segmenters_used(text: pa.LargeStringArray) -> dict[str, int]:
    """Return what segments the documents of a column, and how many: {"Chinese by rjieba": 7}."""
    counts = count_letters(text)
    japanese, cjk = _is_japanese(counts), counts[:, [HAN, KANA]].any(axis=1)
    documents = {
        "Chinese": cjk & ~japanese,
        "Japanese": japanese,
        "Thai": counts[:, THAI] > 0,
        OTHER_SCRIPTS: counts[:, OTHER] > 0,
    }
    return {
        f"{language} by {_segmenter(language).name}": int(np.count_nonzero(rows))
        for language, rows in documents.items()
        if rows.any()
    }


def tell(used: Mapping[str, int], context: Context) -> None:
    """Say which segmenters were used (`segmenters_used`), and warn of characters that counted as words."""
    segmented = sorted(entry for entry in used if not entry.endswith(CHARACTERS))
    if segmented:
        context.info(f"words: {', '.join(segmented)}")
    for entry in sorted(used.keys() - set(segmented)):
        language = entry.partition(" by ")[0]
        context.warn(
            f"each {language} character counts as a word (documents: {used[entry]:,}); "
            f"to segment words: {install_command(language)}"
        )


def tell_shingles(used: Mapping[str, int], context: Context) -> None:
    """Say as `tell` does what segmented the words of near-duplicates, and with which options more of them are found."""
    tell(used, context)
    if used:
        context.info(
            "near-duplicates were compared by segmented words, which misses copies of short texts with a changed "
            "character; --set shingle=chars --ngram 3 --threshold 0.7 finds more"
        )


def install_command(language: str) -> str:
    """Return the command that installs the segmenter of a language."""
    return install_hint(RJIEBA if language == "Chinese" else EXTRAS[MODULES.get(language, "icu")])


def _is_japanese(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    kana = counts[:, KANA]
    return np.asarray((kana > 0) & (kana >= JAPANESE_KANA_SHARE * (counts[:, HAN] + kana)))


def _separate(text: str, is_japanese: bool) -> str:
    runs, mark_after_space, _ = _patterns()
    languages = {"cjk": "Japanese" if is_japanese else "Chinese", "thai": "Thai", "other": OTHER_SCRIPTS}

    def separate_run(found: re.Match[str]) -> str:
        words = " ".join(_segmenter(languages[str(found.lastgroup)]).split(found[0]))
        return f" {mark_after_space.sub('', words)} "

    return runs.sub(separate_run, text)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return patterns of runs of letters by script, of spaces before a combining mark, and of letters with marks."""
    from gptctl.text.combining_marks import character_class, combining_marks

    mark = character_class(combining_marks())
    runs = (
        f"(?P<{name}>[{letters}][{letters}{mark}]{{0,{LONGEST_RUN}}}[{mark}]*)"
        for name, scripts in (("cjk", (HAN, KANA)), ("thai", (THAI,)), ("other", (OTHER,)))
        for letters in (character_class(letters_of(*scripts)),)
    )
    letter = character_class(letters_of(*UNSPACED))
    cluster = rf"[{letter}][{mark}]*(?:(?<=[{STACKERS}])[{letter}][{mark}]*)*"
    return re.compile("|".join(runs)), re.compile(f" (?=[{mark}])"), re.compile(cluster)


@cache
def _segmenter(language: str) -> Segmenter:
    """Return the best segmenter of a language that is installed."""
    makers = {"Chinese": (_rjieba, _icu), "Japanese": (_fugashi, _icu), "Thai": (_nlpo3, _icu), OTHER_SCRIPTS: (_icu,)}
    for make in makers[language]:
        found = make()
        if found:
            return found
    return Segmenter(CHARACTERS, _patterns()[2].findall)


def _rjieba() -> Segmenter | None:
    try:
        import rjieba
    except ImportError:
        return None
    return Segmenter("rjieba", rjieba.cut)


def _fugashi() -> Segmenter | None:
    try:
        import fugashi
        import ipadic
    except ImportError:
        return None
    tagger = fugashi.GenericTagger(f"{ipadic.MECAB_ARGS} -Owakati")
    return Segmenter("fugashi", lambda run: tagger.parse(run).split())


def _nlpo3() -> Segmenter | None:
    # PyThaiNLP itself is not imported, because only its list of words is needed.
    package = find_spec("pythainlp")
    if package is None or package.origin is None or find_spec("nlpo3") is None:
        return None
    import nlpo3

    words = Path(package.origin).parent / "corpus" / "words_th.txt"
    nlpo3.load_dict(str(words), "gptctl")
    # nlpo3 1.4 repeats and drops letters in its safe mode. Without it, a run takes bounded time as it is short.
    return Segmenter("nlpo3", lambda run: nlpo3.segment(run, "gptctl"))


def _icu() -> Segmenter | None:
    try:
        import icu
    except ImportError:
        return None
    breaks = icu.BreakIterator.createWordInstance(icu.Locale.getRoot())

    def split(run: str) -> list[str]:
        characters = icu.UnicodeString(run)  # whose positions are those of the iterator
        breaks.setText(characters)
        bounds = [0, *breaks]
        return [str(characters[first:last]) for first, last in pairwise(bounds)]

    return Segmenter("PyICU", split)
