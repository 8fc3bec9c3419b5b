"""Training truly learns: a model that reads the right items beats one that reads none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def metrics(tmp_path: Path, *overrides: str) -> dict[str, float]:
    words = [sys.executable, "-m", "lamp_exp", "experiment=first", f"output_dir={tmp_path}"]
    told = subprocess.run([*words, *overrides], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    folder = Path(told.stdout.splitlines()[-1])
    found: dict[str, float] = json.loads((folder / "result.json").read_text())["metrics"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reading_the_profile_helps_to_rate(tmp_path: Path, seed: int):
    with_profile = metrics(tmp_path, "task=lamp3", "k=4", f"seed={seed}")
    without = metrics(tmp_path, "task=lamp3", "k=0", f"seed={seed}")
    assert with_profile["mae"] < without["mae"] / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reading_the_profile_helps_to_write(tmp_path: Path, seed: int):
    with_profile = metrics(tmp_path, "task=lamp4", "k=4", f"seed={seed}")
    without = metrics(tmp_path, "task=lamp4", "k=0", f"seed={seed}")
    assert with_profile["rouge_1"] > without["rouge_1"] + 0.2
