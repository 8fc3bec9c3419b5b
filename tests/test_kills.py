"""What learns survives `kill -9`: the same command then gives the numbers of an unbroken run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import recorded
from tests.routers import SMALL
from tests.test_cli import folder_of

KILLS = 10
QUICK = [
    "task=lamp4", "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false", "max_length=96",
    "max_new_tokens=4", "trainer.max_epochs=1", "k=1",
]  # fmt: skip
CANDIDATES = "router.candidates={none:{k:0},recent:{retriever:random},bm25:{retriever:bm25}}"
LEARNING = {
    "feedback": ["mode=feedback", "part=train", "feedback.folds=2", "limit=300"],
    "ropg_kd": ["retriever=ropg_kd_fresh", "feedback.folds=2", "feedback.items=4", "limit=80"],
    "ropg_rl": ["retriever=ropg_rl_fresh", "feedback.folds=2", "feedback.items=4", "limit=80"],
    "rspg_pre": ["router=rspg_pre", *SMALL, "router.epochs=8", CANDIDATES, "limit=80"],
    "rspg_post": ["router=rspg_post", *SMALL, "router.folds=2", CANDIDATES, "limit=80"],
}
ANSWERS = ("predictions.json", "rankings.jsonl", "feedback.parquet")
pytestmark = pytest.mark.slow


def started(words: list[str], place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lamp_exp", *QUICK, *words, f"output_dir={place}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finished(words: list[str], place: Path) -> Path:
    process = started(words, place)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return folder_of(out)


def seconds_of(run: Path) -> float:
    """From the beginning of a run to its record."""
    began, ended = ((run / name).stat().st_mtime for name in ("config.yaml", "result.json"))
    return ended - began


def has_worked(place: Path, since: float) -> bool:
    """Whether a run has been begun, or gone on with, after that time."""
    return any(path.stat().st_mtime > since for path in place.glob("*/begun.json"))


@pytest.mark.parametrize("name", LEARNING)
def test_ten_kills_change_nothing(name, tmp_path: Path):
    words = LEARNING[name]
    whole = finished(words, tmp_path / "whole")
    share = seconds_of(whole) / KILLS
    chance, place = random.Random(name), tmp_path / "broken"
    for number in range(KILLS):
        start = time.time()
        with started(words, place) as process:
            while process.poll() is None and not has_worked(place, start):
                time.sleep(0.05)
            try:
                process.communicate(timeout=chance.uniform(0, 1) * share)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            assert process.returncode == -signal.SIGKILL, f"it ended before kill {number}"
    broken = finished(words, place)
    assert broken.name == whole.name
    for file in ANSWERS:
        assert (broken / file).is_file() == (whole / file).is_file()
        if (whole / file).is_file():
            assert (broken / file).read_bytes() == (whole / file).read_bytes(), file
    assert recorded(broken)["metrics"] == recorded(whole)["metrics"]
