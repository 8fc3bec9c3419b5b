"""The ranking of each profile of a part: computed by several processes, cached, read by row.

A retriever is given a batch of questions at a time, so that neither questions nor rankings of a
whole part are held in memory.
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
from functools import cached_property
from itertools import chain
from typing import Any

from lamp_exp.contracts import Retriever, Task
from lamp_exp.data import Part
from lamp_exp.data.examples import Examples
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.queries import queries
from lamp_exp.progress import progress
from lamp_exp.storage.rankings import Order, Orders, RankingCache
from lamp_exp.values import Document, Documents, Example, Hit, Ranking

MAX_PROCESSES = 8  # that are started without being asked for
QUESTIONS_AT_ONCE = 500  # that are held with their texts
QUESTIONS_PER_PROCESS = 1000  # for fewer, starting a process takes longer than it saves
BATCHES_AHEAD = 4  # per process, that may wait to be written
PARENT_CHECK = 0.2  # seconds after which a process notices that its parent has ended


def rank_part(
    retriever: Retriever,
    task: Task,
    part: Part,
    cache: RankingCache,
    key: Mapping[str, Any],
    document_dates: bool = False,
    processes: int | None = None,
) -> Rankings:
    """Ranks the whole profile of each question, or reads the rankings from `cache`.

    `key` is everything that decides them, as JSON. Without `processes`, as many are used as there
    are cores and work for.
    """
    ranker = Ranker(retriever, task, part.examples, document_dates, processes)
    ids = part.examples.column("id")
    return Rankings(part.examples, cache.rankings(key, ids, ranker.orders, retriever.take_counts))


def ranking_key(
    task: Task,
    task_options: Mapping[str, Any],
    retriever: Retriever,
    retriever_options: Mapping[str, Any],
    document_dates: bool,
    part: Part,
) -> dict[str, Any]:
    """Everything that decides the rankings of a part, as JSON; k does not."""
    view = part.examples.view
    neighbours = view.neighbours and view.neighbours.table.fingerprint  # which are found now
    return {
        **({} if neighbours is None else {"neighbours": neighbours}),
        "task_name": task.name,
        "task": task_options,
        "retriever": deciding_options("retriever", retriever_options),
        "dependencies": dict(retriever.dependencies()),
        "document_dates": document_dates,
        "data": part.fingerprint,
        "reading": dict(part.reading),
        "code": code_fingerprint(task, retriever, view, Rankings),
    }


@dataclass(frozen=True)
class PartRanking:
    """The ranking of a part by a retriever, which is made when it is asked for.

    `options` are those of the retriever and `task_options` those of the task, as JSON.
    """

    retriever: Retriever
    options: Mapping[str, Any]
    task: Task
    task_options: Mapping[str, Any]
    part: Part
    cache: RankingCache
    document_dates: bool
    processes: int | None

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that decides the rankings; an encoder may have to be loaded for it."""
        task = (self.task, self.task_options)
        return ranking_key(*task, self.retriever, self.options, self.document_dates, self.part)

    def rankings(self) -> Rankings:
        """The rankings, from the cache if they are there."""
        given = (self.retriever, self.task, self.part, self.cache)
        return rank_part(*given, self.key, self.document_dates, self.processes)


@dataclass(frozen=True, slots=True)
class Rankings:
    """The rankings of a part, which are read from the cache's file when they are looked at."""

    examples: Examples
    orders: Orders

    @property
    def counts(self) -> Mapping[str, Any]:
        """Of what the retriever read, whenever that was."""
        return self.orders.counts

    def hits(self, row: int, example: Example) -> Ranking:
        """The ranked profile of question number `row`, which is `example`."""
        return _ranking(example.id, [item.id for item in example.profile], self.orders[row])

    def all_hits(self) -> Iterator[Ranking]:
        """The ranked profiles of all questions, in order."""
        ids = self.examples.column("id")
        return map(_ranking, ids, self.examples.item_ids(), self.orders)


