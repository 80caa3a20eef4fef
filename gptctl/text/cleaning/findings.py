"""What a run of `gptctl clean` was asked to find: how often it was found, and sentences on what was never found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Counts
from gptctl.io.input import sniff
from gptctl.io.input.blocks import ReadOptions
from gptctl.text.cleaning.options import CleaningOptions
from gptctl.text.cleaning.web_thresholds import published_languages
from gptctl.text.filters.language import UNDETERMINED
from gptctl.text.filters.url_blocklist import URLS
from gptctl.text.language_names import shown
from gptctl.text.pii import Pii

FOUND = "found: "  # prefix of the statistics of what was looked for
# Prefixes of statistics whose names say how stop words were removed, and what segmented scripts without spaces.
STOP_WORDS_PREFIX, SEGMENTER_PREFIX = "removed: ", "segmented: "
# The reason to drop documents in other languages than the wanted ones, and the prefix of the statistics of these.
OTHER_LANGUAGE, OTHER_LANGUAGES_PREFIX = "language.min_score", "other language: "
EVALUATION_TEXTS = "documents with evaluation texts"
PERSONAL_DATA = "personal data"
STOP_WORDS = "stop words"
LABELS = "dropped documents with a label in column "
# The usual names of a label's column.
LABEL_COLUMNS = ("label", "labels", "category", "class", "target")


def summarize_stats(parts: Iterable[dict[str, int]]) -> dict[str, Any]:
    """Return the metrics for the manifest: what was changed and found, and how words were found and removed."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    metrics: dict[str, Any] = {}
    descriptions = [name.removeprefix(STOP_WORDS_PREFIX) for name in total if name.startswith(STOP_WORDS_PREFIX)]
    if descriptions:
        metrics["stop_words"] = ", ".join(sorted(descriptions))
    segmenters = {
        name.removeprefix(SEGMENTER_PREFIX): n for name, n in sorted(total.items()) if name.startswith(SEGMENTER_PREFIX)
    }
    if segmenters:
        metrics["segmenters"] = segmenters
    languages = {
        name.removeprefix(OTHER_LANGUAGES_PREFIX): n
        for name, n in sorted(total.items())
        if name.startswith(OTHER_LANGUAGES_PREFIX) and n
    }
    if languages:
        metrics["other_languages"] = languages
    prefixes = (STOP_WORDS_PREFIX, SEGMENTER_PREFIX, OTHER_LANGUAGES_PREFIX, FOUND)
    found = {name.removeprefix(FOUND): n for name, n in sorted(total.items()) if name.startswith(FOUND)}
    changed = {name: n for name, n in sorted(total.items()) if n and not name.startswith(prefixes)}
    return metrics | ({"changed": changed} if changed else {}) | ({"found": found} if found else {})


def check_filters(options: CleaningOptions) -> None:
    """Raise UsageError (2) if the user asked for a filter that can drop nothing as it is set."""
    missing = {
        "url_blocklist": "name domains or words: --set url_blocklist.domains=A,B, url_blocklist.words or .files",
        "language": "name the languages to keep: --language en,de",
        "classifier": "name its model: --set classifier.model=PATH; gptctl finetune --task filter trains one",
    }
    for name in asked_filters(options):
        if name in missing and not can_drop(options, name):
            raise UsageError(f"the filter {name} has nothing to drop", missing[name])


def can_drop(options: CleaningOptions, name: str) -> bool:
    """Return whether the filters `language`, `url_blocklist` and `classifier` are set to drop anything."""
    config = options.filter_settings(name)
    needed = {"language": ("languages",), "classifier": ("model",), "url_blocklist": ("domains", "words", "files")}
    return any(vars(config)[key] for key in needed[name])


def check_urls(
    options: CleaningOptions, metrics: Mapping[str, Any], inputs: Sequence[str], reading: ReadOptions
) -> None:
    """Raise DataError (3) if URLs are to be blocked and no document has one. It names the columns there are."""
    if metrics.get("found", {}).get(URLS) == 0:
        column = options.filter_settings("url_blocklist").column
        columns = [] if "-" in inputs else sniff.columns(inputs[0], reading)
        raise DataError(
            f"no document has a URL in column '{column}'{'; columns: ' if columns else ''}{', '.join(columns)}",
            "name the column with --set url_blocklist.column=COLUMN",
        )


def describe_missing(options: CleaningOptions, counts: Counts, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on each thing that the user asked for and that was not found."""
    found = metrics.get("found", {})
    if found.get(EVALUATION_TEXTS) == 0:
        yield f"no document shares {options.contamination.words} words in a row with the evaluation data"
    if counts.kept and found.get(PERSONAL_DATA) == 0:
        yield "no personal data was found"
    elif options.pii and options.mask.kinds != Pii().kinds:
        changed = metrics.get("changed", {})
        if unseen := [kind for kind in options.mask.kinds if not changed.get(f"pii: {kind}")]:
            yield f"no personal data of these kinds was found: {', '.join(unseen)}"
    if counts.kept and found.get(STOP_WORDS) == 0:
        yield f"no stop word of the list {options.remove_stopwords} was found"
    idle = [name for name in asked_filters(options) if not any(r.startswith(f"{name}.") for r in counts.dropped)]
    if idle:
        yield f"no document was dropped by: {', '.join(idle)}"


def asked_filters(options: CleaningOptions) -> list[str]:
    """Return the filters that the user asked for, other than by choosing a preset."""
    names = [configured.name for configured in options.filter_chain()]
    own = type(options).preset_layer({"preset": options.preset, "language": options.filter_settings("language")})
    if list(options.filters or ()) != own["filters"]:
        return names
    return [name for name in names if name in ("language", "url_blocklist") and can_drop(options, name)]


def describe_dropped(options: CleaningOptions, counts: Counts, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on each kind of dropped documents that the user may want to keep."""
    yield from describe_labelled(counts, metrics)
    yield from describe_languages(options, counts, metrics)


def describe_labelled(counts: Counts, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on the documents with a label that were dropped."""
    for name, n in metrics.get("found", {}).items():
        if name.startswith(LABELS) and n:
            reason, most = counts.dropped.most_common(1)[0]
            column = name.removeprefix(LABELS)
            yield (
                f"{n:,} of the dropped documents have a label (column '{column}'); most often by {reason} ({most:,}); "
                "to keep all labelled documents: --preset none"
            )


def describe_languages(options: CleaningOptions, counts: Counts, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence if most documents are in one language that was not wanted."""
    languages = Counter(metrics.get("other_languages", {}))
    code, most = languages.most_common(1)[0] if languages else (UNDETERMINED, 0)
    if code == UNDETERMINED or 2 * most <= counts.documents_in:
        return
    wanted = ", ".join(map(shown, options.filter_settings("language").languages))
    of_preset = options.preset == "web" and code in published_languages()
    yield (
        f"{most:,} of {counts.documents_in:,} documents are in {shown(code)}, and only {wanted} is kept: "
        f"use --language {code}{', for which --preset web has thresholds' if of_preset else ''}"
    )
