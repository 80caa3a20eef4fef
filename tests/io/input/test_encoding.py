"""Text in the encodings of the world is read right, and what is no text is refused."""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptctl.io.input.encoding import NotTextError, Utf8Reader, decode
from tests.conftest import REPO
from tests.io.input.udhr import ARTICLE_1

PAIRS = [(language, name) for language, (encodings, _) in ARTICLE_1.items() for name in encodings.split()]
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize(("language", "name"), PAIRS)
def test_encodings_of_languages(language: str, name: str) -> None:
    """The text is right, whatever the encoding is called that the detector finds."""
    text = ARTICLE_1[language][1]
    found, encoding = decode(text.encode(name))
    assert found == text
    assert text.encode(encoding) == text.encode(name)


@pytest.mark.parametrize("name", UNICODE)
def test_unicode_with_and_without_a_byte_order_mark(name: str) -> None:
    for language, (_, text) in ARTICLE_1.items():
        if language != "Thai" or "-" not in name:  # it has too few blanks to recognize UTF-16 without a mark
            assert decode(text.encode(name))[0] == text, language


def test_the_byte_order_mark_counts_more_than_a_chosen_encoding() -> None:
    text = ARTICLE_1["Ukrainian"][1]
    assert decode(text.encode("koi8-u"), "cp1251") == (text.encode("koi8-u").decode("cp1251"), "cp1251")
    assert decode(text.encode("utf-16"), "cp1251")[0] == text
    assert decode(text.encode(), "cp1251") == (text, "utf-8")
    assert decode(text.encode("utf-16-le"), "utf-16-le")[0] == text


def test_accents_far_behind_the_start() -> None:
    """The sample is taken where the text is not ASCII, not at the start, also without line ends."""
    for filler in ("A line of plain English words.\n" * 40_000, "plain English words without a line end " * 30_000):
        text = filler + ARTICLE_1["Russian"][1]
        assert decode(text.encode("koi8-r")) == (text, "koi8-r")


@pytest.mark.parametrize("language", ["Polish", "Russian", "Korean"])
def test_utf8_with_one_broken_byte(language: str) -> None:
    """It stays UTF-8 and is refused with the place of the byte, instead of being read as another encoding."""
    data = ARTICLE_1[language][1].encode() * 20
    places = [found.start() for found in re.finditer(rb"[\xc2-\xf4]", data)]
    for place in places[:: len(places) // 20]:
        with pytest.raises(NotTextError) as raised:
            decode(data[:place] + data[place + 1 :])
        assert (raised.value.reason, raised.value.position) == ("not UTF-8", f"byte {place}")


def binaries() -> Iterator[tuple[str, bytes]]:
    png = (REPO / "docs" / "pictures" / "report-phone.png").read_bytes()
    yield "PNG", png
    yield "start of a PNG", png[:1000]
    yield "gzip", gzip.compress(Path(__file__).read_bytes())
    yield "bytecode", Path(re.__spec__.cached or "").read_bytes() if re.__spec__ else b"\0"
    yield "zeros", bytes(5000)
    yield "numbers", b"".join(number.to_bytes(4, "little") for number in range(2000))


@pytest.mark.parametrize(("kind", "data"), list(binaries()))
def test_binary_files_are_no_text(kind: str, data: bytes) -> None:
    for encoding in ("auto",) if kind != "start of a PNG" else ("auto", "utf-8"):
        with pytest.raises(NotTextError):
            decode(data, encoding)


@pytest.mark.parametrize("size", [7, 64, 1000, 10**6])
@pytest.mark.parametrize(("language", "name"), [("Japanese", "cp932"), ("Russian", "koi8-r"), ("German", "utf-16")])
def test_a_stream_gives_the_same_text_however_it_is_read(language: str, name: str, size: int) -> None:
    """Also if a character is cut between two reads. The encoding is decided in the first block that is not ASCII."""
    text = "id,text\n" + ("a plain row\n" * 10 if name != "utf-16" else "") + ARTICLE_1[language][1] * 50
    source = io.BytesIO(text.encode(name))
    reader, parts = Utf8Reader(source, name if size < 1000 else "auto"), []
    while not reader.at_end:
        parts.append(reader.read(size))
    assert b"".join(parts).decode() == text


def test_a_later_byte_that_does_not_fit_is_no_utf8() -> None:
    """So the reader of a table finds the row that it is in."""
    rows = [ARTICLE_1["Japanese"][1].encode("euc_jp")] * 3
    reader = Utf8Reader(io.BytesIO(b"\n".join([*rows, b"\xff\xff", *rows])))
    lines = b"".join(iter(lambda: reader.read(300), b"")).split(b"\n")
    assert reader.encoding == "euc_jp"
    assert [line.decode("utf-8", "replace").count("�") > 0 for line in lines] == [False] * 3 + [True] + [False] * 3


CHINESE, JAPANESE, KOREAN = (
    "这是一个很长的句子，用来测试旧的编码。",
    "日本語の文章がここにあります。",
    "한국어 문장은 여기에 있습니다.",
)
SEVEN_BIT = {"hz": CHINESE, "iso2022_jp": JAPANESE, "iso2022_kr": KOREAN}


@pytest.mark.parametrize("name", SEVEN_BIT)
def test_encodings_in_seven_bits_are_known_by_their_escape_sequences(name: str) -> None:
    text = f"First a line of ASCII.\n{SEVEN_BIT[name]}\nA last line.\n" * 20
    data = text.encode(name)
    assert data.isascii() and decode(data) == (text, name)
    assert decode(SEVEN_BIT[name].encode(name)) == (SEVEN_BIT[name], name)
    whole = Utf8Reader(io.BytesIO(data))
    assert b"".join(whole.lines()).decode() == text and whole.encoding == name


@pytest.mark.parametrize("name", ["hz", "utf-7"])
def test_a_chosen_encoding_in_seven_bits_is_believed(name: str) -> None:
    data = f"a\n{CHINESE}\n".encode(name)
    assert decode(data, name) == (f"a\n{CHINESE}\n", codecs.lookup(name).name)
    reader = Utf8Reader(io.BytesIO(data), name)
    assert b"".join(reader.lines()).decode() == f"a\n{CHINESE}\n"


@pytest.mark.parametrize(
    "text",
    [
        "sub f { ~{ $x } } and ~} without more", "cite~{knuth84}~and others", "a + b - c, +AbC-, 2 ~ 3", "~{ab~}",
        "base64: SGVsbG8+d29ybGQ/IQ==", "~{lower case text~}",
    ],
)  # fmt: skip
def test_ascii_with_tildes_and_pluses_stays_ascii(text: str) -> None:
    assert decode(text.encode()) == (text, "utf-8")
    assert b"".join(Utf8Reader(io.BytesIO(text.encode())).lines()) == text.encode()


def test_a_later_block_is_detected_after_a_tilde() -> None:
    data = b"~{ is no text\n" + "Grüße aus München, schöne Straße".encode("cp1252")
    reader = Utf8Reader(io.BytesIO(data))
    read = reader.read(14) + reader.read(100)
    assert read.decode().startswith("~{ is no text\nGrü") and reader.encoding == "cp1252"


def test_iso_2022_cn_is_refused() -> None:
    """Python has no codec for it."""
    pairs = bytes(byte & 0x7F for byte in CHINESE.encode("gb2312"))
    with pytest.raises(NotTextError, match="unknown encoding"):
        decode(b"\x1b$)A\x0e" + pairs + b"\x0f\n")
