"""docs/occflownet.md keeps its word: every switch of the specification has its row, every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/occflownet.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    part = PAGE.split("## Switches", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_switch_has_its_row_and_its_test():
    assert [row[0] for row in rows()] == [f"A{number}" for number in range(1, 20)]
    for name, *_, test in rows():
        assert test.startswith("`tests/"), name


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE))))
def test_a_named_test_exists(name):
    file, _, function = name.partition("::")
    assert (ROOT / file).is_file()
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    assert not function or function in {node.name for node in body if isinstance(node, ast.FunctionDef)}
