"""Drop pages by where they come from: blocked domains with all below them, and blocked words in the address.

No list is shipped or downloaded: name domains and words, or files such as the university of Toulouse's blacklists, from
which Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM", took theirs. Addresses are read as browsers do
(WHATWG, "URL Standard"): without port, credentials and last dot; a backslash is "/", "ü.de" "xn--tda.de".
"""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray
from pydantic import field_validator

from gptctl.core.config import Settings, key
from gptctl.core.errors import UsageError
from gptctl.text.cleaning.batch import Batch, Measured, Rule

# The scheme may be missing, or have too few or too many slashes; what stands before the last "@" are credentials.
HOST = r"^(?:(?:https?|ftp|wss?):[/\\]*|(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,})?(?:[^/?#\\]*@)?(?P<host>[^/?#\\:]*)"
DOMAIN = r"^(\*?\.)?[\pL\pM\pN_-]+(\.[\pL\pM\pN_-]+)*\.?$"
# A line of a hosts file: an address of IPv4 or IPv6, then names.
HOSTS_LINE = r"^(?:[0-9.]+|\S*:\S*)\s+(\S)"


class Config(Settings):
    """What is blocked; nothing by default."""

    column: str = key("url", "Column with the documents' addresses; a document without one is kept.")
    domains: tuple[str, ...] = key((), "Blocked domains, each with all its sub-domains.")
    words: tuple[str, ...] = key((), "Blocked words: whole runs of a-z and 0-9 anywhere in the address.")
    files: tuple[str, ...] = key((), "Files of blocked domains, one a line; also hosts files, and compressed ones.")

    @field_validator("domains")
    @classmethod
    def domain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse addresses: a blocked path is not a blocked domain."""
        for name in value:
            if not pc.match_substring_regex(pa.scalar(name), DOMAIN).as_py():
                raise ValueError(f"'{name}' is not a domain such as example.com")
        return value

    @field_validator("words")
    @classmethod
    def plain_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse words that no address can have as a whole word."""
        for word in value:
            if not (word.isascii() and word.isalnum()):
                raise ValueError(f"'{word}' is not a word of the letters a-z and the digits 0-9")
        return tuple(word.lower() for word in value)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules: any hit drops a document."""
    return Rule("url_domain", "blocked domains of the address", 0), Rule("url_word", "blocked words in the address", 0)


def measure(batch: Batch, config: Config) -> Measured:
    """Count each address's blocked domains (itself and those above it) and blocked words.

    Raises UsageError for a file that is missing, or that holds something else than domains.
    """
    urls = pc.replace_substring_regex(batch.column(config.column), r"[\t\r\n]", "")
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(urls))
    return Measured(np.stack([_domain_hits(lower, config), _word_hits(lower, config.words)], axis=1).astype(np.float64))


def _domain_hits(urls: pa.StringArray, config: Config) -> NDArray[np.int64]:
    keys = blocked(config.domains, config.files)
    if not len(keys):
        return np.zeros(len(urls), np.int64)
    hosts = pc.fill_null(pc.struct_field(pc.extract_regex(urls, HOST), "host"), "").dictionary_encode()
    names = _standard(hosts.dictionary)
    hits = np.zeros(len(names), np.int64)
    while pc.any(pc.not_equal(names, "")).as_py():
        hits += _found(_keys(names), keys)
        names = pc.replace_substring_regex(names, r"^[^.]*\.?", "")
    return np.asarray(hits[hosts.indices.to_numpy()])


def _word_hits(urls: pa.StringArray, words: tuple[str, ...]) -> NDArray[np.int64]:
    if not words:
        return np.zeros(len(urls), np.int64)
    escaped = pc.fill_null(pc.match_substring(urls, "%"), False)
    plain = [unquote(url).lower() for url in urls.filter(escaped).to_pylist()]
    urls = pc.replace_with_mask(urls, escaped, pa.array(plain, urls.type))
    parts = pc.split_pattern_regex(urls, "[^a-z0-9]+")
    found = pc.is_in(pc.list_flatten(parts), pa.array(words, pa.string()))
    return np.bincount(pc.list_parent_indices(parts).filter(found).to_numpy(), minlength=len(urls))


@cache
def blocked(domains: tuple[str, ...], files: tuple[str, ...]) -> NDArray[np.uint64]:
    """Return the sorted 64-bit hashes of all blocked domains; files are read once a process.

    8 bytes a domain, where strings in a set take 120: lists have millions. With five million entries, one in 10**9
    documents is dropped by chance with odds of 1 to 1,000.
    """
    names = pa.chunked_array([pa.array(domains, pa.large_string()), *map(_read, files)]).combine_chunks()
    return np.unique(_keys(_standard(pc.replace_substring_regex(pc.utf8_lower(names), r"^\*?\.", ""))))


def _read(path: str) -> pa.LargeStringArray:
    """Return the domains in a file."""
    try:
        with pa.input_stream(path, compression="detect") as file:
            text = pa.array([file.read()], pa.large_binary()).cast(pa.large_string())
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"cannot read the list of domains {path}: {error}", "check url_blocklist.files") from error
    lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.split_pattern(text, "\n").values, "#.*", ""))
    names = pc.list_flatten(pc.utf8_split_whitespace(pc.replace_substring_regex(lines, HOSTS_LINE, r"\1")))
    names = names.filter(pc.not_equal(names, ""))
    odd = names.filter(pc.invert(pc.match_substring_regex(names, DOMAIN)))
    if len(odd):
        raise UsageError(f"{path}: '{odd[0].as_py()}' is not a domain", "give one domain a line, such as example.com")
    return names


def _standard(names: pa.Array) -> pa.Array:
    """Return domains as they are registered: letters of other alphabets and percent escapes become ASCII, no last
    dot."""
    odd = pc.or_(pc.invert(pc.string_is_ascii(names)), pc.match_substring(names, "%"))
    if pc.any(odd).as_py():
        names = pc.replace_with_mask(names, odd, pa.array(map(_ascii, names.filter(odd).to_pylist()), names.type))
    return pc.utf8_rtrim(names, ".")


def _ascii(name: str) -> str:
    try:
        return unquote(name).lower().encode("idna").decode("ascii")
    except UnicodeError:  # no domain at all: no list can name it
        return name


def _keys(names: pa.Array) -> NDArray[np.uint64]:
    return np.fromiter(map(xxhash.xxh64_intdigest, names.cast(pa.large_binary()).to_pylist()), np.uint64, len(names))


def _found(keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.asarray(among[places] == keys)
