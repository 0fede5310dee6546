"""Who may import whom, as in the map of appliance/README.md. The first import not listed fails."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "appliance"

MAY_IMPORT = {
    "model": set(),
    "wire": {"model"},
    "facts": {"model"},
    "packet": {"model"},
    "policy": {"model", "facts", "wire"},
    "session": {"model", "wire", "facts", "policy"},
    "record": {"model"},
    "config": {"model", "policy", "facts"},
    "relay": {"model", "session"},
    "kernel": {"model"},
    "control": {"model", "record", "policy"},
    "lab": {"model", "kernel"},
    "compiled": set(),
}
PURE = {"model", "wire", "facts", "policy", "packet", "session"}
IMPURE = {"asyncio", "os", "random", "select", "socket", "subprocess", "threading", "time"}
TOP = {"service", "cli", "demo"}  # may import all; nothing imports them

FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    here = layer(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "appliance" and len(parts) > 1:
            other = parts[1]
            if here in TOP or here in ("__init__", "__main__") or other == here:
                continue
            assert other in MAY_IMPORT[here], f"{here} may not import {other}"
        elif here in PURE:
            assert parts[0] not in IMPURE, f"{here} is pure and may not import {parts[0]}"


def test_every_folder_of_the_package_is_in_the_table() -> None:
    assert {layer(p) for p in FILES} <= MAY_IMPORT.keys() | TOP | {"__init__", "__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_function_is_over_40_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 40, f"{node.name}: {lines} lines"
