"""Lines of any input, cut into groups, without holding more than the longest line allowed."""

import io

from hypothesis import given
from hypothesis import strategies as st

from gptctl.io.input import bounded_lines
from gptctl.io.input.bounded_lines import line_groups


def lines_with_offsets(data: bytes) -> list[tuple[int, bytes]]:
    found, offset = [], 0
    for line in data.split(b"\n"):
        found.append((offset, line))
        offset += len(line) + 1
    return [(start, line) for start, line in found if line]


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=40), st.integers(1, 100))
def test_groups_hold_every_line_at_its_offset(lines: list[bytes], target: int) -> None:
    data = b"\n".join(lines)
    found = []
    for offset, group in line_groups(io.BytesIO(data), target, max_line_bytes=1000):
        found += [(offset + start, line) for start, line in lines_with_offsets(group)]
    assert found == lines_with_offsets(data)


def test_an_endless_line_is_cut_and_the_rest_goes_on(monkeypatch) -> None:
    monkeypatch.setattr(bounded_lines, "CHUNK_BYTES", 64)
    data = b"first\n" + b"x" * 5000 + b"\nlast\n"
    groups = list(line_groups(io.BytesIO(data), target_bytes=32, max_line_bytes=100))
    lines = [(offset + start, line) for offset, group in groups for start, line in lines_with_offsets(group)]
    assert lines[0] == (0, b"first")
    assert lines[-1] == (6 + 5001, b"last")
    assert [len(line) for _, line in lines if line.startswith(b"x")] == [101]
    assert max(len(group) for _, group in groups) < 300
