"""The whole ablation grid of the made-up sample; killed again and again, its table is the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
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
    began = time.monotonic()
    whole = finished(tmp_path / "whole", hub)
    seconds = time.monotonic() - began
    assert whole["counts"]["done"] == len(whole["rows"]) == JOBS
    chance = random.Random(0)
    share = seconds / KILLS / 2
    hits = [killed(tmp_path / "broken", hub, chance, share) for _ in range(KILLS)]
    assert sum(hits) >= 5  # the others hit a job that was composed, or read its data
    before = times(tmp_path / "broken")
    assert 0 < len(before) < JOBS
    broken = finished(tmp_path / "broken", hub)
    assert broken["counts"]["there"] == len(before)
    assert table(broken) == table(whole)
    after = times(tmp_path / "broken")
    assert {path: after[path] for path in before} == before  # what was finished is not touched
    for path in (tmp_path / "whole").glob("lamp*/predictions.json"):
        other = tmp_path / "broken" / path.parent.name / path.name
        assert other.read_bytes() == path.read_bytes()


def killed(place: Path, hub: Path, chance: random.Random, share: float) -> bool:
    """Starts the grid and kills it while it does new work; whether that hit a run in its middle."""
    seen = set(place.glob(".sweeps/*"))
    with started(place, hub) as process:
        while not any(is_new_work(job) for job in jobs_of(place, seen)):
            assert process.poll() is None, "the grid ended before it was killed"
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):  # it is still at work
            process.communicate(timeout=chance.uniform(0, share))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return any(is_begun(job) for job in jobs_of(place, seen))


def jobs_of(place: Path, seen: set[Path]) -> list[dict[str, Any]]:
    """What the jobs say of themselves, of the sweep that was not `seen` before."""
    new = set(place.glob(".sweeps/*")) - seen
    return [json.loads(path.read_text()) for one in new for path in one.glob("*/status.json")]


def is_new_work(job: dict[str, Any]) -> bool:
    return job["state"] == "done" or is_begun(job)


def is_begun(job: dict[str, Any]) -> bool:
    return bool(job["run"]) and not Path(job["run"], "result.json").exists()


def times(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.glob("lamp*/result.json")}
