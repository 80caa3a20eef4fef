"""The tokens that begin, end and pad the texts of a model that another program made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SpecialTokens:
    """Tokens by their names, as in the tokenizer_config.json of transformers; None where the model has none."""

    bos_token: str | None
    eos_token: str
    pad_token: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the names, as stored in `extra` of a model's config.json."""
        return asdict(self)

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> SpecialTokens | None:
        """Read the names from `extra` of a model's config.json; None for a model of gptctl's own."""
        found = extra.get("special_tokens")
        return cls(**found) if found else None
