"""The README's component: in a package of one's own, and inside the project."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lamp_exp import composition, laws
from lamp_exp.results.folder import RunFolder
from tests.conftest import ROOT
from tests.test_cli import folder_of, rows

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## Adding a component")[1]
SECTION = SECTION.split("\n## ")[0]
CODE, TEST = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
(OPTIONS,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = re.search(r"```bash\n(.*?)```", SECTION, re.DOTALL)[1].splitlines()
TASK = '''
"""LaMP-8: a task of one's own."""

from lamp_exp.tasks.base import TitleTask


class Lamp8(TitleTask):
    """Titles of songs."""

    name = "LaMP_8"
    folders = ("LaMP_8",)
    instruction = "Generate a title for the following song:"
    document_fields = ("title", "text")
'''


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip("\n"), encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    """The README's package in the present folder, from where commands import it."""
    files = {"__init__.py": "", "tfidf.py": CODE, "test_tfidf.py": TEST}
    write(tmp_path / "my", {**files, "conf/retriever/tfidf.yaml": OPTIONS})
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "my"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my"]:
        del sys.modules[name]


def words(command: str) -> list[str]:
    """What follows `python -m MODULE`."""
    return shlex.split(command)[3:]


@pytest.mark.long
def test_the_readmes_commands_and_test(package, lamp_exp, capsys):
    its_test, its_laws, its_run = COMMANDS
    run([sys.executable, *shlex.split(its_test)[1:]], package.parent)
    assert laws.main(words(its_laws)) == 0
    assert "retriever TfIdf" in capsys.readouterr().out
    code, out, err = lamp_exp(*words(its_run))
    assert code == 0, err
    assert "-tfidf-" in folder_of(out).name
    assert len(rows(folder_of(out) / "rankings.jsonl")) == 20


RUN = ["--config-dir", "my/conf", "task=lamp4", "mode=rank", "limit=3"]


def test_its_options_name_the_run(package, lamp_exp):
    names = set()
    for change in ([], ["retriever.lower=true"], ["retriever.lower=false"]):
        code, out, err = lamp_exp(*RUN, "retriever=tfidf", *change)
        assert code == 0, err
        names.add(folder_of(out).name)
        identity = RunFolder(folder_of(out)).read().identity
        assert identity["retriever"] == "tfidf"
    assert len(names) == 2
    assert identity["retriever.lower"] is False
    assert "my" not in json.dumps(identity)


def test_a_misspelt_option_of_it_is_explained(package, lamp_exp):
    code, _, err = lamp_exp(*RUN, "retriever=tfidf", "+retriever.lowr=true")
    assert code == 2
    assert err == "lamp_exp: retriever.lowr is no option of TfIdf: did you mean lower?\n"


def test_a_value_that_its_annotation_does_not_allow_is_refused(package, lamp_exp):
    code, _, err = lamp_exp(*RUN, "retriever=tfidf", "retriever.lower=maybe")
    assert code == 2
    assert err == "lamp_exp: retriever.lower=maybe must be true or false\n"


def test_a_module_that_is_not_there_is_named(package, lamp_exp):
    (package / "tfidf.py").unlink()
    code, _, err = lamp_exp(*RUN, "retriever=tfidf")
    assert (code, err) == (2, "lamp_exp: retriever: there is no module my.tfidf\n")


def test_from_another_folder_the_import_is_explained(package, lamp_exp):
    conf = package.rename(package.parent / "elsewhere") / "conf"
    code, _, err = lamp_exp(*RUN, "retriever=tfidf", "--config-dir", str(conf))
    assert code == 2
    line = "there is no module my: start from the folder that contains it, or install it"
    assert err == f"lamp_exp: retriever: {line}\n"


def test_its_exceptions_name_it(package, lamp_exp):
    (package / "tfidf.py").write_text(CODE.replace("math.log(1 + ", "math.log(0 * "))
    code, _, err = lamp_exp(*RUN, "retriever=tfidf")
    assert code == 2
    assert "TfIdf.rank, question '200000': ValueError: " in err.splitlines()[-1]


@pytest.mark.long
def test_a_sweep_with_it(package, lamp_exp):
    code, out, err = lamp_exp("-m", *RUN, "retriever=bm25,tfidf", "hydra/launcher=joblib")
    assert code == 0, err
    assert "tfidf" in out
    OmegaConf.structured(composition.schema())  # intact after joblib has returned configurations


@pytest.mark.long
def test_a_change_of_its_code_makes_runs_stale(package, lamp_exp):
    folder = folder_of(lamp_exp(*RUN, "retriever=tfidf")[1])
    for comment in ("# a comment\n", "VALUE = 1\n"):
        (package / "tfidf.py").write_text(CODE + comment)
        command = [sys.executable, "-m", "lamp_exp", *RUN, "retriever=tfidf"]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment(ROOT))
        assert ended.returncode == 0, ended.stderr
        assert bool(RunFolder(folder).stale) == (comment == "VALUE = 1\n")


def test_its_run_is_repeated(package, lamp_exp, report):
    folder = folder_of(lamp_exp(*RUN, "retriever=tfidf", "retriever.lower=false")[1])
    code, out, err = report("rerun", folder, "--config-dir", "my/conf")
    assert code == 0, out + err
    card = report("card", folder, "--config-dir", "my/conf")[1]
    (command,) = [line for line in card.splitlines() if line.startswith("python -m lamp_exp")]
    again = lamp_exp(*words(command))[1]
    assert folder_of(again) == folder
    code, _, err = report("rerun", folder)
    assert code == 2
    assert "retriever=tfidf does not exist" in err
    assert len(err.splitlines()) == 1


def environment(*paths: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def run(command: Sequence[str], folder: Path, *paths: Path) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=environment(*paths), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout as it is, without what git ignores."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            target = tmp_path / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return tmp_path / "checkout"


@pytest.mark.slow
def test_the_readmes_commands_with_an_installed_wheel(package, checkout, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    run([*pip, "--target", str(tmp_path / "site"), str(checkout)], tmp_path)
    paths = (package.parent, tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(
        [sys.executable, "-c", "import lamp_exp; print(lamp_exp.__file__)"], tmp_path, *paths
    )
    assert Path(where.strip()).is_relative_to(tmp_path / "site")
    for command in COMMANDS[1:]:
        module = shlex.split(command)[2]
        changed = [word.replace("my/conf", str(package / "conf")) for word in words(command)]
        out = run([sys.executable, "-m", module, *changed], elsewhere, *paths)
        assert "BROKEN" not in out
    assert (elsewhere / out.splitlines()[-1] / "result.json").is_file()


@pytest.mark.slow
def test_in_the_project_one_file_and_one_yaml_are_enough(checkout):
    files = {
        "lamp_exp/retrievers/tfidf.py": CODE,
        "conf/retriever/tfidf.yaml": OPTIONS.replace("my.", "lamp_exp.retrievers."),
        "lamp_exp/tasks/lamp8.py": TASK,
        "conf/task/lamp8.yaml": "_target_: lamp_exp.tasks.lamp8.Lamp8\n",
    }
    write(checkout, files)
    tests = ["laws", "imports", "style", "readme", "data", "download", "check", "score", "rules"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    out = run([*command, *(f"tests/test_{name}.py" for name in tests)], checkout, checkout)
    assert "failed" not in out
