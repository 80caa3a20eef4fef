"""C4's rules on the lines of each document, and the text that they leave."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.characters import DIGIT, LINE_END, SPACE, decode, strip_left, strip_right
from gptctl.text.kernels.compile import BYTES, COUNTS, FIGURE_ROWS, NEW_BYTES, NUMBER, OFFSETS, compiled

CARRIAGE_RETURN, LINE_FEED, DOT, OPEN, CLOSE, CURLY = 0x0D, 0x0A, 0x2E, 0x5B, 0x5D, 0x7B
# Which rules are on, as bits.
PUNCTUATION_RULE, CITATION_RULE, LOREM_RULE, SCRIPT_RULE, CURLY_RULE, POLICY_RULE = 1, 2, 4, 8, 16, 32
SENTENCES, LOREM, CURLY_BRACKET = 0, 1, 2


@compiled(inline=True)
def contains(data: Any, low: Any, high: Any, phrases: Any, begin: Any, size: Any) -> Any:
    """Return whether a range of bytes holds a phrase, which is a range of the bytes of all phrases."""
    for i in range(low, high - size + 1):
        if data[i] == phrases[begin]:
            k = 1
            while k < size and data[i + k] == phrases[begin + k]:
                k += 1
            if k == size:
                return True
    return False


@compiled(inline=True)
def citation_end(data: Any, i: Any, high: Any, table: Any, phrases: Any, bounds: Any) -> Any:
    """Return the end of a citation mark that begins at byte i, or i: [, digits, ]; [edit]; [citation needed]."""
    k = i + 1
    while k < high:
        point, size = decode(data, k)
        if not table[point] & DIGIT:
            break
        k += size
    if k < high and data[k] == CLOSE:
        return k + 1
    for p in range(2):
        size = bounds[p + 1] - bounds[p]
        if i + size <= high:
            k = 0
            while k < size and data[i + k] == phrases[bounds[p] + k]:
                k += 1
            if k == size:
                return i + size
    return i


@compiled(inline=True)
def count_sentences(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Count the pieces that are not blank, cut at white space behind a full stop, question or exclamation mark."""
    count = 0
    visible = stopped = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        if table[point] & SPACE:
            if stopped:
                count += visible
                visible = False
            stopped = False
            continue
        visible = True
        stopped = point == 0x2E or point == 0x21 or point == 0x3F
    return count + visible


@compiled(inline=True)
def line_words(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Count the words between white space, and the characters of the longest."""
    count = length = longest = 0
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        if table[point] & SPACE:
            length = 0
        else:
            count += length == 0
            length += 1
            longest = max(longest, length)
    return count, longest


@compiled(inline=True)
def closes(line: Any, size: Any) -> Any:
    """Return whether a line ends with a full stop, question or exclamation mark, or a quote, and not with three
    stops."""
    if not size:
        return False
    last = line[size - 1]
    if last == DOT:
        return not (size >= 3 and line[size - 2] == DOT and line[size - 3] == DOT)
    return last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27


@compiled(BYTES, OFFSETS, BYTES, BYTES, OFFSETS, NUMBER, NUMBER, NUMBER, NUMBER, NEW_BYTES, COUNTS, FIGURE_ROWS)
def keep_sentences(data: Any, offsets: Any, table: Any, phrases: Any, bounds: Any, rules: Any, min_words: Any,
                   max_word: Any, min_sentences: Any, out: Any, ends: Any, figures: Any) -> None:  # fmt: skip
    """Write the lines that each document keeps into `out`, up to `ends`, and fill its figures (documents, 3).

    A document that is dropped keeps its text. `phrases` are, in order: the two citation marks, the placeholder text,
    the script's name, then the phrases of policies. Figures: sentences, placeholder text, curly bracket.
    """
    most = 1
    for d in range(offsets.size - 1):
        most = max(most, offsets[d + 1] - offsets[d])
    line, lower = np.empty(most, np.uint8), np.empty(most, np.uint8)
    written = 0
    for d in range(offsets.size - 1):
        begin = written
        sentences = kept = 0
        bad = SENTENCES
        start, high = offsets[d], offsets[d + 1]
        while start < high and not bad:
            end = start
            size = 0
            while end < high:
                point, size = decode(data, end)
                if table[point] & LINE_END:
                    break
                end += size
            following = end + size if end < high else high
            if end + 1 < high and data[end] == CARRIAGE_RETURN and data[end + 1] == LINE_FEED:
                following = end + 2
            low = strip_left(data, start, end, table)
            stop = strip_right(data, low, end, table)
            start = following
            words, longest = line_words(data, low, stop, table)
            if longest > max_word:
                continue
            size = 0
            i = low
            while i < stop:
                if data[i] == OPEN and rules & CITATION_RULE:
                    after = citation_end(data, i, stop, table, phrases, bounds)
                    if after > i:
                        i = after
                        continue
                line[size] = data[i]
                size += 1
                i += 1
            if (rules & PUNCTUATION_RULE and not closes(line, size)) or words < min_words:
                continue
            # Only the Kelvin sign has an ASCII letter for its lower case, besides the 26.
            lowered = i = 0
            while i < size:
                byte = line[i]
                if byte == 0xE2 and line[i + 1] == 0x84 and line[i + 2] == 0xAA:
                    byte = np.uint8(0x6B)
                    i += 2
                lower[lowered] = byte + 32 if 0x41 <= byte <= 0x5A else byte
                lowered += 1
                i += 1
            if rules & LOREM_RULE and contains(lower, 0, lowered, phrases, bounds[2], bounds[3] - bounds[2]):
                bad = LOREM
                continue
            if rules & SCRIPT_RULE and contains(lower, 0, lowered, phrases, bounds[3], bounds[4] - bounds[3]):
                continue
            if rules & CURLY_RULE:
                for i in range(size):
                    if line[i] == CURLY:
                        bad = CURLY_BRACKET
                        break
                if bad:
                    continue
            if rules & POLICY_RULE:
                policy = False
                for p in range(4, bounds.size - 1):
                    if contains(lower, 0, lowered, phrases, bounds[p], bounds[p + 1] - bounds[p]):
                        policy = True
                        break
                if policy:
                    continue
            sentences += count_sentences(line, 0, size, table)
            if kept:
                out[written] = LINE_FEED
                written += 1
            for i in range(size):
                out[written + i] = line[i]
            written += size
            kept += 1
        figures[d, 0], figures[d, 1], figures[d, 2] = sentences, bad == LOREM, bad == CURLY_BRACKET
        if bad or sentences < min_sentences:
            for i in range(offsets[d], high):
                out[begin + i - offsets[d]] = data[i]
            written = begin + high - offsets[d]
        else:
            low = strip_left(out, begin, written, table)
            stop = strip_right(out, low, written, table)
            for i in range(low, stop):
                out[begin + i - low] = out[i]
            written = begin + stop - low
        ends[d] = written
