"""Waves: which jobs may run at the same time, so that none waits for what another one makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Making(Protocol):
    """What is known of a job: see `lamp_exp.sweeps.requirements.Needs`."""

    @property
    def level(self) -> int: ...
    @property
    def makes(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class _Rest:
    level: int
    makes: frozenset[str]


def next_wave(needs: Sequence[Making]) -> list[int]:
    """The jobs, by their place, that may start now, of those that have not been started.

    Of jobs that would make the same thing, the first one makes it; of lower level come first, since
    the others may require their runs. What a waiting job makes is left to it.
    """
    wave, claimed = [], set[str]()
    for place in sorted(range(len(needs)), key=lambda place: needs[place].level):
        if not needs[place].makes & claimed:
            wave.append(place)
        claimed |= needs[place].makes
    return sorted(wave)


def all_waves(needs: Sequence[Making]) -> list[list[int]]:
    """All waves, if each job makes what is to make."""
    waves, there, waiting = [], set[str](), list(range(len(needs)))
    while waiting:
        rest = [_Rest(needs[place].level, needs[place].makes - there) for place in waiting]
        wave = [waiting[number] for number in next_wave(rest)]
        there.update(*(needs[place].makes for place in wave))
        waiting = [place for place in waiting if place not in wave]
        waves.append(wave)
    return waves
