"""How long reports take: 200 runs of 1,500 questions each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.records import make_run

QUESTIONS = 1500


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tasks, two splits, two seeds; no profile, and three retrievers with three k."""
    folder = tmp_path_factory.mktemp("grid")
    for task in ("lamp1", "lamp2", "lamp3", "lamp4", "lamp5"):
        for split in ("user", "time"):
            for seed in (0, 1):
                same = {"split": split, "seed": seed, "questions": QUESTIONS}
                make_run(folder, task, k=0, skill=0.4, **same)
                for retriever in ("random", "bm25", "contriever"):
                    for k in (1, 4, 16):
                        skill = 0.4 + 0.03 * k**0.5
                        make_run(folder, task, retriever=retriever, k=k, skill=skill, **same)
    return folder


@pytest.mark.parametrize("verb", ["ablation", "personal", "coldstart", "tests", "cost", "html"])
def test_a_report_of_two_hundred_runs(verb: str, grid: Path, tmp_path: Path, benchmark):
    words = [sys.executable, "-m", "lamp_exp.report", verb, "--runs", str(grid)]
    out = ["--out", str(tmp_path / "report")]

    def report() -> None:
        subprocess.run([*words, *out], check=True, capture_output=True)

    benchmark.extra_info["runs"] = len(list(grid.iterdir()))
    benchmark.pedantic(report, rounds=3)
