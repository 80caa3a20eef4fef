"""Personal data and secrets are found, what only looks like them is not, and masking twice is masking once."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gptctl.text.pii import ORDER, Pii, mask

# None of the numbers and keys here is real: cards are the issuers' test numbers, IBANs those of the registry's examples,
# keys are put together below, so that no scanner takes this file for a leak.
CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
MIXED = "Ab3dE5gH1jK2mN4pQ6rS8tU0vW9xY7zA"  # 32 characters
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0"
    + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
PEM_BODY = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] * 3)
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{PEM_BODY}\n-----END RSA PRIVATE KEY-----"
KEYS = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + MIXED + "Zz09",
    "slack": "xoxb-" + "123456789012-" + MIXED,
    "openai": "sk-proj-" + MIXED,
    "anthropic": "sk-ant-api03-" + MIXED,
    "google": "AIza" + MIXED + "_-0",
    "stripe": "sk_live_" + MIXED,
    "gitlab": "glpat-" + MIXED[:20],
    "npm": "npm_" + MIXED + "Zz09",
    "pypi": "pypi-AgEIcHlwaS5vcmc" + MIXED * 2,
    "huggingface": "hf_" + MIXED + "Zz",
    "sendgrid": "SG." + MIXED[:22] + "." + MIXED + MIXED[:11],
    "jwt": JWT,
    "pem": PEM,
}


def masked(text: str, **config: Any) -> tuple[str, dict[str, int]]:
    """Mask one text."""
    result, counts = mask(pa.array([text], pa.large_string()), Pii(**config))
    return result.to_pylist()[0], counts


FOUND = {
    "email": [
        ("Write to jane.doe+news@mail.example.co.uk.", "Write to <EMAIL>."),
        ("<bob_1@example.com>, 'eve@example.org'", "<<EMAIL>>, '<EMAIL>'"),
        ("mailto:o'brien@example.com?subject=tea", "mailto:<EMAIL>?subject=tea"),
        ("请发邮件到test@example.com谢谢", "请发邮件到<EMAIL>谢谢"),
        ("jürgen@müller.de, иван@почта.рф", "<EMAIL>, <EMAIL>"),
        ("Contact...bob@xn--bcher-kva.example now", "Contact...<EMAIL> now"),
        ("postgres://user:secret@db.example.com/x", "postgres://user:<EMAIL>/x"),
    ],
    "ipv4": [
        ("Failed password from 93.184.216.34 port 22", "Failed password from <IPV4> port 22"),
        ("8.8.8.8 - - [10/Oct/2000] GET", "<IPV4> - - [10/Oct/2000] GET"),
        ("[93.184.216.34]:443,http://93.184.216.34/x", "[<IPV4>]:443,http://<IPV4>/x"),
        ("net 93.184.216.0/24.", "net <IPV4>/24."),
    ],
    "ipv6": [
        ("ping 2001:4860:4860::8888: ok", "ping <IPV6>: ok"),
        ("[2a00:1450:4001:81b:0:0:0:200e]:443", "[<IPV6>]:443"),
        ("route 2a02:8071::/32", "route <IPV6>/32"),
    ],
    "phone": [
        ("+1 (650) 253-0000 or +1-650-253-0000", "<PHONE> or <PHONE>"),
        ("(650) 253-0000; 650-253-0000; 650.253.0000 x12", "<PHONE>; <PHONE>; <PHONE>"),
        ("1-800-555-0199,tea", "<PHONE>,tea"),
        ("London +44 20 7946 0958, 020 7946 0958, 07700 900123", "London <PHONE>, <PHONE>, <PHONE>"),
        ("Berlin +49 (0)30 901820, +49 30 90182-0", "Berlin <PHONE>, <PHONE>"),
        ("Paris +33 1 23 45 67 89 ou 01 23 45 67 89 ou 01.23.45.67.89", "Paris <PHONE> ou <PHONE> ou <PHONE>"),
        ("Tel.: 030 901820, Fax 030/901821", "Tel.: <PHONE>, Fax <PHONE>"),
        ("tel:+14155552671, phone no. 650 253 0000", "tel:<PHONE>, phone no. <PHONE>"),
        ("Tél : 044 668 18 00. Call me at 555-0123!", "Tél : <PHONE>. Call me at <PHONE>!"),
    ],
    "card": [
        (f"card {CARD} 12/27 123", "card <CARD> 12/27 123"),
        ("4111111111111111,5555-5555-5555-4444,1", "<CARD>,<CARD>,1"),
        ("amex 3782 822463 10005, 378282246310005.", "amex <CARD>, <CARD>."),
        ("2223003122003222 30569309025904 3530111333300000 6011111111111117", "<CARD> <CARD> <CARD> <CARD>"),
        ("4222222222222", "<CARD>"),
    ],
    "iban": [
        (f"IBAN {IBAN} BIC COBADEFF", "IBAN <IBAN> BIC COBADEFF"),
        ("GB29NWBK60161331926819, FR14 2004 1010 0505 0001 3M02 606.", "<IBAN>, <IBAN>."),
        ("NO93 8601 1117 947; MT84MALT011000012345MTLCAST001S", "<IBAN>; <IBAN>"),
    ],
    "pem": [
        (f"key = '''{PEM}'''", "key = '''<KEY>'''"),
        (PEM.replace("\n", "\\n"), "<KEY>"),
        (PEM.replace(" RSA", "")[:150] + "\nAnd so on.", "<KEY>\nAnd so on."),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "text", "expected"), [(rule, *case) for rule, cases in FOUND.items() for case in cases]
)
def test_found(rule: str, text: str, expected: str) -> None:
    """Each rule finds its data in the company of other text, and counts it as its own."""
    result, counts = masked(text)
    assert result == expected
    assert counts == {rule: expected.count("<" + {"pem": "KEY"}.get(rule, rule.upper()) + ">")}


@pytest.mark.parametrize(("rule", "key"), KEYS.items())
def test_keys(rule: str, key: str) -> None:
    """Keys are found in settings, code and addresses; a longer word or a cut one is none."""
    assert masked(f'API_KEY="{key}"') == ('API_KEY="<KEY>"', {rule: 1})
    assert masked(f"use {key}, then") == ("use <KEY>, then", {rule: 1})
    if rule != "pem":
        assert masked(f"https://{key}@example.com/") == ("https://<KEY>@example.com/", {rule: 1})
        for other in (f"x{key}", f"_{key}", key[:12]):
            assert masked(other) == (other, {})


@pytest.mark.parametrize(
    "text",
    [
        # Addresses
        "@property\ndef f(self) -> int: ...", "a @ b.T", "q@k.transpose(0, 1)", "logo@2x.png icon@3x.jpg", "react@16.8.0",
        "git@github.com:owner/repo.git", "user@localhost", "@handle.name", "bob@", "..@example.com", "a" * 70 + "@example.com",
        "1.2.3.45678", "999.1.1.1", "1.2.3.4.5", "v93.184.216.34", "version 93.184.216.34", "section 8.2.4.44", "lib-93.184.216.34.zip",
        "93.184.216.34-beta", "01.02.03.04", "  8.5.1.2. Arrays", "# 1.2.3.4 Setup", "127.0.0.1 10.0.0.1 192.168.1.1 224.0.0.251",
        "std::vector<int> a::b ad::beef x::2001::y", "a[::1] values[2000::5]", "12:30:45 00:1a:2b:3c:4d:5e", "fe80::1 fd00::1 2001:db8::1",
        "20:01:0d:b8:85:a3:00:42:10:00:8a:2e:03:70:73:34",
        # Numbers
        "2024-01-15 15.01.2024 01/15/2024 2024-01-15T10:20:30+01:00", "ISBN 978-3-16-148410-0, 0-306-40615-2", "ISSN 0317-8471",
        "doi:10.1016/S0140-6736(20)30183-5 10.1000/650-253-0000", "3.14159265358979 -1.5 +1.25 +2.50", "1,234,567.89 1 234 567",
        "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "00000000: 0123 4567 89ab", "01 02 03 04 05 06 07 08",
        "200 300 4000", "call 2024-01-15 or 12.05.2024", "phone 3.1415926535", "tel 20240115", "fax 192.168.100.200", "call 978-3-16-148410-0",
        "1700000000000 1700000000000000 1234567890123456", "4111 1111 1111 1112", "x4111111111111111", "0.4111111111111111",
        "4006381333931", "9999 9999 9999 9995", "DE89 3704 0044 0532 0130 01", "XX89 3704 0044 0532 0130 00", "ABDE89370400440532013000",
        # Secrets
        "task-" + MIXED, "sk-fading-circle-wrapper-element", "xoxb-your-token-here-please", "eyJhbGci.eyJhbGci.x", "hf_some_function_name",
        "eyJub3RoaW5nIjoxfQ.eyJub3RoaW5nIjoxfQ.dozjgNryP4J3jVmNHl0w5N", 'if line == "-----BEGIN PRIVATE KEY-----":', "ssh-rsa AAAAB3NzaC1yc2E",
        "-----BEGIN PUBLIC KEY-----\n" + PEM_BODY + "\n-----END PUBLIC KEY-----", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        # Our own
        "<EMAIL> <IPV4> <IPV6> <PHONE> <CARD> <IBAN> <KEY>", "",
    ],
)  # fmt: skip
def test_not_found(text: str) -> None:
    """Code, versions, dates, numbers of other kinds and broken check digits stay as they are."""
    assert masked(text) == (text, {})


def test_column() -> None:
    """Counts are sums over a column; nulls stay null; clean texts stay."""
    text = pa.array(["a@b.de", None, "", "clean", f"a@b.de {CARD} {IBAN} {JWT} {KEYS['aws']}"], pa.large_string())
    result, counts = mask(text, Pii())
    assert result.to_pylist() == ["<EMAIL>", None, "", "clean", "<EMAIL> <CARD> <IBAN> <KEY> <KEY>"]
    assert result.type == pa.large_string()
    assert counts == {"aws": 1, "card": 1, "email": 2, "iban": 1, "jwt": 1}
    assert mask(text.slice(1, 2), Pii())[0].to_pylist() == [None, ""]
    assert mask(text.slice(4), Pii())[0].to_pylist() == ["<EMAIL> <CARD> <IBAN> <KEY> <KEY>"]
    assert mask(pa.array([], pa.large_string()), Pii()) == (pa.array([], pa.large_string()), {})


def test_settings() -> None:
    """Kinds can be chosen; private addresses can be masked too; an unknown kind is refused with the nearest."""
    text = f"a@b.de {CARD} 10.0.0.1 fd00::1 fe80::a:1 fade::bad a[::1]"
    assert masked(text, kinds=("email",)) == (text.replace("a@b.de", "<EMAIL>"), {"email": 1})
    assert masked(text, kinds=()) == (text, {})
    assert masked(text, keep_private_ips=False)[0] == "<EMAIL> <CARD> <IPV4> <IPV6> <IPV6> fade::bad a[::1]"
    with pytest.raises(ValidationError, match="did you mean 'email'"):
        Pii(kinds=("emial",))


# Whole data, its parts and what may stand between them, so that random texts are nearly right.
PIECES = st.sampled_from(
    [*KEYS.values(), *(case[0] for cases in FOUND.values() for case in cases), "a@b.de", "1.1.1.1", "8.8.4.4", "@", ".", ":", "::",
     "+", "-", " ", "/", "(", ")", "<", ">", "\n", "_", "x", "é", "日", "0", "1", "4", "12", "650", "2001", "+49", "+1 ", "Tel. ", "de",
     "v", "DE89", "0044", "eyJ", "sk-", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "<EMAIL>", "<IPV4>"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


@settings(deadline=None, max_examples=400)
@given(TEXTS)
def test_twice_is_once(text: str) -> None:
    """Masked text holds nothing to mask."""
    result, _ = masked(text)
    assert masked(result) == (result, {})


def test_uncovered() -> None:
    """What a neighbour hid in a row of numbers is found once that is masked; what is one word with it is not."""
    assert masked("650-253-0000 020 7946 0958") == ("<PHONE> <PHONE>", {"phone": 2})
    assert masked("+1-650-253-0000" * 2) == ("<PHONE>+1-650-253-0000", {"phone": 1})
    assert masked("<PHONE>+1-650-253-0000") == ("<PHONE>+1-650-253-0000", {})


EVERY_KIND = f"\n\n§ {JWT} a@b.de {IBAN} {CARD} 2001:4860::8888:1 93.184.216.34 (650) 253-0000"


@settings(deadline=None, max_examples=400)
@given(TEXTS)
def test_guards_hide_nothing(text: str) -> None:
    """A text is masked alike alone and before other text in which every kind is searched for."""
    alone, counts = masked(f"{text}\n")
    together, all_counts = masked(f"{text}{EVERY_KIND}")
    assert together.rpartition("\n\n§ ")[0] == alone.removesuffix("\n")
    assert sum(all_counts.values()) == sum(counts.values()) + 7


@pytest.mark.parametrize(
    "unit",
    ["a", "a.", "a-", "-", "@", "a@", "a@b.", "a@b-", "1", "1 ", "1.", "1-", "+1 ", "+1 2", "tel ", "tel 1 ", "(", "0 ", "4", "4111 ",
     "4111 1111 1111 111", "DE89 ", "DE89", "A1", "2001:", "2001::", ":", "eyJ", "eyJaaaaaaaaaaaaaaaa.", "sk-", "sk-ant-a", "xoxb-",
     "glpat-", "+1-650-253-0000", "+1-650-253-0000 ", "650-253-0000 020 7946 0958 ", "a@b.de8.8.8.8", "12-", "(1)", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----" + "A" * 40, "AIza", "é", " ", "\n"],
)  # fmt: skip
def test_hostile_texts(unit: str) -> None:
    """Whatever a long text repeats, masking comes to an end, which the square of its length would put off for hours, and
    masking the result changes nothing."""
    for end in ("", "@"):
        once, _ = masked(unit * (200_000 // len(unit)) + end)
        assert masked(once)[0] == once


def test_standard_library() -> None:
    """Python's own sources: e-mail addresses of authors, and next to nothing else outside of the tests' data."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    others = {"site-packages", "test", "tests", "idlelib"}
    paths = [path for path in folder.rglob("*.py") if not others & set(path.relative_to(folder).parts)]
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in paths]
    _, counts = mask(pa.array(texts, pa.large_string()), Pii())
    assert counts.pop("email") > 50
    assert counts.pop("ipv4", 0) <= 20  # 123.45.67.89 in socket.py, and version numbers of four parts
    assert sum(counts.values()) <= 3, counts


