"""Sentence ends learnt from the user's own text by Punkt (Kiss and Strunk 2006, Unsupervised Multilingual Sentence
Boundary Detection), through NLTK and without its data.

Which words are abbreviations ("Dr.", "U.S.") is found from how often they stand with and without a period; nobody marks
anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from gptctl.core.errors import DataError

HINT = "make the parameters with gptctl.text.punkt.train"


def train(texts: Iterable[str], language: str = "english") -> str:
    """Return the parameters learnt from texts as JSON, sorted, so that the same texts give the same bytes.

    `language` is only noted in them: Punkt knows no language. All texts are looked at together, as whether a word is an
    abbreviation depends on all its occurrences: 0.5 MB/s, and some 45 bytes of memory per byte of text, so give it a
    sample of a large corpus; some MB are enough. Raises DataError (3) where there is no text.
    """
    from nltk.tokenize.punkt import PunktTrainer

    joined = "\n\n".join(texts)  # a blank line is a paragraph's end, so no text runs into the next one
    if not joined.strip():
        raise DataError("no text to learn sentence ends from", "give texts that are not empty")
    trainer = PunktTrainer()
    trainer.train(joined)
    learnt = trainer.get_params()
    parameters = {
        "language": language,
        "abbreviations": sorted(learnt.abbrev_types),
        "collocations": sorted(learnt.collocations),
        "sentence_starters": sorted(learnt.sent_starters),
        "orthographic_context": dict(sorted(learnt.ortho_context.items())),
    }
    return json.dumps(parameters, ensure_ascii=False, indent=1) + "\n"


def splitter(parameters: str) -> Callable[[str], list[str]]:
    """Return the function that splits a text into sentences, without the white space between them.

    Raises DataError (3) for what `train` has not made.
    """
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    learnt = PunktParameters()
    try:
        values: dict[str, Any] = json.loads(parameters)
        learnt.abbrev_types.update(strings(values["abbreviations"]))
        learnt.sent_starters.update(strings(values["sentence_starters"]))
        for first, second in map(strings, values["collocations"]):
            learnt.collocations.add((first, second))
        for word, flags in values["orthographic_context"].items():
            learnt.ortho_context[word] = int(flags)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"these are not the parameters of a Punkt splitter ({reason})", HINT) from error
    split: Callable[[str], list[str]] = PunktSentenceTokenizer(learnt).tokenize
    return split


def strings(values: list[Any]) -> list[str]:
    """Return a list as it is. Raises TypeError where it is not a list of strings."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("a list of strings is wanted")
    return values
