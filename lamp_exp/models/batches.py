"""Divides examples into batches, in an order that depends on (seed, epoch) only.

Training that is resumed, or that several processes share, therefore sees the same batches as
training in one go by one process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lamp_exp.values import Prompt

Batch = dict[str, Any]
Pair = tuple[Prompt, str]  # a prompt and its target
T = TypeVar("T")
MAX_WORKERS = 4  # per device; more wait for each other


class ShuffledBatches(Sampler[list[int]]):
    """The row numbers of one process's share of each batch, in another order each epoch.

    A process that gets no row of a small last batch gets a repeated row (`is_padding`), which must
    not count: all processes make equally many steps.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        """`batch_size` is over all processes; `process` is the number of this one."""
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.process, self.processes = process, processes
        self.epoch = 0
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also the first one after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.rows))
        Random(f"{self.seed}:{self.epoch}").shuffle(order)
        for start in range(0, self.rows, self.batch_size):
            share = order[start : start + self.batch_size][self.process :: self.processes]
            yield share or [order[start]]

    def is_padding(self, index: int) -> bool:
        """Whether this process has no row of its own in the batch of that number."""
        size = min(self.batch_size, self.rows - index * self.batch_size)
        return size <= self.process


def batches_in_order(
    rows: Sequence[Any], batch_size: int, collate: Callable[..., Batch], workers: int = 0
) -> DataLoader[Any]:
    """Batches of rows in their order, made ahead by `workers` processes."""
    data = cast("Dataset[Any]", rows)  # a sequence is all that a loader needs
    return DataLoader(data, batch_size=batch_size, collate_fn=collate, **_loader_options(workers))


def shuffled_batches(
    rows: Sequence[Any], batches: ShuffledBatches, collate: Callable[..., Batch], workers: int = 0
) -> DataLoader[Any]:
    """Batches of the rows that `batches` names, made ahead by `workers` processes."""
    data = cast("Dataset[Any]", rows)
    return DataLoader(data, batch_sampler=batches, collate_fn=collate, **_loader_options(workers))


def loader_workers(device: str, processes: int) -> int:
    """How many workers keep a device of that type busy, if `processes` share this machine.

    None on a CPU, which the model itself keeps busy.
    """
    return 0 if device == "cpu" else min(MAX_WORKERS, (os.cpu_count() or 1) // processes)


def _loader_options(workers: int) -> dict[str, Any]:
    if not workers:
        return {}
    return {
        "num_workers": workers,
        "persistent_workers": True,
        "pin_memory": torch.cuda.is_available(),
        "multiprocessing_context": "fork",  # prompts and tokenizer need not be sent
        "worker_init_fn": _set_up_worker,
    }


def _set_up_worker(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else the tokenizer warns of the fork


def longest_first(
    rows: Sequence[T], prompt_of: Callable[[Any], Prompt] = lambda prompt: prompt
) -> list[T]:
    """Rows by falling prompt length: batches hold little padding, and lack of memory shows soon.

    Rows of equal length keep their order, so that removing rows does not reorder the others.
    """
    return sorted(rows, key=lambda row: -prompt_of(row).tokens)


def length_groups(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """The numbers of texts, grouped by length, longest first; texts of length 0 are left out.

    A group has at most `max_tokens` tokens, padding included, or a single text.
    """
    remaining = sorted((n for n, length in enumerate(lengths) if length), key=lambda n: -lengths[n])
    while remaining:
        size = max(1, max_tokens // lengths[remaining[0]])
        yield remaining[:size]
        remaining = remaining[size:]


def in_parts(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Consecutive items in parts whose sizes add up to at most `most`, or of a single item."""
    part: list[T] = []
    used = 0
    for item in items:
        if part and used + size(item) > most:
            yield part
            part, used = [], 0
        part.append(item)
        used += size(item)
    if part:
        yield part


def padded_share(rows: Sequence[T], process: int, processes: int) -> list[T]:
    """Every n-th row for each of n processes; shares are equally long, so some repeat a row.

    Processes that validate while training must make equally many steps.
    """
    count = -(-len(rows) // processes)
    return [rows[(process + processes * n) % len(rows)] for n in range(count)]


def largest_batch(pairs: Sequence[Pair], size: int) -> list[Pair]:
    """The prompts with the most passages and tokens, each with one of the longest targets."""
    prompts = sorted((p for p, _ in pairs), key=lambda p: (-len(p.passages), -p.tokens))
    targets = sorted((target for _, target in pairs), key=len, reverse=True)
    return list(zip(prompts[:size], targets[:size], strict=True))


def derived_seed(*parts: object) -> int:
    """A seed for torch that depends on the text of all `parts`."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4])
