"""Runs the jobs of a sweep in waves: what is required first, and once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lamp_exp.progress import progress
from lamp_exp.sweeps.plan import SweepPlan
from lamp_exp.sweeps.requirements import Needs, may_share, needs_of_job
from lamp_exp.sweeps.status import REFUSED, Job, JobStatus, StatusWriter, short_name
from lamp_exp.sweeps.waves import all_waves, next_wave


@dataclass
class Schedule:
    """The jobs of a plan, of which each wave is decided when the one before has ended.

    Jobs are numbered as they start. Those that require what another job failed to make are not
    started. Without a job that learns, tunes or routes there is one wave, and nothing is read.
    """

    plan: SweepPlan
    started: list[int] = field(default_factory=list, init=False)  # places in the plan
    waiting: list[int] = field(init=False)
    blocked: dict[int, JobStatus] = field(default_factory=dict, init=False)
    in_waves: bool = field(init=False)  # whether a job may require what another one makes
    _needs: dict[int, Needs] = field(default_factory=dict, init=False)
    _failed: dict[str, tuple[str, JobStatus]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.waiting = list(range(len(self.plan.jobs)))
        shares = bool(self.plan.readers) or any(map(may_share, self.plan.configs))
        self.in_waves = shares and len(self.plan.jobs) > 1

    @property
    def numbered(self) -> SweepPlan:
        """The plan with its jobs in the order in which they start."""
        places = [*self.started, *self.waiting, *self.blocked]
        jobs = [
            replace(self.plan.jobs[place], number=number, place=place)
            for number, place in enumerate(places)
        ]
        return replace(self.plan, jobs=jobs, configs=[self.plan.configs[place] for place in places])

    def next_wave(self) -> list[Job]:
        """The jobs to start now, with their numbers; none if all have been started."""
        wave = self.waiting
        if self.in_waves and self.waiting:
            self._look()
            self._block()
            needs = [self._needs[place] for place in self.waiting]
            wave = [self.waiting[number] for number in next_wave(needs)]
        self.waiting = [place for place in self.waiting if place not in wave]
        first = len(self.started)
        self.started += wave
        return self.numbered.jobs[first : len(self.started)]

    def forecast(self) -> tuple[list[list[int]], list[Needs]]:
        """All waves, as places in the plan, and what each job needs; nothing is started."""
        self._look()
        needs = [self._needs[place] for place in range(len(self.plan.jobs))]
        return (all_waves(needs) if self.in_waves else [self.waiting]), needs

    def _look(self) -> None:
        """Finds out what the waiting jobs require, and what of it is there."""
        for place in progress(self.waiting, len(self.waiting), "look"):
            known = self._needs.get(place)
            if known is not None and known.complete:
                self._needs[place] = known.looked_at_again()
            else:
                job, composed = self.plan.jobs[place], self.plan.configs[place]
                self._needs[place] = needs_of_job(composed, job.overrides, self.plan.readers)

    def note_failures(self, jobs: Sequence[Job], statuses: Mapping[int, JobStatus]) -> None:
        """Notes what the jobs of a wave that has ended could not make."""
        if not self.in_waves:
            return
        for job in jobs:
            status, needs = statuses[job.number], self._needs[self.started[job.number]]
            if status.has_result:
                continue
            line = f"{short_name(job, self.plan.jobs)}: {status.error}"
            keys = [needs.own_key, *(one.key for one in needs.missing if one.is_begun)]
            self._failed |= {key: (line, status) for key in keys}

    def _block(self) -> None:
        for place in list(self.waiting):
            for one in self._needs[place].missing:
                if one.key in self._failed:
                    line, status = self._failed[one.key]
                    error = f"it needs {one.what}, which could not be made ({line})"
                    state = REFUSED if status.state == REFUSED else "failed"
                    words = self.plan.jobs[place].overrides
                    self.blocked[place] = JobStatus(state, words, error=error)
                    self.waiting.remove(place)
                    break

    def write_blocked(self, sweep: Path) -> None:
        """Writes the states of the jobs that were not started, in folders of their own."""
        first = len(self.started) + len(self.waiting)
        for number, status in enumerate(self.blocked.values(), first):
            writer = StatusWriter(sweep / str(number), status.overrides)
            writer.update(status.state, error=status.error)
