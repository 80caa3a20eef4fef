"""Make gptctl/__init__.pyi from the config models of the commands: python -m tests.docs.stub > gptctl/__init__.pyi."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from gptctl.api.commands import FUNCTIONS, function

HEAD = '''"""Types of `import gptctl`, made by `python -m tests.docs.stub`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gptctl.api.datasets import Dataset as Dataset
from gptctl.api.loading import load as load
from gptctl.api.models import Model as Model
from gptctl.api.models import Run as Run
from gptctl.core.errors import GptctlError as GptctlError
from gptctl.core.summary import Summary as Summary

__version__: str
'''


def stub() -> str:
    """Return the whole file."""
    return HEAD + "\n" + "".join(signature(name) for name in FUNCTIONS)


def signature(name: str) -> str:
    """Return one function with its parameters, a line each."""
    lines, keywords = [], False
    for parameter in inspect.signature(function(name)).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keywords:
            lines.append("    *,")
            keywords = True
        default = "" if parameter.default is inspect.Parameter.empty else " = ..."
        lines.append(f"    {parameter.name}: {type_text(parameter.annotation)}{default},")
    return f"def {name}(\n" + "\n".join(lines) + "\n) -> Summary: ...\n"


def type_text(annotation: Any) -> str:
    """Return an annotation as it is written."""
    text = inspect.formatannotation(annotation).replace("'", '"')
    text = re.sub(r"\b(?:pathlib|collections\.abc|typing)\.", "", text)
    return re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)


if __name__ == "__main__":
    sys.stdout.write(stub())