def _ranking(id: str, item_ids: Sequence[str], order: Order) -> Ranking:
    if len(order.positions) != len(item_ids):
        raise InputError(
            f"the cached ranking of question {id!r} is of another profile: remove "
            "the folder .cache/rankings of output_dir"
        )
    return Ranking(item_ids, order.positions, order.scores)


@dataclass(frozen=True, slots=True)
class Ranker:
    """A retriever, the questions that it ranks, and how."""

    retriever: Retriever
    task: Task
    examples: Examples
    document_dates: bool
    processes: int | None

    def orders(self) -> Iterator[Order]:
        """The ranking of each question, in order."""
        self.retriever.take_counts()  # of what was read for something else
        starts = range(0, len(self.examples), self.retriever.batch_size)
        processes = min(self._processes(), len(starts))
        batches = map(self.batch, starts) if processes < 2 else _shared(self, starts, processes)
        orders = (order for batch in batches for order in batch)
        return iter(progress(orders, len(self.examples), "rank"))

    def _processes(self) -> int:
        daemon = multiprocessing.current_process().daemon  # which may have no children
        if daemon or not self.retriever.per_question or sys.platform != "linux":
            return 1  # elsewhere a fork is not safe
        if self.processes is not None:
            return self.processes
        return min(cores(), MAX_PROCESSES, len(self.examples) // QUESTIONS_PER_PROCESS)

    def batch(self, start: int) -> Iterator[Order]:
        """The rankings of a batch of questions, from number `start` on."""
        stop = start + self.retriever.batch_size
        questions = queries(self.task, self.examples, start, stop, self.document_dates)
        rankings = chain.from_iterable(map(self.retriever.rank_batch, [questions]))  # lazily
        for query, documents in questions:
            with naming(self.retriever, "rank_batch", query.id):
                order = order_of(documents, next(rankings))
            yield order


def cores() -> int:
    """How many cores this process may use, as Linux says."""
    return len(os.sched_getaffinity(0))


def order_of(documents: Sequence[Document], hits: Sequence[Hit]) -> Order:
    """Hits as positions and scores; AssertionError if an item is not ranked exactly once."""
    ranking = Ranking.of(Documents.of(documents).ids, hits)
    return Order(ranking.positions, ranking.scores)


# --- several processes -------------------------------------------------------------------------


def _shared(ranker: Ranker, starts: Sequence[int], processes: int) -> Iterator[list[Order]]:
    """The batches that begin at `starts`, in order; processes are forked, so nothing is copied."""
    fork = multiprocessing.get_context("fork")
    stop = fork.RawValue("b", 0)  # without a lock, which a process that is killed could hold
    pool = ProcessPoolExecutor(
        processes, mp_context=fork, initializer=_start, initargs=(ranker, os.getpid(), stop)
    )
    try:
        yield from _in_order(pool, starts, processes * BATCHES_AHEAD)
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {processes} processes that rank ended without an answer (killed, for want of "
            "memory?): rank_processes=1 tells more, and takes less"
        ) from error
    except BaseException:
        stop.value = 1  # so that nobody waits for them after an interrupt
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: Executor, starts: Sequence[int], most: int) -> Iterator[list[Order]]:
    """Batches as they are asked for; at most `most` are computed ahead."""
    waiting: deque[Future[list[Order]]] = deque()
    for start in starts:
        waiting.append(pool.submit(_batch, start))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_ranker: Ranker  # in a process that was started to rank


def _start(ranker: Ranker, parent: int, stop: Any) -> None:
    """Prepares a new process: it leaves signals to its parent, and ends when that has ended.

    Slurm and a terminal signal all processes of a job; what the parent makes of that counts.
    """
    global _ranker
    _ranker = ranker
    for name in ("SIGINT", "SIGTERM", "SIGCONT", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent, stop), daemon=True).start()


def _end_with(parent: int, stop: Any) -> None:
    while os.getppid() == parent and not stop.value:
        time.sleep(PARENT_CHECK)
    os._exit(0)


def _batch(start: int) -> list[Order]:
    return list(_ranker.batch(start))
