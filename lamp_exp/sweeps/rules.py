"""Which jobs of a sweep say nothing new, and why: small rules over plain facts of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SAME = "the same run as another job"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at; `retriever`, `augmentation` and `model` are names to be told.

    `same` is equal for jobs that are one and the same run; `k` may be `tune`.
    """

    same: str
    mode: str
    split: str
    k: int | str
    retriever: str
    augmentation: str
    model: str
    uses_profile: bool
    needs_dates: bool
    many_passages: bool
    model_reads_passages: bool
    fine_tuned: bool

    @property
    def shows_items(self) -> bool:
        """Whether prompts are given items of the profile."""
        return self.uses_profile and self.k != 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A job that is not run: its place among all jobs, and why; `twin`: the job that it equals."""

    place: int
    reason: str
    twin: int | None = None


Rule = Callable[[Facts], str | None]


def undated(job: Facts) -> str | None:
    """A retriever by date has nothing to go by in the user split."""
    if job.needs_dates and job.split == "user":
        return f"retriever={job.retriever} needs dates, which the user split does not have"
    return None


def untrained_fusion(job: Facts) -> str | None:
    """Only training teaches a model to fuse passages."""
    if job.many_passages and job.mode == "zeroshot" and job.shows_items and not job.fine_tuned:
        return (
            f"augmentation={job.augmentation} needs a fine-tuned model, and mode=zeroshot asks "
            f"model={job.model}, which is no checkpoint of this project"
        )
    return None


def unread_passages(job: Facts) -> str | None:
    """Several passages apart are for encoder-decoder models."""
    runs = job.mode in ("finetune", "zeroshot")
    if runs and job.many_passages and not job.model_reads_passages:
        return (
            f"augmentation={job.augmentation} reads several passages apart, which "
            f"model={job.model} cannot"
        )
    return None


RULES: tuple[Rule, ...] = (undated, untrained_fusion, unread_passages)


def sift(jobs: Sequence[Facts]) -> tuple[list[int], list[LeftOut]]:
    """The places of the jobs to run, and the jobs left out; of jobs that are one run, the first
    stays, so that a run without a profile is never lost.
    """
    kept: list[int] = []
    left: list[LeftOut] = []
    known: dict[str, int] = {}  # what a job is: its number among those that are run
    for place, job in enumerate(jobs):
        reason = next(filter(None, (rule(job) for rule in RULES)), None)
        if reason:
            left.append(LeftOut(place, reason))
        elif job.same in known:
            twin = known[job.same]
            left.append(LeftOut(place, why_the_same(job, jobs[kept[twin]]), twin))
        else:
            known[job.same] = len(kept)
            kept.append(place)
    return kept, left


def why_the_same(job: Facts, twin: Facts) -> str:
    """Without a profile, neither retriever nor k nor augmentation matters."""
    if not job.uses_profile and job.retriever == twin.retriever and job.k != twin.k:
        return f"retriever={job.retriever} reads no profile: k={twin.k} says it all"
    return SAME


def told(left: Sequence[LeftOut]) -> list[str]:
    """One line for each reason, with the number of jobs."""
    lines = []
    for reason in dict.fromkeys(job.reason for job in left):
        jobs = [job for job in left if job.reason == reason]
        twins = sorted({job.twin for job in jobs if job.twin is not None})
        words = _the_same(twins) if reason == SAME else reason
        lines.append(f"left out {counted(len(jobs), 'job')}: {words}")
    return lines


def _the_same(twins: Sequence[int]) -> str:
    """Names the first few of the jobs that are run instead."""
    if len(twins) == 1:
        return f"the same run as job {twins[0]}"
    more = ", …" if len(twins) > 8 else ""
    return f"the same runs as jobs {', '.join(map(str, twins[:8]))}{more}"


def counted(number: int, word: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
