"""C4's rules: which lines of a document are kept as sentences, and which documents are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.characters import DIGIT, LINE_END, SPACE, decode, strip_left, strip_right
from gptctl.text.kernels.compile import BYTES, COUNTS, FIGURE_ROWS, NEW_BYTES, NUMBER, OFFSETS, compiled

CARRIAGE_RETURN, LINE_FEED, FULL_STOP, OPEN_BRACKET, CLOSE_BRACKET, CURLY_BRACKET = 0x0D, 0x0A, 0x2E, 0x5B, 0x5D, 0x7B
QUESTION_MARK, EXCLAMATION_MARK, QUOTE, APOSTROPHE = 0x3F, 0x21, 0x22, 0x27
# The rules that are applied, as bits.
PUNCTUATION_RULE, CITATION_RULE, LOREM_RULE, JAVASCRIPT_RULE, CURLY_RULE, POLICY_RULE = 1, 2, 4, 8, 16, 32
# The phrases: the first two are citation marks, those from POLICY_PHRASES on are about policies.
LOREM_PHRASE, JAVASCRIPT_PHRASE, POLICY_PHRASES = 2, 3, 4
# What happens with a line. The last two drop the document.
KEEP_LINE, SKIP_LINE, DROP_FOR_LOREM, DROP_FOR_CURLY = 0, 1, 2, 3


@compiled(inline=True)
def contains(text: Any, text_size: Any, phrases: Any, bounds: Any, phrase: Any) -> Any:
    """Return whether a text contains a phrase. The bytes of phrase p are those from bounds[p] to bounds[p + 1]."""
    begin, size = bounds[phrase], bounds[phrase + 1] - bounds[phrase]
    for i in range(text_size - size + 1):
        if text[i] == phrases[begin]:
            k = 1
            while k < size and text[i + k] == phrases[begin + k]:
                k += 1
            if k == size:
                return True
    return False


@compiled(inline=True)
def citation_end(data: Any, i: Any, high: Any, table: Any, phrases: Any, bounds: Any) -> Any:
    """Return the end of a citation mark ([1], [edit], [citation needed]) that begins at byte i, or i for none."""
    k = i + 1
    while k < high:
        point, size = decode(data, k)
        if not table[point] & DIGIT:
            break
        k += size
    if k < high and data[k] == CLOSE_BRACKET:
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
    """Count the sentences: the text is split at white space after a full stop, question mark or exclamation mark."""
    count = 0
    visible = ended = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        if table[point] & SPACE:
            if ended:
                count += visible
                visible = False
            ended = False
            continue
        visible = True
        ended = point == FULL_STOP or point == EXCLAMATION_MARK or point == QUESTION_MARK
    return count + visible


@compiled(inline=True)
def count_line_words(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Return the number of words, which are separated by white space, and the length of the longest in characters."""
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
def ends_sentence(line: Any, size: Any) -> Any:
    """Return whether a line ends with a full stop, question mark, exclamation mark or quote, but not with "..."."""
    if not size:
        return False
    last = line[size - 1]
    if last == FULL_STOP:
        return not (size >= 3 and line[size - 2] == FULL_STOP and line[size - 3] == FULL_STOP)
    return last == QUESTION_MARK or last == EXCLAMATION_MARK or last == QUOTE or last == APOSTROPHE


@compiled(inline=True)
def find_line_end(data: Any, start: Any, high: Any, table: Any) -> Any:
    """Return where a line ends, and where the next one begins. "\\r\\n" is one line end."""
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
    return end, following


@compiled(inline=True)
def copy_line(data: Any, low: Any, high: Any, table: Any, phrases: Any, bounds: Any, rules: Any, line: Any) -> Any:
    """Copy a line into `line`, without citation marks if that rule is applied; return its size in bytes."""
    size = 0
    i = low
    while i < high:
        if data[i] == OPEN_BRACKET and rules & CITATION_RULE:
            end = citation_end(data, i, high, table, phrases, bounds)
            if end > i:
                i = end
                continue
        line[size] = data[i]
        size += 1
        i += 1
    return size


