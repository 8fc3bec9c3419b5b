"""Rules that decide which jobs of a sweep are redundant, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamp_exp.options import ANSWERING
from lamp_exp.wording import count_of

SAME = "the same run as another job"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the rules need to know about a job.

    `identity` is equal for jobs that are the same run; `k` may be `tune`; `retriever`,
    `augmentation` and `model` are names.
    """

    identity: str
    mode: str
    split: str
    k: int | str
    retriever: str
    augmentation: str
    model: str
    uses_profile: bool
    needs_dates: bool
    at_random: bool
    pool: str
    multiple_passages: bool
    model_takes_passages: bool
    fine_tuned: bool

    @property
    def shows_items(self) -> bool:
        """Whether prompts show items of the profile."""
        return self.uses_profile and self.k != 0


@dataclass(frozen=True, slots=True)
class Excluded:
    """A job that is not run: its index among all jobs, why, and the number of the job it equals."""

    index: int
    reason: str
    same_as: int | None = None


Rule = Callable[[JobFacts], str | None]


def needs_dates(job: JobFacts) -> str | None:
    """A retriever by date cannot rank the user split, which has no dates."""
    if job.needs_dates and job.split == "user":
        return f"retriever={job.retriever} needs dates, which the user split does not have"
    return None


def needs_chance(job: JobFacts) -> str | None:
    """The items of all users are drawn at random, so other retrievers cannot rank them."""
    if job.shows_items and job.pool == "all_users" and not job.at_random:
        return f"profile.pool={job.pool} is for retriever=random, and not for {job.retriever}"
    return None


def untrained_fusion(job: JobFacts) -> str | None:
    """Only training teaches a model to fuse passages."""
    if not job.multiple_passages or job.mode != "zeroshot" or not job.shows_items:
        return None
    if job.fine_tuned:
        return None
    return (
        f"augmentation={job.augmentation} needs a fine-tuned model, and mode=zeroshot asks "
        f"model={job.model}, which is no checkpoint of this project"
    )


def unsupported_passages(job: JobFacts) -> str | None:
    """Only encoder-decoder models read several passages."""
    if job.mode in ANSWERING and job.multiple_passages and not job.model_takes_passages:
        return (
            f"augmentation={job.augmentation} reads several passages apart, which "
            f"model={job.model} cannot"
        )
    return None


RULES: tuple[Rule, ...] = (needs_dates, needs_chance, untrained_fusion, unsupported_passages)


def select(jobs: Sequence[JobFacts]) -> tuple[list[int], list[Excluded]]:
    """The indexes of the jobs to run, and the excluded jobs.

    Of jobs that are the same run, the first one stays.
    """
    kept: list[int] = []
    excluded: list[Excluded] = []
    numbers: dict[str, int] = {}  # of the kept jobs, by identity
    for index, job in enumerate(jobs):
        reason = next(filter(None, (rule(job) for rule in RULES)), None)
        if reason:
            excluded.append(Excluded(index, reason))
        elif job.identity in numbers:
            number = numbers[job.identity]
            reason = _why_the_same(job, jobs[kept[number]])
            excluded.append(Excluded(index, reason, number))
        else:
            numbers[job.identity] = len(kept)
            kept.append(index)
    return kept, excluded


def _why_the_same(job: JobFacts, other: JobFacts) -> str:
    if not job.uses_profile and job.retriever == other.retriever and job.k != other.k:
        return f"retriever={job.retriever} reads no profile: k={other.k} says it all"
    return SAME


def describe(excluded: Sequence[Excluded]) -> list[str]:
    """One line for each reason, with the number of jobs."""
    lines = []
    for reason in dict.fromkeys(job.reason for job in excluded):
        jobs = [job for job in excluded if job.reason == reason]
        others = sorted({job.same_as for job in jobs if job.same_as is not None})
        text = _same_as(others) if reason == SAME else reason
        lines.append(f"skipped {count_of(len(jobs), 'job')}: {text}")
    return lines


def _same_as(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"the same run as job {numbers[0]}"
    more = ", …" if len(numbers) > 8 else ""
    return f"the same runs as jobs {', '.join(map(str, numbers[:8]))}{more}"
