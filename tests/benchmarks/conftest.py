"""Speed, told as ratios: `python -m pytest tests/benchmarks`.

Both ways are measured in turns, in CPU seconds of this one process, so that a busy machine
slows both alike; the better of each counts. Each ratio is printed and, with
`--benchmark-json=FILE`, kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

Ratio = Callable[..., float]


@pytest.fixture
def ratio(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> Ratio:
    """How many times faster `fast` is than `slow`; `clock` may be the time of the wall."""

    def measure(
        slow: Callable[[], Any],
        fast: Callable[[], Any],
        rounds: int = 3,
        clock: Callable[[], float] = time.process_time,
    ) -> float:
        seconds: dict[str, list[float]] = {"slow": [], "fast": []}
        for _ in range(rounds):
            for name, way in (("slow", slow), ("fast", fast)):
                start = clock()
                way()
                seconds[name].append(clock() - start)
        times = {name: min(values) for name, values in seconds.items()}
        made = times["slow"] / times["fast"]
        benchmark.extra_info.update(ratio=round(made, 2), **times)
        benchmark.pedantic(fast, rounds=1)
        with capsys.disabled():
            print(f"\n{benchmark.name}: {times['slow']:.2f} s / {times['fast']:.2f} s = {made:.1f}")
        return made

    return measure
