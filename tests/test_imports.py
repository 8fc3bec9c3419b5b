"""Which way imports run, and what a run does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lamp_exp

PACKAGE = Path(lamp_exp.__file__).parent
LAYERS = {  # each may import what is left of the colon's right side, and itself
    "types": set(),
    "environment": set(),
    "errors": set(),
    "files": set(),
    "metrics": {"types"},
    "tasks": {"types", "metrics"},
    "retrievers": {"types", "errors"},
    "augmentations": {"types"},
    "models": {"types", "errors", "files", "progress"},
    "data": {"types", "files"},
    "journal": {"types"},
    "processes": {"types", "environment", "files"},
    "identity": set(),
    "progress": set(),
    "questions": {"types"},
    "cache": {"types", "environment", "files", "identity"},
    "record": {"types", "files", "journal"},
    "scrub": set(),
    "wandb": {"types", "environment", "errors", "files", "record", "scrub", "tasks"},
    "loggers": {"types", "wandb"},
    "show": {"types"},
    "score": {"types", "data", "tasks"},
    "ranking": {"types", "cache", "progress", "questions"},
    "pipeline": {
        "types",
        "data",
        "cache",
        "identity",
        "journal",
        "progress",
        "questions",
        "ranking",
        "record",
    },
    "run": {"types", "pipeline", "record", "identity", "processes"},
    "tune": {"types", "pipeline", "record", "run"},
    "imported": {"types", "data", "identity", "pipeline", "record", "score", "tasks"},
    "report": {
        "types",
        "metrics",
        "tasks",
        "record",
        "files",
        "data",
        "score",
        "show",
        "scrub",
        "environment",
        "errors",
        "command",
        "imported",
        "rerun",
    },
    "config": {"types", "pipeline", "cache"},
    "command": {"types", "config"},
    "rerun": {
        "types",
        "command",
        "config",
        "pipeline",
        "processes",
        "record",
        "run",
        "tune",
    },
    "follow": {"config", "pipeline"},
    "sweeps": {
        "types",
        "cache",
        "config",
        "errors",
        "files",
        "follow",
        "loggers",
        "pipeline",
        "processes",
        "progress",
        "record",
        "run",
        "show",
        "tune",
    },
    "__main__": {"types", "config", "processes", "sweeps", "run", "show"},
    "__init__": set(),
}
HEAVY = {"torch", "transformers", "sentence_transformers", "faiss", "pytorch_lightning", "peft"}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path):
    mine = layer(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "lamp_exp" and len(parts) > 1:
            door = {"tasks"} if path.match("data/__main__.py") else set()
            assert parts[1] in LAYERS[mine] | {mine, "__version__"} | door, name
        if parts[0] in {"hydra", "omegaconf"}:
            composes = path.name in {"jobs.py", "sweeper.py"}
            assert mine in {"config", "command", "__main__"} or composes, name
        if parts[0] in HEAVY:
            dense = path.name == "dense.py"
            assert mine in {"models", "loggers", "processes"} or dense, name


def test_ranking_with_bm25_loads_neither_torch_nor_faiss(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['lamp_exp', 'mode=rank', 'retriever=bm25', 'limit=5', "
        f"'output_dir={tmp_path}']; from lamp_exp.__main__ import main; main(); "
        f"print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "[]"
