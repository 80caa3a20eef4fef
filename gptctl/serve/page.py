"""The page at /, and the headers with which a browser runs nothing but what is in its file."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

TEXT = (files("gptctl.serve") / "page.html").read_text(encoding="utf-8")


def digest(element: str) -> str:
    """Return the hash of the page's only element of a name, as a Content-Security-Policy names it."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", TEXT, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {digest('script')}",
            f"style-src {digest('style')}",
            "connect-src 'self'",
            "img-src data:",  # the icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def page(request: Request) -> Response:
    """Return the page. It needs no key, because it asks for one."""
    return Response(TEXT, media_type="text/html", headers=HEADERS)
