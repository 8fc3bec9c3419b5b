"""How examples come in batches: in an order that depends on (seed, epoch) alone.

So training that was broken off and goes on, or that several processes share, sees the same batches
as training that did not and does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lamp_exp.values import Prompt

Batch = dict[str, Any]
Pair = tuple[Prompt, str]
T = TypeVar("T")
MOST_WORKERS = 4  # of one device; more wait for each other


class ShuffledBatches(Sampler[list[int]]):
    """One process's share of each batch of row numbers; another order in each epoch.

    A process that has no row of a small last batch is given a stand-in, which must not count.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        """`batch_size` rows over all `world` processes, of which this is number `rank`."""
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self.sampler = self  # Lightning looks here for whom to tell the epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also before one that it goes on with."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.rows))
        Random(f"{self.seed}:{self.epoch}").shuffle(order)
        for start in range(0, self.rows, self.batch_size):
            share = order[start : start + self.batch_size][self.rank :: self.world]
            yield share or [order[start]]

    def is_stand_in(self, index: int) -> bool:
        """Whether the batch of that number holds no row that is this process's own."""
        size = min(self.batch_size, self.rows - index * self.batch_size)
        return size <= self.rank


def batches_in_order(
    rows: Sequence[Any], batch_size: int, collate: Callable[..., Batch], workers: int = 0
) -> DataLoader[Any]:
    """Batches of rows in their order, made ahead by `workers` processes."""
    data = cast("Dataset[Any]", rows)  # a sequence is all that a loader needs
    return DataLoader(data, batch_size=batch_size, collate_fn=collate, **_ahead(workers))


def shuffled_batches(
    rows: Sequence[Any], batches: ShuffledBatches, collate: Callable[..., Batch], workers: int = 0
) -> DataLoader[Any]:
    """Batches of the rows that `batches` names, made ahead by `workers` processes."""
    data = cast("Dataset[Any]", rows)
    return DataLoader(data, batch_sampler=batches, collate_fn=collate, **_ahead(workers))


def workers_for(device: str, processes: int) -> int:
    """How many workers keep a device of that type fed, where `processes` share this machine.

    None on a CPU, which the model itself keeps busy.
    """
    return 0 if device == "cpu" else min(MOST_WORKERS, (os.cpu_count() or 1) // processes)


def _ahead(workers: int) -> dict[str, Any]:
    if not workers:
        return {}
    return {
        "num_workers": workers,
        "persistent_workers": True,
        "pin_memory": torch.cuda.is_available(),
        "multiprocessing_context": "fork",  # prompts and tokenizer are there, and not sent
        "worker_init_fn": _one_thread_each,
    }


def _one_thread_each(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else the tokenizer warns of the fork


def by_length(
    rows: Sequence[T], prompt_of: Callable[[Any], Prompt] = lambda prompt: prompt
) -> list[T]:
    """Longest prompts first, so that batches hold little padding and memory that lacks shows soon.

    Rows of one length stay in their order, and so do the others when some are taken out.
    """
    return sorted(rows, key=lambda row: -prompt_of(row).tokens)


def length_groups(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The numbers of texts of about one length together, longest first.

    A group has up to so many `tokens`, padding included, and at least one text. Texts of length 0
    are not there, and so in none.
    """
    waiting = sorted((n for n, length in enumerate(lengths) if length), key=lambda n: -lengths[n])
    while waiting:
        size = max(1, tokens // lengths[waiting[0]])
        yield waiting[:size]
        waiting = waiting[size:]


def even_share(rows: Sequence[T], rank: int, world: int) -> list[T]:
    """Every `world`-th row; all shares are of one length, so the last may repeat a row.

    Processes that validate within training must make equally many steps.
    """
    count = -(-len(rows) // world)
    return [rows[(rank + world * n) % len(rows)] for n in range(count)]


def worst_batch(pairs: Sequence[Pair], size: int) -> list[Pair]:
    """The prompts of most passages and tokens, each with one of the longest targets."""
    prompts = sorted((p for p, _ in pairs), key=lambda p: (-len(p.passages), -p.tokens))
    targets = sorted((target for _, target in pairs), key=len, reverse=True)
    return list(zip(prompts[:size], targets[:size], strict=True))


def seed_of(*words: object) -> int:
    """A seed for torch from anything that has a text."""
    text = ":".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4])
