"""The encodings that web pages declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptctl.io.input.page_charset import decode_page
from tests.io.formats.reading import texts
from tests.io.formats.web_archive import response

# A sentence in an encoding, and the label that pages give it.
SENTENCES = {
    "iso-8859-2": ("iso8859_2", "Zażółć gęślą jaźń, a potem idź do łóżka."),
    "windows-1250": ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
    "euc-kr": ("euc_kr", "이것은 한국어 페이지입니다"),
    "ks_c_5601-1987": ("euc_kr", "이것은 한국어 페이지입니다"),
    "koi8-u": ("koi8_u", "Це українська сторінка, її мова"),
    "windows-1251": ("cp1251", "Съешь ещё этих мягких булок"),
    "x-mac-cyrillic": ("mac_cyrillic", "Съешь ещё этих мягких булок"),
    "iso-8859-10": ("iso8859_10", "Þetta er íslenska síðan"),
    "iso-8859-7": ("iso8859_7", "Αυτή είναι μια ελληνική σελίδα"),
    "windows-1256": ("cp1256", "هذه صفحة عربية"),
    "windows-1255": ("cp1255", "זה דף בעברית"),
    "windows-1258": ("cp1258", "Đây là mô\u0323t"),
    "tis-620": ("tis_620", "นี่คือหน้าภาษาไทย"),
    "macintosh": ("mac_roman", "café déjà vu"),
    "Shift_JIS": ("shift_jis", "これは日本語のページです。"),
    "x-sjis": ("cp932", "これは日本語のページです。①"),
    "euc-jp": ("euc_jp", "これは日本語のページです。"),
    "iso-2022-jp": ("iso2022_jp", "これは日本語のページです。"),
    "hz-gb-2312": ("hz", "这是一个中文网页"),
    "gb2312": ("gb18030", "这是一个中文网页，有“引号”"),
    "big5": ("big5", "這是一個中文網頁"),
    "utf-8": ("utf_8", "Zażółć gęślą jaźń"),
}


@pytest.mark.parametrize("label", SENTENCES)
def test_the_declared_encoding_counts(label: str, tmp_path: Path) -> None:
    """In a meta tag of both kinds, an XML declaration, and in the header of HTTP."""
    codec, sentence = SENTENCES[label]
    pages = {
        "meta.html": f'<html><head><meta charset="{label}"></head><body>{sentence}</body></html>',
        "equiv.htm": f"<META HTTP-EQUIV='Content-Type' content='text/html; charset={label}'>{sentence}",
        "xml.xhtml": f"<?xml version='1.0' encoding='{label}'?><html><body>{sentence}</body></html>",
    }
    for name, page in pages.items():
        (tmp_path / name).write_bytes(page.encode(codec))
        assert texts(tmp_path / name) == [page]
    page = f"<html><body>{sentence}</body></html>"
    (tmp_path / "a.warc").write_bytes(response(page.encode(codec), content_type=f'text/html; Charset="{label}"'))
    assert texts(tmp_path / "a.warc") == [page]


def test_http_decides_before_the_page_and_valid_utf8_before_both() -> None:
    page = "<meta charset=iso-8859-1><p>Zażółć gęślą jaźń, a potem idź do łóżka.</p>"
    assert decode_page(page.encode("iso-8859-2"), "iso-8859-2") == page
    assert decode_page(page.encode(), "iso-8859-2") == page
    assert decode_page(b"\xef\xbb\xbf" + page.encode(), "koi8-r") == page
    assert decode_page(b"\xff\xfe" + page.encode("utf-16-le"), "koi8-r") == page


def test_a_declaration_that_cannot_be_true_is_not_believed() -> None:
    russian = "<meta charset=iso-8859-1><p>Съешь же ещё этих мягких французских булок, да выпей чаю.</p>"
    assert decode_page(russian.encode("cp1251")) == russian
    japanese = "<meta charset=shift_jis><p>これは日本語のページです。とても短いです。</p>"
    assert decode_page(japanese.encode("euc_jp")) == japanese
    for label in ("base64", "utf-16", "nonsense", "x-user-defined", "rot13", "\0"):
        french = "<p>Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.</p>"
        assert decode_page(french.encode("cp1252"), label) == french


def test_a_page_with_damaged_bytes_is_read_with_replacements() -> None:
    page = "<meta charset=utf-8><p>Le cœur déçu mais l'âme plutôt naïve.</p>".encode()
    assert decode_page(page + b"\xff") == page.decode() + "\ufffd"
    assert decode_page(page + b"\xff", "utf-8") == page.decode() + "\ufffd"


def test_a_commented_declaration_does_not_count() -> None:
    page = "<!-- <meta charset=koi8-r> --><meta charset=windows-1251><p>Съешь ещё этих мягких булок</p>"
    assert decode_page(page.encode("cp1251")) == page
