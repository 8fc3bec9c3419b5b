"""A first experiment on a machine where others compute, too."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY, CORES, SECONDS = 3, 2, 150


def compute_for_ever(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    while True:
        sum(range(1000))


@contextmanager
def busy_processes(cores: set[int]) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=compute_for_ever, args=(cores,), daemon=True) for _ in range(BUSY)
    ]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def test_a_first_experiment_beside_three_busy_processes(benchmark, tmp_path: Path):
    """Two cores for all; the number of threads is left to the project."""
    cores = set(sorted(os.sched_getaffinity(0))[:CORES])
    words = ["-m", "lamp_exp", "experiment=first", "k=4", f"output_dir={tmp_path}"]
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with busy_processes(cores):
        start = time.perf_counter()
        command = subprocess.Popen(
            [sys.executable, *words], env=variables, stdout=subprocess.DEVNULL
        )
        os.sched_setaffinity(command.pid, cores)
        assert command.wait(timeout=2 * SECONDS) == 0
        seconds = time.perf_counter() - start
    benchmark.extra_info["seconds"] = round(seconds)
    benchmark.pedantic(lambda: None, rounds=1)
    assert seconds < SECONDS
