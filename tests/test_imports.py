"""Which module may import which, and what a run does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lamp_exp

PACKAGE = Path(lamp_exp.__file__).parent

# What each package or module directly below lamp_exp may import, besides itself, from low to high.
# `data`, `report` and `wandb` are also commands of their own; what only these need is in DOORS.
BASE = {"errors", "values", "contracts", "artefacts", "wording"}
COMPONENTS = {
    "tasks", "retrievers", "augmentations", "summaries", "models", "adapters", "routers",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "environment": set(),
    "hub": {"errors", "wording"},
    "wording": set(),
    "progress": set(),
    "values": {"errors"},
    "contracts": {"errors", "values"},
    "artefacts": {"errors", "values", "contracts"},
    "metrics": BASE,
    "statistics": {"errors"},
    "options": BASE,
    "storage": BASE | {"environment"},
    "tasks": BASE | {"metrics"},
    "augmentations": BASE,
    "summaries": BASE,
    "retrievers": BASE | {"storage", "progress", "hub"},
    "models": BASE | {"storage", "progress", "environment", "hub"},
    "adapters": BASE | {"storage", "progress", "hub", "models"},
    "routers": BASE | {"metrics"},
    "override_words": set(),
    "conf_files": set(),
    "hydra_messages": {"errors", "options", "conf_files"},
    "data": BASE | {"storage", "options", "progress", "environment"},
    "results": BASE
    | {"storage", "options", "environment", "statistics", "tasks"},  # tasks: of old records
    "score": BASE | {"data", "tasks", "options", "environment"},
    "wandb": BASE | {"storage", "options", "results", "environment", "tasks"},
    "loggers": BASE | {"storage", "options", "results", "wandb"},
    "experiment": BASE
    | {"storage", "options", "environment", "progress", "metrics", "tasks", "data", "results"}
    | {"score"},
    "annotations": {"errors", "options"},
    "components": {"annotations", "errors", "options"},
    "composition": {"components", "conf_files", "errors", "experiment", "options"},
    "config_checks": {"components", "errors", "experiment", "hub", "models", "options", "results"},
    "config": BASE
    | {"components", "composition", "config_checks", "hydra_messages", "override_words"}
    | {"storage", "options", "data", "experiment", "results"},
    "usage": {"options", "conf_files", "environment", "errors"},
    "overrides": BASE | {"options", "composition", "hydra_messages", "results", "override_words"},
    "sweeps": BASE
    | {"storage", "options", "environment", "progress", "results", "loggers", "experiment"}
    | {"statistics"}
    | {"components", "composition", "config_checks", "config"}
    | {"conf_files", "overrides", "override_words"},
    "reproduction": BASE
    | {"environment", "options", "results", "experiment", "composition", "config"}
    | {"hydra_messages", "overrides"},
    "report": BASE
    | {"options", "storage", "environment", "metrics", "statistics", "tasks", "data", "results"},
    "cache": {"errors", "environment", "storage", "results"},
    "laws": BASE
    | {"environment", "storage", "data", "experiment", "composition", "config", "hydra_messages"}
    | COMPONENTS,
    "python_interface": BASE
    | {"environment", "options", "statistics", "results", "experiment", "overrides"}
    | {"composition", "config_checks", "config"}
    | {"conf_files", "hydra_messages", "sweeps", "report", "override_words"},
    "figures": BASE | {"results", "report", "python_interface"},
    "__init__": set(),  # it imports the interface when a name of it is used
    "__main__": BASE
    | {
        "environment",
        "options",
        "results",
        "experiment",
        "conf_files",
        "composition",
        "config_checks",
        "config",
        "hydra_messages",
        "usage",
        "overrides",
        "sweeps",
    },
}
DOORS = {  # single modules that may import more
    "data/__main__.py": {"tasks"},
    "adapters/text_encoders.py": {"retrievers"},  # whose encoders learn along
    "routers/cross_encoder.py": {"models", "retrievers", "hub", "progress"},
    "retrievers/ropg_kd.py": {"models"},  # the loss
    "retrievers/learned_encoder.py": {"models"},  # seeds and threads, as models learn with
    "experiment/ddp_worker.py": {"config"},  # it builds the experiment of the leader's settings
    "report/card.py": {"overrides"},  # the command that repeats a run
    "report/imports.py": {"experiment"},
    "report/rerun.py": {"reproduction"},
}
HYDRA = {
    "__main__", "python_interface", "config", "components", "composition", "config_checks",
    "hydra_messages", "overrides", "reproduction", "sweeps", "laws",
}  # fmt: skip
HEAVY = {"torch", "transformers", "sentence_transformers", "faiss", "pytorch_lightning", "peft"}
MAY_BE_HEAVY = {
    "adapters/learned_tokens.py", "adapters/lora_slot.py", "adapters/lora_training.py",
    "adapters/soft_prompt.py", "adapters/text_encoders.py", "adapters/user_lora.py",
    "adapters/user_vector.py",
    "models", "retrievers/dense.py", "retrievers/encoder.py", "retrievers/learned_encoder.py",
    "retrievers/ropg_kd.py", "retrievers/ropg_rl.py", "routers/cross_encoder.py", "loggers",
    "experiment/ddp.py",
    "data/neighbours.py",  # inside a function
}  # fmt: skip


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer(path: Path) -> str:
    return place(path).split("/")[0].removesuffix(".py")


def module(path: Path) -> str:
    return f"lamp_exp.{place(path)}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(path: Path) -> Iterator[str]:
    """The modules and names that a file imports at run time, also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if id(node) not in for_types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if id(node) not in for_types:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", files(), ids=place)
def test_a_module_imports_only_from_lower_layers(path: Path):
    allowed = MAY_IMPORT[layer(path)] | DOORS.get(place(path), set()) | {layer(path), "__version__"}
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "lamp_exp" and len(parts) > 1:
            assert parts[1] in allowed, name
        if parts[0] in {"hydra", "omegaconf"}:
            assert layer(path) in HYDRA, name
        if parts[0] in HEAVY:
            assert {layer(path), place(path)} & MAY_BE_HEAVY, name


def test_the_layers_have_an_order_and_none_is_left_over():
    order = list(TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError
    assert {layer(path) for path in files()} <= set(order)
    assert all((PACKAGE / name).is_file() for name in DOORS)


def test_no_circle_of_imports():
    modules = {module(path): path for path in files()}
    graph = {
        name: {
            target if target in modules else target.rpartition(".")[0] for target in imported(path)
        }
        - {"lamp_exp", name}
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_ranking_with_bm25_loads_neither_torch_nor_faiss(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['lamp_exp', 'mode=rank', 'retriever=bm25', 'limit=5', "
        f"'output_dir={tmp_path}']; from lamp_exp.__main__ import main; main(); "
        f"print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"
