"""The README of the project and those of its folders: their commands run, their options exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lamp_exp.options import markdown_table
from tests.conftest import compose, options

ROOT = Path(__file__).parent.parent
FILES = [
    ROOT / "README.md",
    *(
        path
        for folder in ("conf", "lamp_exp", "tests")
        for path in (ROOT / folder).rglob("README.md")
    ),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MANUAL = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
COMMANDS = list(
    dict.fromkeys(
        line
        for block in re.findall(r"```bash\n(.*?)```", MANUAL, re.DOTALL)
        for line in block.strip().splitlines()
    )
)
RUNS = [  # those with a component of one's own are in tests/test_own_component.py
    line
    for line in COMMANDS
    if line.startswith("python -m lamp_exp ") and "--config-dir" not in line
]
INSTALLS = [line for line in COMMANDS if line.startswith("python3 -m venv")]


@pytest.mark.parametrize("command", RUNS)
def test_a_command_is_understood(command: str):
    if "launcher=ray" in command:
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra ray")
    words = [word for word in shlex.split(command)[3:] if word not in {"-m", "--help"}]
    compose(*[word.split(",")[0] for word in words if "=" in word])


@pytest.mark.long
@pytest.mark.parametrize(
    "command", [line for line in RUNS if "limit=" in line and "data_dir=" not in line]
)
def test_a_command_runs(command: str, lamp_exp):
    code, out, err = lamp_exp(*shlex.split(command)[3:])
    assert code == 0, err
    record = "summary.json" if "-m" in shlex.split(command)[3:] else "result.json"
    assert (Path(out.splitlines()[-1]) / record).is_file()


@pytest.mark.parametrize(
    "command", [line for line in COMMANDS if line.startswith("python -m lamp_exp.")]
)
def test_the_verbs_have_the_options_that_are_shown(command: str, capsys):
    _, _, name, *words = shlex.split(command)
    verb = [word for word in words[:1] if not word.startswith("--")]
    within = importlib.util.find_spec(name).submodule_search_locations is not None
    module = importlib.import_module(f"{name}.__main__" if within else name)
    with pytest.raises(SystemExit, match="0"):
        module.main([*verb, "--help"])
    told = capsys.readouterr().out
    for option in [word for word in words if word.startswith("--")]:
        assert option in told


def test_ci_calls_exactly_the_readmes_test_command():
    (command,) = [line for line in INSTALLS if "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_table_of_options_is_that_of_the_code():
    table = (ROOT / "conf" / "README.md").read_text(encoding="utf-8")
    assert markdown_table() in table, "put what lamp_exp.options.markdown_table() returns there"


def test_every_launcher_of_our_own_is_in_the_manual():
    for launcher in options("hydra/launcher"):
        assert f"hydra/launcher={launcher}" in MANUAL, launcher


def test_every_root_key_is_in_the_manual():
    cfg, _ = compose()
    for key in cfg:
        assert f"`{key}" in MANUAL, key


def test_links_between_the_files_lead_somewhere():
    for file in FILES:
        links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", file.read_text(encoding="utf-8"))
        for link, heading in links:
            target = file.parent / link if link else file
            assert target.exists(), f"{file}: {link}"
            assert not heading or heading in anchors(target), f"{file}: {link}#{heading}"


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    text = re.sub(r"(?ms)^```.*?^```", "", file.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("command", INSTALLS)
def test_an_install_command_runs_in_a_clean_clone(command: str, tmp_path: Path):
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    told = subprocess.run(
        command, shell=True, cwd=tmp_path / "clone", capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
