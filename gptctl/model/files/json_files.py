"""The JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gptctl.core.errors import DataError
from gptctl.core.regular_files import read_small


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file. Raises DataError (3) if it is missing or damaged."""
    try:
        value = json.loads(read_small(path))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "give a folder with a complete model") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", "copy it again from its source") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is not a JSON object", "copy it again from its source")
    return value
