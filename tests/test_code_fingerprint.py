"""The fingerprint of the code: what changes it and what does not, on all supported Pythons."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lamp_exp
from lamp_exp.contracts import Augmentation, Model, Retriever, Task
from lamp_exp.experiment.code_fingerprint import NormalForm, code_fingerprint, sources
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.tasks.lamp3 import Lamp3

PACKAGE = Path(lamp_exp.__file__).parent
ROOTS = ["experiment.stages", "models.seq2seq", "models.openai", "models.causal", "retrievers.bm25",
         "retrievers.dense", "retrievers.recency", "augmentations.fid", "tasks.lamp4"]  # fmt: skip
FINGERPRINT = f"""
from lamp_exp.experiment.code_fingerprint import code_fingerprint, sources
roots = [type("Root", (), {{"__module__": f"lamp_exp.{{name}}"}}) for name in {ROOTS}]
print(code_fingerprint(*roots))
print(*sorted(sources(root.__module__ for root in roots)))
"""
PYTHONS = [  # on the path, or installed by pyenv
    path
    for version in ("3.11", "3.12", "3.13")
    for path in (
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}*/bin/python{version}")),
    )
    if path is not None
]


def run_python(folder: Path, code: str = FINGERPRINT, python: str = sys.executable) -> list[str]:
    """What code prints, line by line, with `folder` as the only one to import from."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package's code."""
    ignored = shutil.ignore_patterns("__pycache__", "*.json")
    shutil.copytree(PACKAGE, tmp_path / "lamp_exp", ignore=ignored)
    return tmp_path


def edit(folder: Path, pattern: str, replacement: str, *files: str) -> None:
    """Replaces a pattern in files of the copied package, by default in all of them."""
    root, edits = folder / "lamp_exp", 0
    for path in [root / name for name in files] or root.rglob("*.py"):
        text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        edits += count
    assert edits, pattern


EDITS_WITHOUT_EFFECT = {
    "a comment": (r"\Z", "# changed\n"),
    "a docstring": (r'(:\n +|\A)"""', r'\1"""Changed. '),
    "a log line": (r'\b(log\.\w+\(|warnings\.warn\(|print\()(\n *)?(f?")', r"\1\2\3changed "),
    "an error": (r'(raise \w*Error\()(\n *)?(f?")', r"\1\2\3changed "),
    "the label of a progress bar": (r'\b((?:progress|tqdm)\([^"\n]*, f?")', r"\1changed "),
    "a type": (r"\) -> (?:str|int|bool|float):", ") -> object:"),
    "an import for types": (r"(\nfrom typing import )", r"\nfrom typing import NoReturn\1"),
}


def test_edits_that_change_no_number_leave_the_fingerprint(copy):
    before = run_python(copy)
    for pattern, replacement in EDITS_WITHOUT_EFFECT.values():
        edit(copy, pattern, replacement)
    for name in ("progress", "errors", "results/display", "report/table", "storage/atomic"):
        edit(copy, r"\Z", "\nVALUE = 1\n", f"{name}.py")
    for path in sorted((copy / "lamp_exp").rglob("*.py")):
        compile(path.read_bytes(), path, "exec")
    assert run_python(copy) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/base.py", "is the title for", "is a title for"),
        ("tasks/lamp4.py", r"Generate a headline", "Write a headline"),
        ("metrics.py", r"return 2 \* ", "return 3 * "),
        ("augmentations/budget.py", r"INPUT_SHARE = 0\.6", "INPUT_SHARE = 0.5"),
        ("values.py", r"lr: float = 5e-5", "lr: float = 1e-4"),
        ("retrievers/recency.py", r"\Z", "\nVALUE = 1\n"),
    ],
)
def test_edits_of_formulas_and_templates_change_it(copy, file, old, new):
    before = run_python(copy)[0]
    edit(copy, old, new, file)
    assert run_python(copy)[0] != before


def test_only_modules_that_are_imported_count(copy):
    before = run_python(copy)
    edit(copy, r"\Z", "\nVALUE = 1\n", "tasks/lamp5.py", "retrievers/random.py")
    assert run_python(copy) == before


@pytest.mark.long
@pytest.mark.parametrize("python", PYTHONS)
def test_all_pythons_give_the_same(python):
    """They need nothing but Python itself."""
    if subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip("this Python does not start")  # a launcher of pyenv without its Python
    assert run_python(PACKAGE.parent, python=python) == run_python(PACKAGE.parent)


def test_modules_that_make_no_numbers_do_not_count():
    names = run_python(PACKAGE.parent)[1].split()
    parts = {name.split(".")[1] for name in names}
    assert parts == {"augmentations", "contracts", "data", "experiment", "metrics", "models",
                     "retrievers", "tasks", "values"}  # fmt: skip
    experiment = {name.split(".")[2] for name in names if name.startswith("lamp_exp.experiment.")}
    assert {"ranking", "stages"} <= experiment
    assert not {"code_fingerprint", "ddp", "identity", "launch", "run"} & experiment


