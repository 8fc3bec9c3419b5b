"""Sampling that does not depend on the batch: each question has random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SamplingByRow(TorchFunctionMode):
    """While it is active, `torch.multinomial` draws each row with that row's own generator.

    This is how transformers' `generate` samples, with beams or without; rows are examples.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not torch.multinomial:
            return func(*args, **(kwargs or {}))
        probabilities, *others = args
        rows = zip(probabilities, self.generators, strict=True)
        drawn = [func(row, *others, **(kwargs or {}), generator=own) for row, own in rows]
        return torch.stack(drawn)
