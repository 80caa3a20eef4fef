"""Train the small models of fastText in models/ on the pages of this project, with every loss and kind of n-gram.

    pip install --target FOLDER --no-deps fasttext-wheel
    PYTHONPATH=FOLDER python -m tests.text.word_models.make_fasttext

The pages change, so another run gives other models; the tests read any.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parent / "models"
PAGES = Path(__file__).parents[3] / "docs"
SMALL: dict[str, Any] = {"epoch": 20, "thread": 1, "verbose": 0, "minCount": 8, "bucket": 200}
# What each model is trained with, and with which settings it is quantized, if it is.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "softmax": ({"dim": 4, "wordNgrams": 2, "lr": 0.5}, {}),
    "ova": ({"dim": 3, "loss": "ova", "wordNgrams": 3, "lr": 0.2}, {}),
    "ns": ({"dim": 2, "loss": "ns", "minn": 2, "maxn": 4, "lr": 0.1}, {}),
    "hs": ({"dim": 4, "loss": "hs", "minn": 1, "maxn": 3, "wordNgrams": 2, "lr": 0.2}, {}),
    "words": ({"dim": 2, "wordNgrams": 1, "lr": 0.5}, {}),
    "pruned": ({"dim": 4, "wordNgrams": 2, "lr": 0.5}, {"cutoff": 300, "qnorm": True, "dsub": 2}),
}


def lines(two_labels: bool) -> list[str]:
    """Return a line per paragraph of some pages, with the page as its label, or whether it is prose."""
    found = []
    for page in ("clean", "dedup", "eval", "export", "split"):
        for paragraph in (PAGES / f"{page}.md").read_text(encoding="utf-8").split("\n\n"):
            is_prose = re.match(r"[A-Z]", paragraph) is not None
            label = ("hq" if is_prose else "cc") if two_labels else page
            found.append(f"__label__{label} " + paragraph.replace("\n", " "))
    return found


def main() -> None:
    """Train each variant."""
    import fasttext

    for name, (training, quantizing) in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "train.txt"
            data.write_text("\n".join(lines(name in ("softmax", "pruned", "words"))) + "\n", encoding="utf-8")
            model = fasttext.train_supervised(str(data), **(SMALL | training))
            if quantizing:
                model.quantize(str(data), **quantizing)
            path = MODELS / f"{name}.{'ftz' if quantizing else 'bin'}"
            model.save_model(str(path))
            sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
