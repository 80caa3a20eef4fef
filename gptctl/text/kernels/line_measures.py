"""Measure the lines of each document: bullets, ellipses, ends of sentences, short lines and repeated lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.characters import (
    LINE_END,
    TERMINAL,
    count_characters,
    decode,
    decode_before,
    strip_left,
    strip_right,
)  # fmt: skip
from gptctl.text.kernels.compile import BYTES, COUNT_ROWS, FIGURE_ROWS, NUMBER, OFFSETS, compiled
from gptctl.text.kernels.hash_tables import duplicate_pieces, most_line_feeds, power_of_two

HASH, DOT, HYPHEN, LINE_FEED = ord("#"), ord("."), ord("-"), ord("\n")
ELLIPSIS, BULLET, CARRIAGE_RETURN = 0x2026, 0x2022, 0x0D


@compiled(inline=True)
def ends_in_ellipsis(data: Any, low: Any, high: Any) -> Any:
    """Return whether a range of bytes ends with "..." or with the ellipsis character."""
    if high - low < 3:
        return False
    a, b, c = data[high - 3], data[high - 2], data[high - 1]
    return (a == DOT and b == DOT and c == DOT) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@compiled(BYTES, OFFSETS, BYTES, COUNT_ROWS)
def measure_marks(data: Any, offsets: Any, table: Any, counts: Any) -> None:
    """Fill the counts (documents, 5).

    They are: number signs, ellipses, lines, lines with a bullet, and lines that end in an ellipsis. Lines are those of
    `str.splitlines`.
    """
    for d in range(offsets.size - 1):
        low, high = offsets[d], offsets[d + 1]
        hashes = ellipses = lines = bullet_lines = ellipsis_lines = 0
        dots = 0
        i = start = low
        while i < high:
            point, size = decode(data, i)
            i += size
            hashes += point == HASH
            dots = dots + 1 if point == DOT else 0
            if point == ELLIPSIS or dots == 3:
                ellipses += 1
                dots = 0
            is_end = table[point] & LINE_END
            if not is_end and i < high:
                continue
            end = i - size if is_end else i
            lines += 1
            inner = strip_left(data, start, end, table)
            if inner < end:
                head, _ = decode(data, inner)
                bullet_lines += head == BULLET or head == HYPHEN
                ellipsis_lines += ends_in_ellipsis(data, inner, strip_right(data, inner, end, table))
            if point == CARRIAGE_RETURN and i < high and data[i] == LINE_FEED:
                i += 1
            start = i
        counts[d, 0], counts[d, 1], counts[d, 2] = hashes, ellipses, lines
        counts[d, 3], counts[d, 4] = bullet_lines, ellipsis_lines


@compiled(BYTES, OFFSETS, BYTES, NUMBER, NUMBER, OFFSETS, FIGURE_ROWS)
def measure_web_lines(
    data: Any, offsets: Any, table: Any, short: Any, keep_white_space: Any, words: Any, figures: Any
) -> None:
    """Fill FineWeb's figures (documents, 5).

    They are: the number of lines, the share of lines that end a sentence, the share of short lines (at most `short`
    characters), the share of characters in repeated lines, and line feeds per word. Lines are separated by line feeds;
    blank lines do not count. White space at the end of a line is ignored unless `keep_white_space`.
    """
    most = most_line_feeds(data, offsets) + 1
    lows, highs = np.empty(most, np.int64), np.empty(most, np.int64)
    size = power_of_two(2 * most)
    slots, stamps = np.empty(size, np.int32), np.zeros(size, np.int32)
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        count = line_feeds = sentence_ends = short_lines = characters = 0
        while start <= high:
            end = start
            while end < high and data[end] != LINE_FEED:
                end += 1
            line_feeds += end < high
            visible = strip_right(data, start, end, table)
            if visible > start:
                stop = end if keep_white_space else visible
                point, _ = decode_before(data, stop)
                length = count_characters(data, start, stop)
                sentence_ends += (table[point] & TERMINAL) != 0
                short_lines += length <= short
                characters += length
                lows[count], highs[count] = start, stop
                count += 1
            elif keep_white_space:
                characters += count_characters(data, start, end)
            start = end + 1
        figures[d, 0] = count
        figures[d, 1:] = np.nan
        if count:
            _, repeated = duplicate_pieces(data, lows, highs, count, slots, stamps, d + 1)
            figures[d, 1], figures[d, 2] = sentence_ends / count, short_lines / count
            figures[d, 3], figures[d, 4] = repeated / characters, line_feeds / words[d]
