"""Hide passwords in URIs, wherever something is written down or shown: s3://KEY:SECRET@bucket/x, redis://:PASSWORD@host.

Whoever runs the command from a recorded config gives the password again, best in the environment.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
# A password may hold an "@", or, where it was not quoted as it should be, a "/"; the host is behind its last "@".
# Who takes a URI for a path is left with one slash.
PASSWORD = re.compile(r"""(:/{1,2}[^\s/:@'"]*:)(?:[^\s/'"]*@|[^\s@?'"]*@)""")
PARAMETER = re.compile(
    r"""([?&][^\s=&'"]*(?:password|passwd|secret|token|credential|signature|account_key)[^\s=&'"]*=)[^\s&'"]*""", re.I
)


def redact(text: str) -> str:
    """Replace the password of each URI in a text, and what parameters like `secret_key=` hold, by ***."""
    if ":/" not in text:
        return text
    return PARAMETER.sub(rf"\1{HIDDEN}", PASSWORD.sub(rf"\1{HIDDEN}@", text))


def redacted(value: Any) -> Any:
    """Redact all text in nested lists and dictionaries; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
