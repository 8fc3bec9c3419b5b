"""Time and memory from 1,000 to 20,000 questions of 185 items: linear and flat, and a plot of both.

Makes and prepares 1 GB of made-up data first: some minutes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamp_exp.data.__main__ import main as data_verb
from tests.conftest import TINY

SIZES = (1_000, 5_000, 20_000)
ITEMS = 185
ROOT = Path(__file__).parents[2]
PLOTS = ROOT / "outputs"
WAYS = {
    "rank": ["mode=rank"],
    "prompts": ["mode=prompts", "k=4", "model=tiny", f"model.name={TINY}"],
}


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds of CPU and of the wall, and megabytes of its own at the most."""

    cpu: float
    wall: float
    memory: float


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and outputs in which they are prepared."""
    folder = tmp_path_factory.mktemp("scale")
    size = ["--questions", str(max(SIZES)), "--items", str(ITEMS), "--words", "30"]
    chosen = ["--task", "lamp3", "--split", "user", "--part", "train"]
    assert data_verb(["sample", "--out", str(folder / "data"), *chosen, *size]) == 0
    cost_of(folder, "mode=rank", "retriever=none", "limit=1")
    return folder


def cost_of(folder: Path, *overrides: str) -> Cost:
    """Of one run in a process of its own, and in those that it begins."""
    command = [sys.executable, "-m", "lamp_exp", "task=lamp3", "part=train", "data_dir=data"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, start, most = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    with subprocess.Popen([*command, *overrides], cwd=folder, env=environment) as process:
        while process.poll() is None:
            most = max(most, own_memory(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - start, most / 1024)


def own_memory(process: int) -> int:
    """In kB, without what is mapped from files."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("way", WAYS)
def test_time_is_linear_and_memory_flat(benchmark: Any, data: Path, way: str):
    def all_sizes() -> list[Cost]:
        (data / "outputs" / ".cache" / "rankings").rename(data / f"rankings before {way}")
        return [
            cost_of(data, *WAYS[way], "retriever=bm25", "rank_processes=1", f"limit={size}")
            for size in SIZES
        ]

    (data / "outputs" / ".cache" / "rankings").mkdir(parents=True, exist_ok=True)
    costs = benchmark.pedantic(all_sizes, rounds=1)
    told = {f"{size}": cost for size, cost in zip(SIZES, costs, strict=True)}
    benchmark.extra_info.update({n: f"{c.cpu:.1f} s, {c.memory:.0f} MB" for n, c in told.items()})
    plot(way, costs)
    first, middle, last = costs
    each = (last.cpu - first.cpu) / (SIZES[2] - SIZES[0])
    expected = first.cpu + each * (SIZES[1] - SIZES[0])
    assert middle.cpu == pytest.approx(expected, rel=0.25)
    assert last.memory - first.memory < 40  # 2 kB a question


def test_processes_share_the_ranking(benchmark: Any, data: Path):
    """5,000 questions; what it gains is bounded by the cores."""

    def wall(processes: int) -> float:
        chosen = ["mode=rank", "limit=5000", f"rank_processes={processes}"]
        options = [f"retriever.k1=1.{processes}", "retriever=bm25"]  # each ranks anew
        return cost_of(data, *chosen, *options).wall

    walls = [wall(1), benchmark.pedantic(wall, args=(2,), rounds=1)]
    benchmark.extra_info["ratio"] = round(walls[0] / walls[1], 2)
    assert walls[1] < walls[0]


def plot(way: str, costs: list[Cost]) -> None:
    """Seconds and megabytes against questions, one picture a way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    names = {"cpu": "seconds of CPU", "memory": "MB of its own"}
    for axes, (name, label) in zip(figure.subplots(1, 2), names.items(), strict=True):
        values = [getattr(cost, name) for cost in costs]
        axes.plot(SIZES, values, marker="o")
        axes.set(xlim=0, ylim=(0, 1.1 * max(values)), ylabel=label)
        axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        axes.set_xlabel(f"questions of {ITEMS} items")
    figure.suptitle(f"mode={way}, retriever=bm25")
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / f"scale-{way}.png")
