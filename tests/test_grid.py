"""The whole ablation grid of the made-up sample; killed again and again, its table is the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_dense import encoder  # noqa: F401  (a fixture)

GRID = [
    "-m", "+sweep=ablation", "k=1,4", "model=tiny", "trainer=cpu", "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false", "limit=3", "max_new_tokens=4", "max_length=96",
]  # fmt: skip
JOBS = 8 * (1 + 5 * 4) + 8 * (1 + 6 * 4)  # none once; others x k x augmentation; recency by time
KILLS = 20


@pytest.fixture
def hub(tmp_path: Path, encoder: str) -> Path:  # noqa: F811
    """A hub's cache on disk in which the encoders' names stand for a small random BERT."""
    for name in ("facebook/contriever", "sentence-transformers/all-MiniLM-L6-v2"):
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(encoder, folder / "snapshots" / "1")
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("1")
    return tmp_path / "hub"


def started(place: Path, hub: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "lamp_exp", *GRID, f"output_dir={place}"]
    quiet = {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env={**os.environ, **quiet}, start_new_session=True, **pipes)


def finished(place: Path, hub: Path) -> dict[str, Any]:
    """Runs to the end; the digest as data."""
    process = started(place, hub)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    summary: dict[str, Any] = json.loads(Path(out.splitlines()[-1], "summary.json").read_text())
    return summary


def table(summary: dict[str, Any]) -> list[Any]:
    """Everything in the digest that is a number of the experiments."""
    return [[row["keys"], row["task"], row["n"], row["metrics"]] for row in summary["rows"]]


@pytest.mark.slow
def test_a_grid_that_is_killed_twenty_times_has_the_table_of_one_that_is_not(tmp_path, hub):
    whole = finished(tmp_path / "whole", hub)
    assert whole["counts"]["done"] == len(whole["rows"]) == JOBS
    chance = random.Random(0)
    for _ in range(KILLS):
        process = started(tmp_path / "broken", hub)
        try:
            process.communicate(timeout=chance.uniform(3, 30))
            break  # it was faster
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    before = times(tmp_path / "broken")
    broken = finished(tmp_path / "broken", hub)
    assert table(broken) == table(whole)
    after = times(tmp_path / "broken")
    assert {path: after[path] for path in before} == before  # what was finished is not touched
    for path in (tmp_path / "whole").glob("lamp*/predictions.json"):
        other = tmp_path / "broken" / path.parent.name / path.name
        assert other.read_bytes() == path.read_bytes()


def times(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.glob("lamp*/result.json")}
