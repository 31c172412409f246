"""GET /docs: a page that shows openapi.json and sends requests. It loads nothing from anywhere else."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()

_PAGE = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")


def _digest(element: str) -> str:
    """The hash of the page's one <element>, as a Content-Security-Policy names it."""
    text = re.search(rf"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    assert text is not None, f"docs.html has one <{element}>"
    return "'sha256-" + base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode() + "'"


#: A browser then runs the page's own script and style, and asks nobody but this server.
_POLICY = (
    f"default-src 'none'; script-src {_digest('script')}; style-src {_digest('style')}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def docs() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})
