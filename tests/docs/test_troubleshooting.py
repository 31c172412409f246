"""docs/troubleshooting.md knows every line that a mistake may get, and shows none that the code cannot print."""

import ast
import re
from pathlib import Path

from support.server_process import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ERRORS = {"EspalierError", "ModelFileError", "ResourceError"}
GAP = "…"


def template(node: ast.expr) -> str | None:
    """A message as it stands in the code, GAP for what is filled in; None where it is made elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in parts)
    return None


def raised(path: Path) -> set[str]:
    calls = (
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args
    )
    named = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS)
    return {text for call in named if (text := template(call.args[0])) is not None}


def messages() -> set[str]:
    files = [
        path
        for package in ("server", "engine", "kernels", "tools")
        for path in (ROOT / package).rglob("*.py")
    ]
    return {message for path in files for message in raised(path)}


def shown() -> list[str]:
    """What the page's first columns show of a line: its words, `...` for what differs."""
    cells = re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)
    return [cell for cell in cells if not re.match(r"\d{3}", cell)]


def fits(cell: str, message: str) -> bool:
    """Every word that the cell shows is in the message, in order; a gap may hold any of them."""
    pattern = ".*".join(map(re.escape, re.split(r"\s*\.\.\.\s*", cell)))
    return (
        re.search(pattern, message.replace(GAP, " ")) is not None or re.search(pattern, message) is not None
    )


def test_every_message_has_its_row() -> None:
    rows = shown()
    missing = [
        message
        for message in sorted(messages())
        if message.strip(GAP + ": ") and not any(fits(r, message) for r in rows)
    ]
    assert not missing, "\n".join(missing)


def test_no_row_shows_what_is_never_printed() -> None:
    sources = (
        "\n".join(
            path.read_text()
            for package in ("server", "engine", "kernels", "tools")
            for path in (ROOT / package).rglob("*.py")
        )
        + (ROOT / "kernels" / "cpu" / "dispatch.h").read_text()
    )
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)  # strings that go on in the next line
    for cell in shown():
        for piece in re.split(r"\s*\.\.\.\s*", cell):
            assert piece in joined, cell
