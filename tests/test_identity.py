"""What a result depends on: our own code counts as far as it is imported, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lamp_exp
from lamp_exp.experiment.code_fingerprint import code_fingerprint, sources
from lamp_exp.experiment.identity import essence
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.tasks.lamp3 import Lamp3

PACKAGE = Path(lamp_exp.__file__).parent
PRINT = """
import sys
sys.path.insert(0, sys.argv[1])
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.tasks.lamp3 import Lamp3
print(code_fingerprint(Lamp3(), BM25()))
"""
MINE = """
from lamp_exp.retrievers.lexical import Lexical
from words import split

class Mine(Lexical):
    words = staticmethod(split)
    idf = None
"""


def printed(folder: Path, code: str = PRINT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return told.stdout.strip()


def test_a_changed_file_counts_only_where_it_decides(tmp_path: Path):
    shutil.copytree(PACKAGE, tmp_path / "lamp_exp", ignore=shutil.ignore_patterns("__pycache__"))
    first = printed(tmp_path)
    assert first == code_fingerprint(Lamp3(), BM25())
    (tmp_path / "README.md").write_text("changed")
    others = ["tasks/lamp4.py", "retrievers/random.py", "results/display.py", "results/folder.py"]
    for name in others:
        with (tmp_path / "lamp_exp" / name).open("a") as file:
            file.write("# changed\n")
    assert printed(tmp_path) == first
    seen = {first}
    for name in ("retrievers/bm25.py", "retrievers/lexical.py", "tasks/base.py", "values.py"):
        with (tmp_path / "lamp_exp" / name).open("a") as file:
            file.write("# changed\n")
        now = printed(tmp_path)
        assert now not in seen, name
        seen.add(now)


def test_what_is_imported_counts_and_libraries_do_not():
    names = set(sources(["lamp_exp.retrievers.bm25_okapi"]))
    mine = {"bm25_okapi", "lexical", "inverted", "fingerprints"}
    inner = {"contracts", "values", *(f"retrievers.{name}" for name in mine)}
    assert names == {f"lamp_exp.{name}" for name in inner}
    assert code_fingerprint(BM25()) == code_fingerprint(BM25) != code_fingerprint(BM25Okapi())


def test_a_users_own_files_count(tmp_path: Path):
    (tmp_path / "mine.py").write_text(MINE)
    words = tmp_path / "words.py"
    words.write_text("split = str.split\n")
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}"}
    code = (
        "from mine import Mine; from lamp_exp.experiment.code_fingerprint import *; "
        "print(code_fingerprint(Mine), *sorted(sources(['mine'])))"
    )

    def told() -> list[str]:
        command = [sys.executable, "-B", "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=where
        ).stdout.split()

    first = told()
    ours = [
        "contracts",
        "retrievers.fingerprints",
        "retrievers.inverted",
        "retrievers.lexical",
        "values",
    ]
    assert first[1:] == [*(f"lamp_exp.{name}" for name in ours), "mine", "words"]
    words.write_text("split = str.splitlines\n")
    assert told()[0] != first[0]


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


def test_the_essence_leaves_out_the_runtime():
    assert essence("retriever", {"name": "x/y", "device": "cpu", "b": 1}) == {"name": "x/y", "b": 1}
    assert essence("task", {"device": "cpu"}) == {"device": "cpu"}