DATATROVE = [
    ("bob@example.com and eve@example.com", "email@example.com and firstname.lastname@example.org"),
    (None, None),
    ("a..b@c.d 93.184.216.34", "a..email@example.com 22.214.171.124"),
    ("999.1.1.1 1.2.3.45678 10.0.0.1 01.2.3.4", "9126.96.36.199 188.8.131.52678 10.0.0.1 01.2.3.4"),
    ("x@[8.8.8.8] y@[1.2.3.a:] 'é-f@g.h", "firstname.lastname@example.org email@example.com 'éfirstname.lastname@example.org"),
    (f"{CARD} {IBAN} 2001:4860::1", f"{CARD} {IBAN} 2001:4860::1"),
    ("1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1", "184.108.40.206 220.127.116.11 18.104.22.168 22.214.171.124"),
]  # fmt: skip


def test_datatrove() -> None:
    """What datatrove 0.10.1 makes of these texts, in this order; a new call begins anew."""
    texts = pa.array([text for text, _ in DATATROVE], pa.large_string())
    for _ in range(2):
        result, counts = mask(texts, Pii(style="datatrove"))
        assert result.to_pylist() == [expected for _, expected in DATATROVE]
        assert counts == {"email": 6, "ipv4": 7}
    assert mask(texts, Pii(style="datatrove", kinds=("ipv4",)))[1] == {"ipv4": 7 + 1}
    assert mask(texts, Pii(style="datatrove", kinds=("phone",))) == (texts, {})


def test_all_kinds_by_default() -> None:
    """Nothing has to be asked for."""
    assert Pii().kinds == ORDER and len(ORDER) == 7
