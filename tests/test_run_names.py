"""Runs of an earlier release keep their names: `tests/data/runs` holds small ones.

A new option, a moved class or another way to write a configuration must not rename a run. Each
folder below `tests/data/runs` was made by the command in its `command.txt`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

RUNS = sorted(
    path.parent for path in (Path(__file__).parent / "data" / "runs").glob("*/command.txt")
)


def test_there_are_runs_of_each_kind():
    names = " ".join(run.name for run in RUNS)
    for word in (
        "-rank-",
        "-prompts-",
        "-zeroshot-",
        "-finetune-",
        "-ktune-",
        "-none-k0-",
        "-fid-",
    ):
        assert word in names, word


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_command_finds_the_run_of_the_earlier_release(
    run: Path, lamp_exp, tmp_path: Path, caplog
):
    output_dir = tmp_path / "outputs"
    shutil.copytree(run, output_dir / run.name)
    words = (run / "command.txt").read_text(encoding="utf-8").split()
    caplog.set_level("INFO", "lamp_exp")
    code, out, err = lamp_exp(*words, f"output_dir={output_dir}")
    assert code == 0, err
    assert out.splitlines()[-1] == str(output_dir / run.name)
    assert "finished already" in caplog.text
