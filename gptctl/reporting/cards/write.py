"""The cards of a chain of outputs, by the names of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptctl.core.errors import UsageError
from gptctl.io import lineage
from gptctl.io.lineage import Output
from gptctl.reporting.cards.dataset import dataset_card
from gptctl.reporting.cards.model import model_card
from gptctl.reporting.cards.subjects import find_datasets, find_models, name_of


def card_texts(requested: Sequence[Output], license_id: str) -> dict[str, str]:
    """Return the text of each card by the name of its file.

    The cards are about the last models and the last datasets of the outputs and of everything they were made from.
    Raises UsageError (2) if there is neither.
    """
    outputs = lineage.walk_all(requested)
    models, datasets = find_models(outputs), find_datasets(outputs)
    if not models and not datasets:
        raise UsageError("--card: PATH has no finished dataset or model", "name an output of clean, dedup or pretrain")
    cards = {name: model_card(one, outputs, license_id) for name, one in file_names("model-card", models)}
    return cards | {name: dataset_card(one, license_id) for name, one in file_names("dataset-card", datasets)}


def file_names(kind: str, found: Sequence[Output]) -> Iterator[tuple[str, Output]]:
    """Yield the name of the file for each output: KIND.md, or KIND-NAME.md if there are several."""
    taken: set[str] = set()
    for number, one in enumerate(found, 1):
        name = kind if len(found) == 1 else f"{kind}-{name_of(one.folder)}"
        name = f"{name}-{number}" if name in taken else name
        taken.add(name)
        yield f"{name}.md", one
