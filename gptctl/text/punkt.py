"""Train Punkt, a sentence splitter, on the user's own text (Kiss and Strunk 2006, Unsupervised Multilingual Sentence
Boundary Detection). NLTK's code is used, but not its data.

Punkt recognizes abbreviations ("Dr.", "U.S.") by how often a word occurs with and without a period. It needs no
annotated text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from gptctl.core.errors import DataError

HINT = "create the parameters with gptctl.text.punkt.train"


def train(texts: Iterable[str], language: str = "english") -> str:
    """Return the parameters learned from texts as sorted JSON, so that the same texts give the same bytes.

    `language` is only recorded in them, because Punkt does not depend on the language. All texts are processed
    together, because whether a word is an abbreviation depends on all its occurrences. This runs at 0.5 MB/s and takes
    some 45 bytes of memory per byte of text; use a sample of a large corpus, of which some MB are enough. Raises
    DataError (3) if there is no text.
    """
    from nltk.tokenize.punkt import PunktTrainer

    joined = "\n\n".join(texts)  # a blank line ends a paragraph, so that no sentence continues in the next text
    if not joined.strip():
        raise DataError("there is no text to train the sentence splitter on", "use texts that are not empty")
    trainer = PunktTrainer()
    trainer.train(joined)
    learned = trainer.get_params()
    parameters = {
        "language": language,
        "abbreviations": sorted(learned.abbrev_types),
        "collocations": sorted(learned.collocations),
        "sentence_starters": sorted(learned.sent_starters),
        "orthographic_context": dict(sorted(learned.ortho_context.items())),
    }
    return json.dumps(parameters, ensure_ascii=False, indent=1) + "\n"


def sentence_splitter(parameters: str) -> Callable[[str], list[str]]:
    """Return a function that splits a text into sentences, without the white space between them.

    Raises DataError (3) for parameters that do not come from `train`.
    """
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    learned = PunktParameters()
    try:
        values: dict[str, Any] = json.loads(parameters)
        learned.abbrev_types.update(strings(values["abbreviations"]))
        learned.sent_starters.update(strings(values["sentence_starters"]))
        for first, second in map(strings, values["collocations"]):
            learned.collocations.add((first, second))
        for word, flags in values["orthographic_context"].items():
            learned.ortho_context[word] = int(flags)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"these are not the parameters of a Punkt splitter ({reason})", HINT) from error
    split: Callable[[str], list[str]] = PunktSentenceTokenizer(learned).tokenize
    return split


def strings(values: list[Any]) -> list[str]:
    """Return a list unchanged. Raises TypeError if it is not a list of strings."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("not a list of strings")
    return values
