"""Ranking a part: what a retriever may not do, and the same rankings however it is shared out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lamp_exp.contracts import Retriever
from lamp_exp.errors import InputError
from lamp_exp.experiment.ranking import BATCHES_AHEAD, Ranker, order_of, rank_part
from lamp_exp.experiment.stages import load_parts
from lamp_exp.storage.rankings import Order, RankingCache
from lamp_exp.values import Document, Hit, Query
from tests.conftest import experiment, learning_words, options
from tests.conftest import ranked as ranked_questions
from tests.test_dense import dense_folder, encoder  # noqa: F401  (a fixture)

DOCUMENTS = [Document(id, "") for id in "abc"]


def test_hits_become_positions():
    hits = [Hit("c", 0.5), Hit("a", 0.25), Hit("b", -1.0)]
    assert order_of(DOCUMENTS, hits) == Order([2, 0, 1], [0.5, 0.25, -1.0])
    assert order_of([], []) == Order([], [])


@pytest.mark.parametrize("ids", ["aab", "a", "abx", "abca"])
def test_a_retriever_that_breaks_the_law_is_told(ids):
    with pytest.raises(AssertionError, match="each item must be ranked once"):
        order_of(DOCUMENTS, [Hit(id, 1.0) for id in ids])


class Backwards(Retriever):
    """The profile from its end; some questions at a time."""

    per_question = True
    batch_size = 3

    def __init__(self, fatal: str | None = None) -> None:
        self.fatal = fatal
        self.seen: list[int] = []

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        if query.id == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Hit(document.id, 1.0) for document in reversed(documents)]

    def rank_batch(self, questions):
        self.seen.append(len(questions))
        return super().rank_batch(questions)


def ranking_children() -> list[object]:
    """The child processes of this one, without those that joblib's tests keep for later."""
    children = multiprocessing.active_children()
    return [child for child in children if "Loky" not in type(child).__name__]


def orders(retriever: Retriever, processes: int | None, questions: int = 10) -> list[Order]:
    p = experiment("mode=rank", f"limit={questions}")
    examples = load_parts(p).asked.examples
    return list(Ranker(retriever, p.task, examples, False, processes).orders())


def test_a_retriever_is_given_some_questions_together():
    retriever = Backwards()
    assert len(orders(retriever, None)) == 10
    assert retriever.seen == [3, 3, 3, 1]


@pytest.mark.parametrize("processes", [2, 3, 50])
def test_processes_that_share_the_work_change_nothing(processes):
    retriever = Backwards()
    assert orders(retriever, processes) == orders(Backwards(), 1)
    assert retriever.seen == []  # others did it
    assert ranking_children() == []


def test_a_retriever_of_one_piece_stays_in_one_process():
    retriever = Backwards()
    retriever.per_question = False
    orders(retriever, 4)
    assert retriever.seen == [3, 3, 3, 1]


def test_a_process_that_is_killed_is_told_in_one_line():
    last = load_parts(experiment("mode=rank", "limit=10")).asked.examples[8].id
    with pytest.raises(InputError, match=r"2 processes that rank ended .*rank_processes=1"):
        orders(Backwards(fatal=last), 2)
    assert ranking_children() == []


def test_a_large_part_is_shared_unasked(monkeypatch):
    monkeypatch.setattr("lamp_exp.experiment.ranking.QUESTIONS_PER_PROCESS", 5)
    monkeypatch.setattr("lamp_exp.experiment.ranking.cores", lambda: 2)
    shared, small = Backwards(), Backwards()
    assert orders(shared, None, questions=10) == orders(Backwards(), 1, questions=10)
    orders(small, None, questions=9)
    assert (shared.seen, small.seen) == ([], [3, 3, 3])


def test_a_process_that_may_have_no_children_ranks_by_itself():
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()

    def rank_here() -> None:
        retriever = Backwards()
        orders(retriever, 4)
        told.put(retriever.seen)

    worker = fork.Process(target=rank_here, daemon=True)
    worker.start()
    assert told.get() == [3, 3, 3, 1]
    worker.join()


class Signalled(Backwards):
    """Is sent what Slurm sends to all processes of a job."""

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        for name in ("SIGINT", "SIGTERM", "SIGCONT", "SIGUSR1", "SIGUSR2"):
            os.kill(os.getpid(), getattr(signal, name))
        return super().rank(query, documents)


def test_signals_are_left_to_the_parent():
    assert orders(Signalled(), 2) == orders(Backwards(), 1)


def test_no_more_is_made_ahead_than_is_asked_for(tmp_path: Path):
    class Told(Backwards):
        def rank_batch(self, questions):
            (tmp_path / f"{questions[0][0].id}.made").touch()
            return super().rank_batch(questions)

    p = experiment("mode=rank", "limit=90")
    ranker = Ranker(Told(), p.task, load_parts(p).asked.examples, False, 2)
    some = ranker.orders()
    next(some)
    time.sleep(0.5)
    assert len(list(tmp_path.glob("*.made"))) <= 2 * BATCHES_AHEAD < 30
    some.close()


WAITING = """
import sys, time
from tests.conftest import experiment
from tests.test_ranking import Backwards, orders

class Slow(Backwards):
    def rank(self, query, documents):
        print("ranking", flush=True)
        time.sleep(60)

orders(Slow(), 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT], [signal.SIGINT] * 2])
def test_processes_end_with_the_one_that_began_them(signals: list[int]):
    command = [sys.executable, "-c", WAITING]
    ours = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ours) as process:
        assert "ranking\n" in process.stdout
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        begun = [int(child) for child in children.split()]
        for one in signals:
            process.send_signal(one)
            time.sleep(0.03)
        process.wait(20)
    assert len(begun) == 2
    end = time.monotonic() + 20
    while any(map(alive, begun)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, begun))


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.long
@pytest.mark.parametrize("name", options("retriever"))
def test_every_retriever_ranks_alike_in_several_processes(
    name,
    encoder,  # noqa: F811
    reader,
    monkeypatch,
):
    monkeypatch.setattr(Retriever, "batch_size", 4)
    chosen = [f"retriever={name}", *dense_folder(name, encoder)]
    chosen += ["mode=rank", "split=time", "limit=9", *learning_words(name, reader)]

    def ranked(processes: int) -> list:
        return ranked_questions(*chosen, f"rank_processes={processes}", f"output_dir=o{processes}")

    assert ranked(1) == ranked(2)


def test_a_cached_ranking_of_another_profile_is_named():
    p = experiment("mode=rank", "limit=3")
    part = load_parts(p).asked

    class Cache:
        def rankings(self, key, ids, compute, take_counts):
            return [Order([0], [1.0])] * 3

    rankings = rank_part(p.retrieval.retriever, p.task, part, Cache(), {})
    with pytest.raises(InputError, match=r"cached ranking of question .* of another profile"):
        list(rankings.all_hits())
    with pytest.raises(InputError, match=r"cached ranking of question .* of another profile"):
        rankings.hits(0, part.examples[0])


def test_hits_of_a_row_are_those_of_all():
    p = experiment("mode=rank", "limit=30")
    part = load_parts(p).asked
    rankings = rank_part(p.retrieval.retriever, p.task, part, RankingCache(Path("cache")), {})
    together = [list(hits) for hits in rankings.all_hits()]
    assert [list(rankings.hits(n, e)) for n, e in enumerate(part.examples)] == together
    for example, hits in zip(part.examples, together, strict=True):
        assert {hit.id for hit in hits} == {item.id for item in example.profile}
        assert (
            rankings.hits(part.examples.column("id").index(example.id), example)[1:3] == hits[1:3]
        )
