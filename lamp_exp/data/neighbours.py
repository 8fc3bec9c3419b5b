"""Finds the users whose profiles are most similar to a question's: profile.pool=neighbours.

The vector of a profile is the mean of the vectors of its items' documents (the task's, without
dates), without items that are the question's own. Two profiles are as similar as the cosine of
their vectors; equal ones are ordered by user. A user with several questions in the part is
represented by the largest of their profiles, the first of equal ones; a question's own profile is
compared with those. Profiles without a vector (no items, or a mean of zeros) have no neighbours
and are nobody's. The search is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamp_exp.contracts import DenseRetriever, Task
from lamp_exp.data.store import Profiles, Store
from lamp_exp.progress import progress
from lamp_exp.storage.neighbours import Neighbourhood, NeighbourTable, neighbour_table, stored_table

ITEMS_PER_BLOCK = 16_384  # that are encoded together
QUESTIONS_PER_BLOCK = 1000  # whose similarities are held in memory together
MORE = 8  # users that are looked at beyond those that are wanted
ROUNDING = 1e-5  # more than the difference of a cosine in 32 and in 64 bits

Vectors = NDArray[np.float32]
Mask = Callable[[Sequence[int], Profiles], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class NeighbourSource:
    """What decides neighbours besides the data: an encoder, and the code behind documents and
    vectors; `folder` is where they are kept.
    """

    encoder: DenseRetriever
    code: str
    folder: Path


@dataclass(frozen=True)
class Neighbours:
    """The `count` most similar users of each question of a store, found when first asked for.

    `own` marks the items that are questions' own, `telling` those that hold a question's own text
    or gold. `reading` names what `own` depends on besides the data, as JSON.
    """

    task: Task
    store: Store
    count: int
    source: NeighbourSource
    own: Mask
    telling: Mask
    reading: str

    @cached_property
    def table(self) -> NeighbourTable:
        """The neighbours, read from the cache or found now."""
        where = (self.source.folder, self._key, self._ids)
        return neighbour_table(*where, self._find, self.source.encoder.take_counts)

    @property
    def is_loaded(self) -> bool:
        """Whether `table` has been asked for."""
        return "table" in vars(self)

    @property
    def are_found(self) -> bool:
        """Whether they are in the cache; none is looked for."""
        return stored_table(self.source.folder, self._key, self._ids) is not None

    @property
    def _key(self) -> dict[str, Any]:
        return {
            "task_name": self.task.name,
            "data": self.store.meta["fingerprint"],
            "reading": self.reading,
            "count": self.count,
            "encoder": dict(self.source.encoder.encoder_key()),
            "code": self.source.code,
        }

    @property
    def _ids(self) -> list[str]:
        return self.store.column("id", range(len(self.store)))

    def item_numbers(self, row: int) -> NDArray[np.int64]:
        """The numbers of the items of a question's neighbours, the most similar user's first."""
        return self._numbers(self.table[row].neighbours)

    def _numbers(self, rows: Sequence[int]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *map(self.store.item_numbers, rows)])

    def _find(self) -> Iterator[Neighbourhood]:
        """The neighbourhoods of all questions, in order."""
        self.source.encoder.take_counts()  # of another part
        vectors, known = self._vectors()
        rows = representatives(self.store.users, np.diff(self.store.item_ends, prepend=0))
        rows = [row for row in rows if known[row]]
        own = {self.store.users[row]: number for number, row in enumerate(rows)}
        numbers = np.array([own.get(user, -1) for user in self.store.users])
        found = most_similar(vectors[known], vectors[rows], numbers[known], self.count)
        for row in progress(range(len(self.store)), len(self.store), "neighbours"):
            neighbours = [rows[user] for user in next(found)] if known[row] else []
            items = self._numbers(neighbours)
            profiles, _ = self.store.picked_items([items])
            yield Neighbourhood(neighbours, np.flatnonzero(self.telling([row], profiles)).tolist())

    def _vectors(self) -> tuple[Vectors, NDArray[np.bool_]]:
        """The mean vector of each profile (questions, dimensions), of length 1; and which exist."""
        means: list[NDArray[np.float64]] = []
        for rows in self._blocks():
            profiles = self.store.profiles(rows)
            shown = ~self.own(rows, profiles)
            kept = profiles.keep(shown)
            texts = list(map(self.task.document, self.store.profile_items(kept)))
            vectors = self.source.encoder.encode(texts)
            means += [part.mean(axis=0, dtype=np.float64) if len(part) else np.zeros(0)
                      for part in np.split(vectors, np.cumsum(kept.lengths)[:-1])]  # fmt: skip
        width = max(map(len, means), default=0)
        matrix = np.stack([mean if len(mean) else np.zeros(width) for mean in means])
        lengths = np.linalg.norm(matrix, axis=1)
        known = np.isfinite(lengths) & (lengths > 0)
        matrix[known] /= lengths[known, None]
        matrix[~known] = 0
        return matrix.astype(np.float32), known

    def _blocks(self) -> Iterator[Sequence[int]]:
        """The questions in order, in blocks of about as many items."""
        numbers = self.store.item_ends // ITEMS_PER_BLOCK
        places = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(self.store)]
        blocks = [range(*pair) for pair in pairwise(places)]
        return iter(progress(blocks, len(blocks), "profiles"))


def representatives(users: Sequence[str], sizes: NDArray[np.int64]) -> list[int]:
    """The question with the most items of each user, the first of equal ones; ordered by user."""
    best: dict[str, int] = {}
    for row, (user, size) in enumerate(zip(users, sizes.tolist(), strict=True)):
        if user not in best or size > sizes[best[user]]:
            best[user] = row
    return [best[user] for user in sorted(best)]


def most_similar(
    queries: Vectors, users: Vectors, own: NDArray[np.int64], count: int
) -> Iterator[NDArray[np.int64]]:
    """The numbers of the `count` users that are most similar to each query, best first.

    `queries` (queries, dimensions) and `users` (users, dimensions) have vectors of length 1, or
    zeros; `own` has for each query the number of its own user, who is left out (-1: none). Equal
    similarities are ordered by number. As faiss computes in 32 bits and cuts equal ones by chance,
    it only proposes users: similarities are computed in 64 bits, and more users are looked at
    until no other could be among the best.
    """
    for start in range(0, len(queries), QUESTIONS_PER_BLOCK):
        block = slice(start, start + QUESTIONS_PER_BLOCK)
        found = dict[int, NDArray[np.int64]]()
        waiting, asked = np.arange(len(queries))[block], count + 1 + MORE
        while len(waiting):
            asked = min(asked, len(users))
            scores, proposed = _proposed(queries[waiting], users, asked)
            for query, lowest, numbers in zip(waiting.tolist(), scores, proposed, strict=True):
                best, worst = _best(queries[query], users, numbers, own[query], count)
                if asked == len(users) or lowest < worst - ROUNDING:
                    found[query] = best
            waiting, asked = np.array([q for q in waiting.tolist() if q not in found]), 2 * asked
        yield from (found[query] for query in sorted(found))


def _proposed(
    queries: Vectors, users: Vectors, count: int
) -> tuple[list[float], NDArray[np.int64]]:
    """About the `count` best users of each query, and the lowest similarity among them."""
    if not len(users):
        return [0.0] * len(queries), np.zeros((len(queries), 0), np.int64)
    import faiss  # here, so that other pools do not load it

    scores, numbers = faiss.knn(queries, users, count, metric=faiss.METRIC_INNER_PRODUCT)
    return scores.min(axis=1).tolist(), numbers


def _best(
    query: Vectors, users: Vectors, numbers: NDArray[np.int64], own: int, count: int
) -> tuple[NDArray[np.int64], float]:
    """The best users among `numbers` without `own`, and the similarity of the last of them."""
    numbers = np.sort(numbers[numbers != own])
    scores = (users[numbers].astype(np.float64) * query).sum(axis=1)
    best = np.argsort(-scores, kind="stable")[:count]
    return numbers[best], float(scores[best[-1]]) if len(best) else -np.inf
