"""The table of ways round is whole: every row is tried, covered, or named with the reason; and the kernel agrees."""

import ast
from pathlib import Path

import pytest

from tests.evasion import rows

HERE = Path(__file__).parent


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_is_tried_covered_or_named() -> None:
    tried = {int(name.split("_")[2]) for path in HERE.glob("test_rows_*.py") for name in functions(path) if name.startswith("test_row_")}
    assert not tried & rows.COVERED.keys() and not tried & rows.ELSEWHERE.keys()
    assert tried | rows.COVERED.keys() | rows.ELSEWHERE.keys() == set(rows.ROWS)


@pytest.mark.parametrize("row", sorted({*rows.COVERED, *rows.ENGINE}))
def test_what_covers_a_row_is_there(row: int) -> None:
    for test in (*rows.COVERED.get(row, ()), *rows.ENGINE.get(row, ())):
        file, _, name = test.partition("::")
        assert name in functions(HERE.parent / file), test


@pytest.mark.parametrize("part", rows.PARTS, ids=lambda part: part.what)
def test_what_is_not_hosted_is_what_the_kernel_says(part: rows.Part) -> None:
    said = part.says()
    assert said is None or part.hosted() == said, f"{part.what}: socket() and the kernel's configuration do not agree"
