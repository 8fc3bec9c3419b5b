"""What learns survives `kill -9`: the same command then gives the numbers of an unbroken run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest

from lamp_exp.storage.atomic import read_json
from tests.conftest import recorded
from tests.routers import SMALL
from tests.sweeps import finished_run
from tests.test_methods_slow import FEW, table

KILLS = 10
QUICK = [
    "task=lamp4", "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false", "max_length=96",
    "max_new_tokens=4", "trainer.max_epochs=1", "k=1",
]  # fmt: skip
CANDIDATES = ["router/candidates=fixed", "router.candidates.recency=null"]
LEARNING = {
    "feedback": ["mode=feedback", "part=train", "feedback.folds=2", "limit=300"],
    "ropg_kd": ["retriever=ropg_kd_fresh", "feedback.folds=2", "feedback.items=4", "limit=80"],
    "ropg_rl": ["retriever=ropg_rl_fresh", "feedback.folds=2", "feedback.items=4", "limit=80"],
    "rspg_pre": ["router=rspg_pre", *SMALL, "router.epochs=8", *CANDIDATES, "limit=80"],
    "rspg_post": ["router=rspg_post", *SMALL, "router.folds=2", *CANDIDATES, "limit=80"],
}
ANSWERS = ("predictions.json", "rankings.jsonl", "feedback.parquet")
pytestmark = pytest.mark.slow


def command(words: list[str], place: Path) -> list[str]:
    return [sys.executable, "-m", "lamp_exp", *QUICK, *words, f"output_dir={place}"]


def seconds_of(run: Path) -> float:
    """From the beginning of a run to its record."""
    began, ended = ((run / name).stat().st_mtime for name in ("config.yaml", "result.json"))
    return ended - began


def has_worked(place: Path, since: float) -> bool:
    """Whether a run has been begun, or gone on with, after that time."""
    return any(path.stat().st_mtime > since for path in place.glob("*/begun.json"))


def kill_ten_times(command: list[str], place: Path, seconds: float, chance: random.Random) -> None:
    """Starts the command, whose work takes `seconds`, ten times, and kills it before its end.

    On average, half of the work is done in all.
    """
    for number in range(KILLS):
        start = time.time()
        with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as process:
            while process.poll() is None and not has_worked(place, start):
                time.sleep(0.05)
            try:
                process.wait(timeout=chance.uniform(0, 1) * seconds / KILLS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.returncode == -signal.SIGKILL, f"it ended before kill {number}"


def assert_equal_runs(broken: Path, whole: Path) -> None:
    assert broken.name == whole.name
    for file in ANSWERS:
        assert (broken / file).is_file() == (whole / file).is_file()
        if (whole / file).is_file():
            assert (broken / file).read_bytes() == (whole / file).read_bytes(), file
    assert recorded(broken)["metrics"] == recorded(whole)["metrics"]


@pytest.mark.parametrize("name", LEARNING)
def test_ten_kills_change_nothing(name, tmp_path: Path):
    words = LEARNING[name]
    whole = finished_run(command(words, tmp_path / "whole"))
    place = tmp_path / "broken"
    kill_ten_times(command(words, place), place, seconds_of(whole), random.Random(name))
    assert_equal_runs(finished_run(command(words, place)), whole)


def test_ten_kills_of_the_field_change_nothing(tmp_path: Path):
    words = [sys.executable, "-m", "lamp_exp", *FEW]
    whole, place = tmp_path / "whole", tmp_path / "broken"
    began = time.time()
    summary = finished_run([*words, f"output_dir={whole}"]) / "summary.json"
    seconds, broken = time.time() - began, [*words, f"output_dir={place}"]
    kill_ten_times(broken, place, seconds / 2, random.Random("field"))  # the start is no work
    again = finished_run(broken) / "summary.json"
    assert table(read_json(again)) == table(read_json(summary))
    runs = sorted(path.parent for path in whole.glob("*/result.json"))
    assert len(runs) > 17  # the candidates' runs on train, too
    for run in runs:
        assert_equal_runs(place / run.name, run)
