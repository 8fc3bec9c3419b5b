"""Options of components in a sweep over several components of one group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lamp_exp.options import GROUPS

HasOption = Callable[[str, str, str], bool]  # of a group's component by its name


def keep_own_options(
    jobs: Sequence[Sequence[str]], defaults: Mapping[str, str], has_option: HasOption
) -> list[list[str]]:
    """The overrides of each job, without options of components that only other jobs choose.

    `defaults` are the components of jobs that name none. An option that no component of these jobs
    has stays in all of them: it is refused when it is composed.
    """
    choices = [{**defaults, **_values(job)} for job in jobs]
    options = dict.fromkeys(key for job in jobs for key in _values(job))
    owners = {}
    for key in options:
        group, _, option = key.partition(".")
        chosen = {choice[group] for choice in choices} if option and group in GROUPS else set()
        if len(chosen) > 1:
            owners[key] = {name for name in chosen if has_option(group, name, option)}
    return [
        [word for word in job if _belongs(word, choice, owners)]
        for job, choice in zip(jobs, choices, strict=True)
    ]


def _values(job: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in job if "=" in word)


def _belongs(word: str, choice: Mapping[str, str], owners: Mapping[str, set[str]]) -> bool:
    key = word.partition("=")[0]
    return not owners.get(key) or choice[key.partition(".")[0]] in owners[key]
