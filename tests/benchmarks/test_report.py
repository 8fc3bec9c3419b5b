"""How long reports take: 300 runs of 1,500 questions each.

Limits are in CPU seconds of the whole command, its start included, so that other processes on the
machine hardly count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.records import make_run

QUESTIONS = 1500
TABLE_SECONDS, PAGE_SECONDS = 5, 20
VERBS = [
    "table2", "table3", "table", "ablation", "tests", "compare", "personal", "agreement",
    "coldstart", "cost", "html",
]  # fmt: skip


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tasks, two splits, three seeds; no profile, and three retrievers with three k."""
    folder = tmp_path_factory.mktemp("grid")
    for task in ("lamp1", "lamp2", "lamp3", "lamp4", "lamp5"):
        for split in ("user", "time"):
            for seed in (0, 1, 2):
                same = {"split": split, "seed": seed, "questions": QUESTIONS}
                make_run(folder, task, k=0, skill=0.4, **same)
                for retriever in ("random", "bm25", "contriever"):
                    for k in (1, 4, 16):
                        skill = 0.4 + 0.03 * k**0.5
                        make_run(folder, task, retriever=retriever, k=k, skill=skill, **same)
    assert len(list(folder.iterdir())) == 300
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_a_report_of_three_hundred_runs(verb: str, grid: Path, tmp_path: Path, benchmark):
    runs = sorted(grid.glob("lamp2-user-*-s0-*"))[:2] if verb == "compare" else ()
    words = [sys.executable, "-m", "lamp_exp.report", verb, *map(str, runs), "--runs", str(grid)]
    seconds = []

    def report() -> None:
        command = [*words, "--out", str(tmp_path / "report")]
        seconds.append(
            cpu_seconds(lambda: subprocess.run(command, check=True, capture_output=True))
        )

    benchmark.pedantic(report, rounds=3)
    benchmark.extra_info["cpu_seconds"] = min(seconds)
    assert min(seconds) < (PAGE_SECONDS if verb == "html" else TABLE_SECONDS)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of the processes that `work` starts and waits for."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])
