"""Hide passwords in URIs, wherever they are stored or shown: s3://KEY:SECRET@bucket/x, redis://:PASSWORD@host.

A recorded config therefore contains no password. To run it again, pass the password again, best in the environment.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
# A password may contain an "@" or, if it was not quoted as it should be, a "/". The host follows the last "@". A URI
# that was parsed as a path has only one slash left.
PASSWORD = re.compile(r"""(:/{1,2}[^\s/:@'"]*:)(?:[^\s/'"]*@|[^\s@?'"]*@)""")
PARAMETER = re.compile(
    r"""([?&][^\s=&'"]*(?:password|passwd|secret|token|credential|signature|account_key)[^\s=&'"]*=)[^\s&'"]*""", re.I
)


def redact(text: str) -> str:
    """Replace passwords in URIs, and the values of parameters such as `secret_key=`, by ***."""
    if ":/" not in text:
        return text
    return PARAMETER.sub(rf"\1{HIDDEN}", PASSWORD.sub(rf"\1{HIDDEN}@", text))


def redacted(value: Any) -> Any:
    """Redact all text in nested lists and dictionaries, except the keys."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