def test_a_component_counts_with_what_it_imports():
    names = set(sources(["lamp_exp.retrievers.bm25_okapi"]))
    modules = {"bm25_okapi", "lexical", "inverted", "fingerprints"}
    inner = {"contracts", "values", *(f"retrievers.{name}" for name in modules)}
    assert names == {f"lamp_exp.{name}" for name in inner}
    assert code_fingerprint(BM25()) == code_fingerprint(BM25) != code_fingerprint(BM25Okapi())
    assert code_fingerprint(Lamp3(), BM25()) == code_fingerprint(BM25(), Lamp3())


@pytest.mark.parametrize("contract", [Task, Retriever, Augmentation, Model])
def test_the_version_of_a_component_counts_where_its_code_does_not(contract):
    def component(version: int, *parents: type) -> type:
        members = {"__module__": "installed.nowhere", "version": version}
        return type("Installed", parents or (contract,), members)

    one, two = component(1), component(2)
    assert code_fingerprint(one) == code_fingerprint(component(1)) != code_fingerprint(two)
    child = {"__module__": "installed.nowhere"}
    inherited = [code_fingerprint(type("Child", (parent,), child)) for parent in (one, two)]
    assert inherited[0] != inherited[1]


USER_RETRIEVER = """
from lamp_exp.retrievers.lexical import Lexical
from words import split

class Mine(Lexical):
    words = staticmethod(split)
    idf = None
"""


def test_a_users_own_files_count(tmp_path: Path):
    (tmp_path / "mine.py").write_text(USER_RETRIEVER)
    words = tmp_path / "words.py"
    words.write_text("split = str.split\n")
    code = (
        f"import sys; sys.path.append({str(PACKAGE.parent)!r}); from mine import Mine; "
        "from lamp_exp.experiment.code_fingerprint import *; "
        "print(code_fingerprint(Mine), *sorted(sources(['mine'])))"
    )
    first = run_python(tmp_path, code)[0].split()
    assert {"mine", "words", "lamp_exp.retrievers.lexical"} <= set(first)
    words.write_text("split = str.splitlines\n")
    assert run_python(tmp_path, code)[0].split()[0] != first[0]


def test_relative_imports_and_packages_are_followed(tmp_path: Path, monkeypatch):
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .one import thing\n")
    (package / "one.py").write_text("from .inner import two\nfrom . import three\nthing = 1\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "two.py").write_text("from ..four import x\n")
    for name in ("three", "four", "five"):
        (package / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(sources(["pack"])) == {
        "pack", "pack.one", "pack.inner.two", "pack.three", "pack.four",
    }  # fmt: skip


def test_a_class_without_a_file_has_a_fingerprint_too():
    made = type("Made", (), {"__module__": "nowhere.at_all"})
    assert len(code_fingerprint(made())) == 16


def text(code: str) -> str:
    return NormalForm(ast.parse(code), "package").text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "# why\nx   =  1"),
        ("def f(a): return a", "def f(a: int) -> int:\n    'Text.'\n    return a"),
        ("class A:\n    x: int = 1", "class A:\n    'Text.'\n    x: str = 1"),
        ("def f():\n    raise E('a')", "def f():\n    raise E('b', 1) from error"),
        ("assert a, 'one'", "assert a, 'two'"),
        ("x = f()", "import logging\nlog = logging.getLogger('x')\nx = f()\nlog.info('%s', x)"),
        ("f(x)", "import warnings\nwarnings.warn('x')\nf(x)\nprint(x)\nself._log.debug('x')"),
        ("for a in b: f(a)", "from tqdm import tqdm\nfor a in tqdm(b, 'label', 3): f(a)"),
        ("x = b", "from lamp_exp.progress import progress\nx = progress(b, 3, 'label')"),
        ("x: int = 1", "from __future__ import annotations\nimport a as b\nx: Any = 1"),
        ("x = 1", "if TYPE_CHECKING:\n    from lamp_exp.contracts import Task\nx = 1"),
        ("import a\nimport b\na.b()", "import b\nimport a\na.b()"),
        (
            "class A:\n    y = 1",
            "class A:\n    @abstractmethod\n    def f(self): 'Text.'\n    y = 1",
        ),
        ("x = f'{a}b' 'c'", "x = f'{a}bc'"),
    ],
)
def test_what_decides_no_number_is_left_out(one, other):
    assert text(one) == text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = '1'"),
        ("x = 1", "x = True"),
        ("x = a + b", "x = a - b"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = f'{a:.3f}'", "x = f'{a:.2f}'"),
        ("x = f'{a} '", "x = f' {a}'"),
        ("def f(a, b): ...", "def f(b, a): ..."),
        ("def f(a=1): ...", "def f(a=2): ..."),
        ("def f(a): ...", "def f(*, a): ..."),
        ("class A:\n    x: int", "class A:\n    y: int"),
        ("from math import floor as f\nf(x)", "from math import ceil as f\nf(x)"),
        ("@a\ndef f(): ...", "def f(): ..."),
        ("raise A('x')", "raise B('x')"),
        ("for a in tqdm(b): f(a)", "for a in tqdm(c): f(a)"),
        ("losses.log(x)", "losses.log(y)"),
        ("self.log('loss', x)", "self.log('loss', y)"),
        ("x = log.info(y)", "x = log.info(z)"),
        ("f()\ng()", "g()\nf()"),
    ],
)
def test_what_decides_a_number_is_not(one, other):
    assert text(one) != text(other)
