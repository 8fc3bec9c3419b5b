"""Each question of a part with its ranked profile: in bounded memory, by several processes, once.

A retriever is given some questions together. Rankings are kept as positions in the profile, and a
question is read when its ranking is used: neither questions nor rankings are held for all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from lamp_exp.contracts import Retriever, Task
from lamp_exp.errors import InputError
from lamp_exp.experiment.queries import Questions
from lamp_exp.progress import progress
from lamp_exp.storage.rankings import Order, RankingCache
from lamp_exp.values import Document, Example, Hit

MOST_PROCESSES = 8  # that are begun unasked
WORTH_A_PROCESS = 1000  # questions; for fewer, to begin one takes longer than it saves
AHEAD = 4  # chunks of each process that may wait to be written
PARENT_CHECK = 0.2  # seconds after which a process notes that nobody waits for it any more
Ranked = tuple[Example, list[Hit]]


@dataclass(frozen=True, slots=True)
class Ranker:
    """A retriever with the examples that it ranks, and how."""

    retriever: Retriever
    task: Task
    examples: Sequence[Example]
    document_dates: bool
    processes: int | None  # None: as many as there are cores and worth it

    def ranked(
        self, cache: RankingCache, key: Mapping[str, Any], ids: Sequence[str]
    ) -> Iterator[Ranked]:
        """Each example with its whole profile, best item first; from the cache if it has them.

        `key` names all that decides the rankings, `ids` are the examples'. They are computed
        before this returns, and read one by one afterwards.
        """
        orders = cache.rankings(key, ids, self._orders)
        return map(_with_hits, self.examples, orders)

    def unranked(self) -> Iterator[Ranked]:
        """Each example without its profile."""
        return ((example, []) for example in self.examples)

    def _orders(self) -> Iterator[Order]:
        """Of each example, in order."""
        starts = range(0, len(self.examples), self.retriever.batch_size)
        processes = min(self._processes(), len(starts))
        chunks = map(self.chunk, starts) if processes < 2 else _shared(self, starts, processes)
        orders = (order for chunk in chunks for order in chunk)
        return iter(progress(orders, len(self.examples), "rank"))

    def _processes(self) -> int:
        child = multiprocessing.current_process().daemon  # which may have no children
        if child or not self.retriever.per_question or sys.platform != "linux":
            return 1  # elsewhere a fork is not safe
        if self.processes is not None:
            return self.processes
        return min(cores(), MOST_PROCESSES, len(self.examples) // WORTH_A_PROCESS)

    def chunk(self, start: int) -> Iterator[Order]:
        """Of the examples that the retriever is given together, from number `start` on."""
        examples = self.examples[start : start + self.retriever.batch_size]
        questions = list(Questions(self.task, examples, self.document_dates))
        rankings = self.retriever.rank_batch(questions)
        for (query, documents), hits in zip(questions, rankings, strict=True):
            yield order_of(query.id, documents, hits)


def cores() -> int:
    """How many this process may use; Linux tells."""
    return len(os.sched_getaffinity(0))


def order_of(id: str, documents: Sequence[Document], hits: Sequence[Hit]) -> Order:
    """Hits as positions and scores."""
    position = {document.id: n for n, document in enumerate(documents)}
    order = [position.get(hit.id, -1) for hit in hits]
    once = sorted(order) == list(range(len(documents)))
    assert once, f"a retriever must rank each item once, but not so question {id!r}"
    return Order(order, [hit.score for hit in hits])


def _with_hits(example: Example, order: Order) -> Ranked:
    """Positions as hits."""
    items = [item.id for item in example.profile]
    if len(order.positions) != len(items):
        raise InputError(
            f"the kept ranking of question {example.id!r} is of another profile: remove "
            "the folder .cache/rankings of output_dir"
        )
    pairs = zip(order.positions, order.scores, strict=True)
    return example, [Hit(items[n], score) for n, score in pairs]


# --- several processes -------------------------------------------------------------------------


def _shared(ranker: Ranker, starts: Sequence[int], processes: int) -> Iterator[list[Order]]:
    """The chunks that begin at `starts`, in order; processes are forked, so nothing is copied."""
    fork = multiprocessing.get_context("fork")
    over = fork.RawValue("b", 0)  # without a lock, which a process that is killed could hold
    pool = ProcessPoolExecutor(
        processes, mp_context=fork, initializer=_begin, initargs=(ranker, os.getpid(), over)
    )
    try:
        yield from _in_order(pool, starts, processes * AHEAD)
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {processes} processes that rank ended without an answer (killed, for want of "
            "memory?): rank_processes=1 tells more, and takes less"
        ) from error
    except BaseException:
        over.value = 1  # so that an interrupt need not wait for them, nor a second one
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: Executor, starts: Sequence[int], most: int) -> Iterator[list[Order]]:
    """Answers as they are asked for, and no more than so many made ahead."""
    waiting: deque[Future[list[Order]]] = deque()
    for start in starts:
        waiting.append(pool.submit(_chunk, start))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_ranker: Ranker  # of a process that was begun to rank


def _begin(ranker: Ranker, parent: int, over: Any) -> None:
    """A new process: it leaves signals to its parent, and ends when that is gone or has enough.

    Slurm and a terminal signal all processes of a job; what the parent makes of that counts.
    """
    global _ranker
    _ranker = ranker
    for name in ("SIGINT", "SIGTERM", "SIGCONT", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent, over), daemon=True).start()


def _end_with(parent: int, over: Any) -> None:
    while os.getppid() == parent and not over.value:
        time.sleep(PARENT_CHECK)
    os._exit(0)


def _chunk(start: int) -> list[Order]:
    return list(_ranker.chunk(start))


@dataclass(frozen=True)
class Rankings:
    """TEMPORARY."""

    orders: Sequence[Order]
    item_ids: Sequence[Sequence[str]]

    def hits(self, row: int, example: Example) -> list[Hit]:
        return _with_hits(example, self.orders[row])[1]

    def all_hits(self) -> Iterator[list[Hit]]:
        for order, ids in zip(self.orders, self.item_ids, strict=True):
            pairs = zip(order.positions, order.scores, strict=True)
            yield [Hit(ids[n], score) for n, score in pairs]


def rank_part(
    retriever: Retriever,
    task: Task,
    part: Any,
    cache: RankingCache,
    key: Mapping[str, Any],
    document_dates: bool,
    processes: int | None,
) -> Rankings:
    """TEMPORARY."""
    ranker = Ranker(retriever, task, part.examples, document_dates, processes)
    ids = part.examples.column("id")
    orders = list(cache.rankings(key, ids, ranker._orders))
    return Rankings(orders, [[i.id for i in e.profile] for e in part.examples])
