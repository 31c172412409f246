"""Imports point one way: tools above all, server -> engine -> kernels; and a bare GPU machine can run the engine."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"server", "engine", "kernels", "tools"}
MAY_IMPORT = {
    "kernels": {"kernels"},
    "engine": {"engine", "kernels"},
    "server": {"server", "engine"},
    "tools": OURS,
}
#: What engine and kernels must run without.
SERVER_PACKAGES = {
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "httptools",
    "uvloop",
    "gguf",
    "typer",
    "rich",
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported(path) & OURS <= MAY_IMPORT[package]
    if package in ("engine", "kernels"):
        assert not imported(path) & SERVER_PACKAGES


def test_the_check_sees_the_tree() -> None:
    assert len(FILES) > 50
