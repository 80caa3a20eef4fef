"""The filters' figures as a reader would write them in plain Python: what the compiled kernels must equal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from gptctl.text.filters import c4, fineweb, gopher_quality, gopher_repetition
from gptctl.text.punctuation import PUNCTUATION, SENTENCE_TERMINALS
from gptctl.text.words import DATATROVE_WORD as WORD

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """Count the parts that repeat an earlier one, and their characters."""
    unique = set(parts)
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))


def repetition(text: str, _: gopher_repetition.Config) -> list[float]:
    """Gopher's figures on repetition."""
    if not text:
        return [0.0] * 14
    words = WORD.findall(text)
    found: list[float] = [len(text)]
    for parts in (re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)):
        count, characters = duplicates(parts)
        found += [count / len(parts), characters / len(text)]
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        [(gram, count)] = Counter(grams).most_common(1) if grams else [("", 0)]
        found.append(len(gram) * count / len(text))
    for n in range(5, 11):
        seen: set[str] = set()
        characters = place = 0
        while place + n <= len(words):
            gram = "".join(words[place : place + n])
            if gram in seen:
                characters += len(gram)
            place += n if gram in seen else 1
            seen.add(gram)
        found.append(characters / len(text))
    return found


def quality(text: str, config: gopher_quality.Config) -> list[float]:
    """Gopher's figures on quality."""
    words = WORD.findall(text)
    spoken = [word for word in words if any(character not in PUNCTUATION for character in word)]
    mean = sum(map(len, spoken)) / max(len(spoken), 1)
    lines = text.splitlines()
    count, rows = max(len(words), 1), max(len(lines), 1)
    return [
        len(spoken), len(spoken), mean, mean, text.count("#") / count, (text.count("...") + text.count("…")) / count,
        sum(line.lstrip().startswith(("•", "-")) for line in lines) / rows,
        sum(line.rstrip().endswith(("...", "…")) for line in lines) / rows,
        sum(any(map(str.isalpha, word)) for word in words) / count, len(set(config.stop_words) & set(words)),
    ]  # fmt: skip


def web_lines(text: str, config: fineweb.Config) -> list[float]:
    """FineWeb's figures, as datatrove counts them."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return [0.0]
    return [
        len(lines), sum(line[-1] in SENTENCE_TERMINALS for line in lines) / len(lines),
        sum(len(line) <= config.short_line_chars for line in lines) / len(lines),
        duplicates(lines)[1] / len(text.replace("\n", "")), text.count("\n") / len(WORD.findall(text)),
    ]  # fmt: skip


def sentences(text: str, config: c4.Config) -> tuple[str, str | None]:
    """C4's text and reason."""
    kept: list[str] = []
    count = 0
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if any(len(word) > config.max_word_chars for word in words):
            continue
        line = CITATION.sub("", line) if config.remove_citations else line
        closed = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
        if (config.filter_no_terminal_punct and not closed) or len(words) < config.min_line_words:
            continue
        lower = line.lower()
        if config.filter_lorem_ipsum and "lorem ipsum" in lower:
            return text, "c4.filter_lorem_ipsum"
        if config.filter_javascript and "javascript" in lower:
            continue
        if config.filter_curly_bracket and "{" in line:
            return text, "c4.filter_curly_bracket"
        if config.filter_policy and any(phrase in lower for phrase in c4.POLICIES):
            continue
        count += sum(bool(piece.strip()) for piece in re.split(r"(?<=[.!?])\s+", line))
        kept.append(line)
    return ("\n".join(kept).strip(), None) if count >= config.min_sentences else (text, "c4.min_sentences")