@compiled(inline=True)
def lowercase_ascii(line: Any, size: Any, lower: Any) -> Any:
    """Write a line with ASCII letters in lower case into `lower`; return its size in bytes.

    Besides the 26 letters, only the Kelvin sign (U+212A) has an ASCII letter as its lower case.
    """
    lower_size = i = 0
    while i < size:
        byte = line[i]
        if byte == 0xE2 and line[i + 1] == 0x84 and line[i + 2] == 0xAA:
            byte = np.uint8(0x6B)
            i += 2
        lower[lower_size] = byte + 32 if 0x41 <= byte <= 0x5A else byte
        lower_size += 1
        i += 1
    return lower_size


@compiled(inline=True)
def judge_line(line: Any, size: Any, lower: Any, phrases: Any, bounds: Any, rules: Any) -> Any:
    """Return what the rules say about a line: KEEP_LINE, SKIP_LINE, or why its document is dropped."""
    if rules & PUNCTUATION_RULE and not ends_sentence(line, size):
        return SKIP_LINE
    lower_size = lowercase_ascii(line, size, lower)
    if rules & LOREM_RULE and contains(lower, lower_size, phrases, bounds, LOREM_PHRASE):
        return DROP_FOR_LOREM
    if rules & JAVASCRIPT_RULE and contains(lower, lower_size, phrases, bounds, JAVASCRIPT_PHRASE):
        return SKIP_LINE
    if rules & CURLY_RULE:
        for i in range(size):
            if line[i] == CURLY_BRACKET:
                return DROP_FOR_CURLY
    if rules & POLICY_RULE:
        for phrase in range(POLICY_PHRASES, bounds.size - 1):
            if contains(lower, lower_size, phrases, bounds, phrase):
                return SKIP_LINE
    return KEEP_LINE


@compiled(inline=True)
def copy_bytes(source: Any, low: Any, high: Any, target: Any, begin: Any) -> Any:
    """Copy the bytes low to high to position `begin` of the target; return the end of the copy.

    Within one array, bytes can only be copied to an earlier position.
    """
    for i in range(low, high):
        target[begin + i - low] = source[i]
    return begin + high - low


@compiled(BYTES, OFFSETS, BYTES, BYTES, OFFSETS, NUMBER, NUMBER, NUMBER, NUMBER, NEW_BYTES, COUNTS, FIGURE_ROWS)
def keep_sentences(data: Any, offsets: Any, table: Any, phrases: Any, bounds: Any, rules: Any, min_words: Any,
                   max_word: Any, min_sentences: Any, out: Any, ends: Any, figures: Any) -> None:  # fmt: skip
    """Write the lines that each document keeps into `out`, up to `ends`, and fill its figures (documents, 3).

    The text of a dropped document is not changed. The phrases are, in this order: two citation marks, the placeholder
    text, the name of JavaScript, and phrases about policies. Figures: a line with placeholder text, a line with a curly
    bracket, and the number of sentences.
    """
    longest_document = 1
    for d in range(offsets.size - 1):
        longest_document = max(longest_document, offsets[d + 1] - offsets[d])
    line, lower = np.empty(longest_document, np.uint8), np.empty(longest_document, np.uint8)
    written = 0
    for d in range(offsets.size - 1):
        begin = written
        sentences = lines = 0
        verdict = KEEP_LINE
        start, high = offsets[d], offsets[d + 1]
        while start < high and verdict < DROP_FOR_LOREM:
            end, following = find_line_end(data, start, high, table)
            low = strip_left(data, start, end, table)
            stop = strip_right(data, low, end, table)
            start = following
            words, longest_word = count_line_words(data, low, stop, table)
            if longest_word > max_word or words < min_words:
                continue
            size = copy_line(data, low, stop, table, phrases, bounds, rules, line)
            verdict = judge_line(line, size, lower, phrases, bounds, rules)
            if verdict != KEEP_LINE:
                continue
            sentences += count_sentences(line, 0, size, table)
            if lines:
                out[written] = LINE_FEED
                written += 1
            written = copy_bytes(line, 0, size, out, written)
            lines += 1
        figures[d, 0], figures[d, 1], figures[d, 2] = verdict == DROP_FOR_LOREM, verdict == DROP_FOR_CURLY, sentences
        if verdict >= DROP_FOR_LOREM or sentences < min_sentences:
            written = copy_bytes(data, offsets[d], high, out, begin)
        else:
            low = strip_left(out, begin, written, table)
            written = copy_bytes(out, low, strip_right(out, low, written, table), out, begin)
        ends[d] = written
