"""Which runs, and which of their properties: filters, groups over seeds, what tells them apart."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record

Facet = Callable[[Record], Any]
UNKNOWN = "unknown"  # what imported predictions do not tell


def _choice(group: str) -> Facet:
    return lambda record: record.result["choices"].get(group)


def _used(group: str) -> Facet:
    """A choice that says nothing where no item is shown."""

    def used(record: Record) -> Any:
        if record.imported:
            return UNKNOWN
        return record.result["choices"].get(group) if record.result["k"] else "none"

    return used


def _k(record: Record) -> Any:
    if record.imported:
        return UNKNOWN
    return "tune" if "tuned" in record.result else record.result["k"]


def _profile(option: str, usual: Any = None) -> Facet:
    """Profiles other than the benchmark's say nothing where no item is shown."""
    return lambda record: record.result["profile"][option] if record.result["k"] else usual


FACETS: dict[str, Facet] = {
    "task": lambda record: record.task,
    "split": lambda record: record.result["split"],
    "part": lambda record: record.result["part"],
    "mode": lambda record: record.result["mode"],
    "retriever": _used("retriever"),
    "k": _k,
    "augmentation": _used("augmentation"),
    "model": _choice("model"),
    "seed": lambda record: record.seed,
    "limit": lambda record: record.result["settings"].get("limit"),
    "data": lambda record: "made-up" if record.result["made_up_data"] else "real",
    "fixes": lambda record: record.result["fixes"],
    "selection": lambda record: record.result["selection"],
    "control": _profile("control", "none"),
    "max_items": _profile("max_items"),
    "before": _profile("before"),
    "own_items": _profile("own_items", "keep"),
    "skip": lambda record: record.identity.get("skip", 0),
    "document_dates": lambda record: bool(record.identity.get("document_dates")),
    "weights": lambda record: record.result["settings"].get("model", {}).get("name"),
}


def facet(record: Record, key: str) -> Any:
    """A property of a run: one of FACETS, or any option by its dotted name (`training.lr`).

    Options of imported predictions are unknown.
    """
    if key in FACETS:
        return FACETS[key](record)
    value: Any = record.result["settings"]
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            if record.imported:
                return UNKNOWN
            known = [*FACETS, *flat(record.result["settings"])]
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f": did you mean {near[0]}?"
                if near
                else f": choose of {', '.join(FACETS)}, or any option"
            )
            raise InputError(f"{key} is no property of {record.name}{hint}")
        value = value[part]
    return value


def select(records: Iterable[Record], conditions: Sequence[str]) -> list[Record]:
    """Those that meet all conditions, `key=value` or `key=value,value`."""
    chosen = list(records)
    for condition in conditions:
        key, sign, values = condition.partition("=")
        if not sign or not values:
            raise InputError(f"{condition!r} is no condition: write key=value, or key=value,value")
        wanted = {"none" if value == "null" else value for value in values.split(",")}
        chosen = [record for record in chosen if shown(facet(record, key)) in wanted]
    return chosen


def shown(value: Any) -> str:
    """A property as a table shows it, and as a condition names it."""
    return "none" if value is None else str(value)


def order(value: Any) -> tuple[int, float, str]:
    """Sorts numbers by size, and words after them; `none` comes first, `tune` last."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 1, float(value), ""
    return (0 if value in (None, "none") else 2), 0.0, str(value)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, in the order of their seeds."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """One of them, for all that they share."""
        return self.records[0]

    @property
    def configuration(self) -> str:
        """What they are."""
        return self.first.configuration

    def facet(self, key: str) -> Any:
        """A property that they share."""
        return facet(self.first, key)

    def values(self, metric: str) -> list[float]:
        """One value for each seed."""
        return [float(record.metrics[metric]) for record in self.records]

    def mean(self, metric: str) -> float:
        """Over the seeds."""
        return mean(self.values(metric))

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


def same_answers(group: Group) -> tuple[str, ...]:
    """Names that a tuned run shares with the runs that it chose."""
    return tuple(str(r.result.get("tuned", {}).get("run", r.name)) for r in group.records)


def grouped(records: Iterable[Record]) -> dict[str, Group]:
    """Groups over seeds, by their configuration."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record.configuration, {}).setdefault(record.seed, record)
    return {
        configuration: Group(tuple(seeds[seed] for seed in sorted(seeds)))
        for configuration, seeds in found.items()
    }


