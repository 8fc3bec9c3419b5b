"""The checks that a reader would otherwise make by eye."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "tool", ["ruff check", "ruff format --check", pytest.param("mypy", marks=pytest.mark.long)]
)
def test_the_code_is_clean(tool: str):
    words = tool.split()
    told = subprocess.run(
        [sys.executable, "-m", *words, *(["."] if words[0] == "ruff" else [])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr


def test_nothing_is_swallowed():
    for path in ROOT.glob("lamp_exp/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                place = f"{path.name}:{node.lineno}"
                assert node.type is not None, f"{place}: a bare except"
                assert not isinstance(node.body[0], ast.Pass), f"{place}: swallowed"


def test_functions_are_short():
    for path in ROOT.glob("lamp_exp/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= 45, f"{path.name}:{node.lineno}: {node.name} has {lines} lines"


def test_the_top_level_is_as_agreed():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    agreed = {"conf", "lamp_exp", "tests", "outputs", "multirun.sh", "pyproject.toml", "README.md"}
    top = {name.split("/")[0] for name in listed}
    assert {name for name in top if not name.startswith(".")} <= agreed
