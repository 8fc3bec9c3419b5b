"""What a run takes for each user: seconds, bytes and tokens, from its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from lamp_exp.report.selection import Group
from lamp_exp.results.record import Record

ANSWERING_STAGES = ("rank", "prompts", "predict")
SUMMARIES = "summaries"  # the kind of what is written once per user
COST_NOTES = (
    "s a user: ranking, prompts and answers, and what is learned or written for each user; s once: "
    "what is learned once for all users; both depend on the machine and on what was kept",
    "bytes a user: of what is kept of each user to answer further questions, besides the profile "
    "and texts of the prompt; tokens a user: read and written in answering, written in summaries",
)


def user_cost(group: Group, seconds: Mapping[str, float]) -> dict[str, float | None]:
    """The costs of a run by name, means over its seeds; None where its records do not say.

    `seconds` are those of `summary_seconds`.
    """
    costs = [_cost(record, seconds) for record in group.records]
    return {name: _mean([one[name] for one in costs]) for name in costs[0]}


def summary_seconds(records: Iterable[Record]) -> dict[str, float]:
    """The seconds that writing one summary took, by artefact.

    Only the runs that wrote summaries know it; others find them written.
    """
    totals: dict[str, float] = {}
    numbers: dict[str, int] = {}
    for record in records:
        for facts in _facts(record, SUMMARIES):
            if "seconds" in facts:
                name = facts["artefact"]
                totals[name] = totals.get(name, 0.0) + facts["seconds"]
                numbers[name] = max(numbers.get(name, 0), facts["summaries"])
    return {name: total / numbers[name] for name, total in totals.items() if numbers[name]}


def _facts(record: Record, kind: str) -> list[Mapping[str, Any]]:
    return [facts for facts in record.result.learned if facts.get("kind") == kind]


def _cost(record: Record, seconds: Mapping[str, float]) -> dict[str, float | None]:
    result, adapter = record.result, record.result.adapter
    users = len({*record.column("user")})
    summaries = _facts(record, SUMMARIES)
    by_user = "adapters" in adapter  # each user has one
    own = adapter.get("seconds", 0.0) if adapter.get("kept") else 0.0  # else part of answering
    answering = sum(result.seconds.get(stage, 0.0) for stage in ANSWERING_STAGES)
    writing = [seconds.get(one["artefact"]) for one in summaries]
    shared = [
        one.get("seconds")
        for one in result.learned
        if one not in summaries and not (by_user and one.get("group") == "adapter")
    ]
    tokens = [result.counts.get("prompt_tokens"), result.counts.get("output_tokens")]
    tokens += [one["tokens_written"] for one in summaries]
    learned = _sum([own / users if by_user else 0.0, *writing])
    return {
        "s a user": None if learned is None else answering / users + learned,
        "s once": _sum(shared),
        "bytes a user": adapter.get("bytes", 0) / users if by_user else 0.0,
        "tokens a user": None if (total := _sum(tokens)) is None else total / users,
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """None if one is not known."""
    known = list(values)
    return None if None in known else float(sum(value or 0.0 for value in known))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
