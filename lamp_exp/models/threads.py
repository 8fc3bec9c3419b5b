"""How many CPU threads a model uses.

The threads of a small model mostly wait for each other, the more so on a busy machine: such a
model uses one. The process's own setting is restored afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 5_000_000  # parameters: the tiny model has 0.2 million, FLAN-T5-small 77 million


@contextmanager
def threads_restored() -> Iterator[None]:
    """Restores the process's number of threads when the block ends."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_threads(network: torch.nn.Module, device: torch.device) -> int:
    """Gives a small network on a CPU one thread; returns the number of threads in use."""
    if device.type == "cpu" and sum(p.numel() for p in network.parameters()) < SMALL:
        torch.set_num_threads(1)
    return torch.get_num_threads()
