"""Each extra of pyproject.toml brings what its feature needs."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lamp_exp.models.causal import GGUF_PACKAGES
from lamp_exp.results.provenance import PACKAGES
from tests import gguf_model
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOOLS = {"test", "dev"}
RUN = (
    "-m lamp_exp task=lamp4 limit=2 max_new_tokens=4 trainer.enable_progress_bar=false trainer=cpu"
)
SWEEP = f"-m lamp_exp -m {RUN.removeprefix('-m lamp_exp')} mode=zeroshot model=tiny"
CAUSAL = "mode=zeroshot model=causal model.name=. model.gguf_file=small.gguf"
WORKSPACES = "from lamp_exp.wandb.workspace import _library as load; load()"
# By extra: the packages that the code imports by it, and the arguments of a Python that needs them.
NEEDED: dict[str, tuple[set[str], list[str]]] = {
    "lora": (
        {"peft"},
        f"{RUN} model=tiny training.lora_rank=2 trainer.max_epochs=1".split(),
    ),
    "openai": ({"openai"}, ["-c", "import lamp_exp.models.openai"]),
    "gguf": ({*GGUF_PACKAGES}, f"{RUN} {CAUSAL}".split()),
    "wandb": ({"wandb-workspaces"}, ["-c", WORKSPACES]),
    "joblib": ({"hydra-joblib-launcher"}, f"{SWEEP} k=0 hydra/launcher=joblib".split()),
    "slurm": ({"hydra-submitit-launcher"}, f"{SWEEP} k=0 hydra/launcher=submitit_local".split()),
    "ray": ({"hydra-ray-launcher"}, f"{SWEEP} k=0 hydra/launcher=ray_local".split()),
    "optuna": (
        {"hydra-optuna-sweeper"},
        f"{SWEEP} k=choice(0,1) hydra/sweeper=optuna hydra.sweeper.n_trials=1 "
        "hydra.sweeper.n_jobs=1 hydra.sweeper.direction=maximize".split(),
    ),
}
RECORDED = {"lora", "openai", "gguf"}  # extras that make numbers


def test_every_extra_is_tested():
    assert set(NEEDED) == set(EXTRAS) - TOOLS - {"notebook"}, "the notebook has a test of its own"


@pytest.mark.parametrize("extra", NEEDED)
def test_an_extra_names_the_packages_that_its_feature_needs(extra):
    named = {Requirement(one).name for one in EXTRAS[extra]}
    packages, _ = NEEDED[extra]
    assert packages <= named
    if extra in RECORDED:
        assert packages <= set(PACKAGES)  # so that a card's install line has them


def with_their_own(requirements: list[str]) -> set[str]:
    """The names of packages and of all that they require, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(one), "") for one in requirements]
    while waiting:
        one, extra = waiting.pop()
        if one.marker and not one.marker.evaluate({"extra": extra}):
            continue
        for chosen in ("", *one.extras):
            key = canonicalize_name(one.name), chosen
            if key not in found:
                found.add(key)
                try:
                    inner = importlib.metadata.requires(one.name) or []
                except importlib.metadata.PackageNotFoundError:
                    continue
                waiting += [(Requirement(other), chosen) for other in inner]
    return {name for name, _ in found}


@pytest.mark.long
def test_all_that_is_imported_is_required():
    imported = set()
    for path in (ROOT / "lamp_exp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    of_extras = {one for extra in NEEDED for one in EXTRAS[extra]}
    required = with_their_own([*PROJECT["dependencies"], *of_extras])
    known = importlib.metadata.packages_distributions()
    for module in imported - set(sys.stdlib_module_names) - {"lamp_exp"}:
        if module in known:  # else its extra is not installed
            assert required & {canonicalize_name(name) for name in known[module]}, module


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An environment that holds this project without any extra."""
    place = tmp_path_factory.mktemp("base")
    venv.create(place, with_pip=True)
    install(place, place, str(ROOT))
    return place


def install(base: Path, place: Path, *what: str) -> None:
    pip = [base / "bin" / "python", "-m", "pip", "--python", place / "bin" / "python"]
    command = [*pip, "install", "-q", "--no-compile", *what]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("extra", NEEDED)
def test_an_environment_with_one_extra_has_all_that_it_needs(base, tmp_path, extra):
    """Packages of the base are seen by a path, so that only those of the extra are installed."""
    place, work = tmp_path / "env", tmp_path / "work"
    venv.create(place)
    (inside,) = place.glob("lib/python3*/site-packages")
    (outside,) = base.glob("lib/python3*/site-packages")
    (inside / "base.pth").write_text(f"{outside}\n")
    work.mkdir()
    gguf_model.write(work / "small.gguf")
    _, arguments = NEEDED[extra]
    names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = [str(place / "bin" / "python"), *arguments]
    told = subprocess.run(python, cwd=work, env=names, capture_output=True, text=True)
    assert told.returncode  # the base has not what the extra brings
    assert f"lamp-exp[{extra}]" in told.stderr or "No module named" in told.stderr, told.stderr
    install(base, place, *EXTRAS[extra])
    told = subprocess.run(python, cwd=work, env=names, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