def differing(groups: Sequence[Group]) -> list[str]:
    """The dotted names of the parts of their identities in which groups differ."""
    parts = [flat(group.first.identity) for group in groups]
    names = sorted({name for one in parts for name in one})
    return [name for name in names if len({repr(one.get(name)) for one in parts}) > 1]


def part_of_identity(group: Group, name: str) -> Any:
    """The value of one of those."""
    return flat(group.first.identity).get(name)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    if isinstance(value, Mapping):
        inner = [flat(v, f"{prefix}.{key}" if prefix else key) for key, v in value.items()]
        return {name: v for one in inner for name, v in one.items()}
    return {prefix: value}


# Parts of an identity that one of those properties tells.
TOLD = {
    "k": "k", "split": "split", "part": "part", "mode": "mode", "limit": "limit", "fixes": "fixes",
    "selection": "selection", "skip": "skip", "document_dates": "document_dates",
    "profile.control": "control", "profile.max_items": "max_items", "profile.before": "before",
    "profile.own_items": "own_items", "model.name": "weights", "task._target_": "task",
    "retriever._target_": "retriever", "augmentation._target_": "augmentation",
    "model._target_": "model",
}  # fmt: skip


def untold(groups: Sequence[Group], shown_names: Iterable[str]) -> list[str]:
    """In what groups also differ, which no shown property tells, as lines for a footer.

    Options of a component count among groups that have chosen the same one.
    """
    names, lines = set(shown_names), []
    parts = {group.configuration: flat(group.first.identity) for group in groups}
    for name in differing(groups):
        if TOLD.get(name, name) in names or name in names or name.startswith(("data.", "k.")):
            continue
        owner = name.split(".")[0]
        values: dict[str, set[str]] = {}
        for group in groups:
            if name in parts[group.configuration]:
                place = shown(group.facet(owner)) if owner in FACETS else ""
                values.setdefault(place, set()).add(shown(parts[group.configuration][name]))
        for place, different in values.items():
            if len(different) > 1:
                whose = f"{place} " if place else ""
                lines.append(f"{whose}{name} ({', '.join(sorted(different))})")
    return lines


NAMES = (
    "task", "split", "part", "mode", "model", "retriever", "k", "augmentation", "limit", "data",
    "control", "max_items", "before", "skip",
)  # fmt: skip
ALWAYS = {"task", "retriever", "k"}


def naming(
    groups: Sequence[Group], without: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """How groups are told apart in one table: the properties, and their values by configuration.

    Those that differ and the usual ones; where these do not suffice, parts of their identities.
    None of `without`, properties or parts.
    """
    names = [
        name
        for name in NAMES
        if name not in without
        and (name in ALWAYS or len({shown(group.facet(name)) for group in groups}) > 1)
    ]
    heads = {g.configuration: tuple(shown(g.facet(name)) for name in names) for g in groups}
    for name in differing(groups):
        if name in without or TOLD.get(name) in names:
            continue
        if len(set(heads.values())) == len(groups):
            break
        alike = [head for head, count in Counter(heads.values()).items() if count > 1]
        values = {shown(part_of_identity(g, name)) for g in groups
                  if heads[g.configuration] in alike}  # fmt: skip
        if len(values) > 1:
            names.append(name)
            heads = {
                g.configuration: (*heads[g.configuration], shown(part_of_identity(g, name)))
                for g in groups
            }
    return tuple(names), heads


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Sorted by the usual properties."""
    return sorted(groups, key=lambda group: [order(group.facet(name)) for name in NAMES])
