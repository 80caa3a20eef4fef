"""Drop pages by their URL: blocked domains with all their subdomains, and blocked words anywhere in the URL.

No list is included or downloaded. Name domains and words, or files such as the blacklists of the University of
Toulouse, the source of the list in Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM". URLs are parsed as
browsers parse them (WHATWG, "URL Standard"): port, credentials and a final dot are ignored, a backslash is the same as
"/", and "ü.de" is the same as "xn--tda.de".
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray
from pydantic import field_validator

from gptctl.core.config import Settings, key
from gptctl.core.errors import UsageError
from gptctl.core.written_files import FileState, states_of
from gptctl.io.files import content_hash
from gptctl.text.filters import DocumentBatch, FilterResult, Rule

# The scheme may be missing, or have too few or too many slashes. The part before the last "@" is the credentials.
HOST = r"^(?:(?:https?|ftp|wss?):[/\\]*|(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,})?(?:[^/?#\\]*@)?(?P<host>[^/?#\\:]*)"
DOMAIN = r"^(\*?\.)?[\pL\pM\pN_-]+(\.[\pL\pM\pN_-]+)*\.?$"
# A line of a hosts file: an IPv4 or IPv6 address, then names.
HOSTS_LINE = r"^(?:[0-9.]+|\S*:\S*)\s+(\S)"

URLS = "documents with a URL"  # the name under which they are counted


class Config(Settings):
    """What is blocked: by default, nothing."""

    column: str = key("url", "Column with the URLs of the documents; a document without a URL is kept.")
    domains: tuple[str, ...] = key((), "Blocked domains, including all their subdomains.")
    words: tuple[str, ...] = key((), "Blocked words: a word is a run of a-z and 0-9 anywhere in the URL.")
    files: tuple[str, ...] = key(
        (), "Files of blocked domains, one per line. Hosts files and compressed files work too."
    )

    @field_validator("domains")
    @classmethod
    def domain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Reject URLs, because a blocked path is not a blocked domain."""
        for name in value:
            if not pc.match_substring_regex(pa.scalar(name), DOMAIN).as_py():
                raise ValueError(f"'{name}' is not a domain such as example.com")
        return value

    @field_validator("words")
    @classmethod
    def plain_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Reject words that cannot be a whole word of a URL."""
        for word in value:
            if not (word.isascii() and word.isalnum()):
                raise ValueError(f"'{word}' has characters other than the letters a-z and the digits 0-9")
        return tuple(word.lower() for word in value)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules. One match drops a document; `domains` also stands for the domains from `files`."""
    return Rule("domains", "blocked domains of the URL", 0), Rule("words", "blocked words in the URL", 0)


def fingerprints(config: Config) -> dict[str, str]:
    """Return the hash of each file of domains. Raises UsageError for a file that cannot be used."""
    blocked_hashes(config.domains, config.files)
    return {f"url_blocklist.files {path}": content_hash(path) for path in config.files}


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Count the blocked domains of each URL (its host and the domains above it), and its blocked words.

    Raises UsageError for a file that is missing or contains something other than domains.
    """
    urls = pc.replace_substring_regex(batch.column(config.column), r"[\t\r\n]", "")
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(urls))
    matches = [_count_domains(lower, config), _count_words(lower, config.words)]
    with_url = int(pc.sum(pc.not_equal(pc.fill_null(lower, ""), "")).as_py() or 0)
    found = {URLS: with_url} if config.domains or config.words or config.files else {}
    return FilterResult(np.stack(matches, axis=1).astype(np.float64), found=found)


def _count_domains(urls: pa.StringArray, config: Config) -> NDArray[np.int64]:
    blocked = blocked_hashes(config.domains, config.files)
    if not len(blocked):
        return np.zeros(len(urls), np.int64)
    hosts = pc.fill_null(pc.struct_field(pc.extract_regex(urls, HOST), "host"), "").dictionary_encode()
    names = _to_ascii_names(hosts.dictionary)
    counts = np.zeros(len(names), np.int64)
    while pc.any(pc.not_equal(names, "")).as_py():
        counts += _is_in_sorted(_hashes(names), blocked)
        names = pc.replace_substring_regex(names, r"^[^.]*\.?", "")  # the domain above
    return np.asarray(counts[hosts.indices.to_numpy()])


def _count_words(urls: pa.StringArray, words: tuple[str, ...]) -> NDArray[np.int64]:
    if not words:
        return np.zeros(len(urls), np.int64)
    escaped = pc.fill_null(pc.match_substring(urls, "%"), False)
    plain = [unquote(url).lower() for url in urls.filter(escaped).to_pylist()]
    urls = pc.replace_with_mask(urls, escaped, pa.array(plain, urls.type))
    parts = pc.split_pattern_regex(urls, "[^a-z0-9]+")
    found = pc.is_in(pc.list_flatten(parts), pa.array(words, pa.string()))
    return np.bincount(pc.list_parent_indices(parts).filter(found).to_numpy(), minlength=len(urls))


def blocked_hashes(domains: tuple[str, ...], files: tuple[str, ...]) -> NDArray[np.uint64]:
    """Return the sorted 64-bit hashes of all blocked domains. Each process reads the files once, until they change."""
    return read_hashes(domains, files, tuple(states_of(map(Path, files)).values()))


@lru_cache(maxsize=4)
def read_hashes(domains: tuple[str, ...], files: tuple[str, ...], states: tuple[FileState, ...]) -> NDArray[np.uint64]:
    """Read the files, which have these states, and return the hashes.

    A hash takes 8 bytes and a string in a set 120, and lists have millions of domains. With five million entries, the
    probability that a hash collision drops any of 10**9 documents is 1 in 1,000.
    """
    names = pa.chunked_array([pa.array(domains, pa.large_string()), *map(_read_domains, files)]).combine_chunks()
    return np.unique(_hashes(_to_ascii_names(pc.replace_substring_regex(pc.utf8_lower(names), r"^\*?\.", ""))))


def _read_domains(path: str) -> pa.LargeStringArray:
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
        raise UsageError(
            f"{path}: '{odd[0].as_py()}' is not a domain", "write one domain per line, such as example.com"
        )
    return names


def _to_ascii_names(names: pa.Array) -> pa.Array:
    """Return domains as they are registered: in ASCII, with percent escapes decoded, without a final dot."""
    odd = pc.or_(pc.invert(pc.string_is_ascii(names)), pc.match_substring(names, "%"))
    if pc.any(odd).as_py():
        names = pc.replace_with_mask(names, odd, pa.array(map(_to_ascii, names.filter(odd).to_pylist()), names.type))
    return pc.utf8_rtrim(names, ".")


def _to_ascii(name: str) -> str:
    try:
        return unquote(name).lower().encode("idna").decode("ascii")
    except UnicodeError:  # not a domain, so no list contains it
        return name


def _hashes(names: pa.Array) -> NDArray[np.uint64]:
    return np.fromiter(map(xxhash.xxh64_intdigest, names.cast(pa.large_binary()).to_pylist()), np.uint64, len(names))


def _is_in_sorted(hashes: NDArray[np.uint64], sorted_hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    positions = np.minimum(np.searchsorted(sorted_hashes, hashes), len(sorted_hashes) - 1)
    return np.asarray(sorted_hashes[positions] == hashes)
