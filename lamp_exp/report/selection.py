"""Filters runs, groups them over seeds, names what differs between groups.

The properties are those of the table of options (`lamp_exp.options`), by their labels; any other
option is known by its dotted name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import (
    GROUPS,
    OPTIONS,
    Option,
    Usage,
    changes_numbers,
    parse_value,
    same_value,
    value_at,
)
from lamp_exp.options import Group as ComponentGroup
from lamp_exp.report.loading import Record
from lamp_exp.results.run_options import configuration_key, flat

Facet = Callable[[Record], Any]
NOWHERE = object()  # the value of an option that a record does not have
CHECKPOINT = "checkpoint"  # as mode: fine-tuned weights answered without more training
UNKNOWN = "unknown"  # what a record of imported predictions does not say

# The order of columns and titles; facets that are not named here come last.
ORDER = (
    "task", "split", "part", "mode", "model", "retriever", "k", "augmentation", "limit", "data",
    "fixes", "selection", "control", "max_items", "before", "own_items", "skip", "document_dates",
    "weights",
)  # fmt: skip
# Columns of a table wherever its runs differ in them; others only if these cannot tell runs apart.
NAMING = (*ORDER[:10], "control", "max_items", "before", "skip")
ALWAYS_NAMED = ("task", "retriever", "k")
# Names of options as reports show them, where the table of options has no label of its own.
LABELS = {"model.name": "weights"} | {option.name: option.label for option in OPTIONS.values()}


def _component_facet(group: ComponentGroup, record: Record) -> Any:
    """The name of the chosen component; `none` where no item is shown."""
    if group.applies(Usage(record.result.mode, personal=False)):
        return record.result.choices.get(group.name)
    if record.imported:
        return UNKNOWN
    return record.options.get(group.name, "none")


def _option_facet(option: Option, record: Record) -> Any:
    """The value of an option; its default where it is one of profiles, which are not read."""
    if option.name in record.options:
        return record.options[option.name]
    mode = record.result.mode
    of_profiles = option.applies(Usage(mode, True)) and not option.applies(Usage(mode, False))
    if of_profiles or option.applies(Usage("rank", personal=False)):
        return option.default
    return UNKNOWN if record.imported else None


def _weights(record: Record) -> Any:
    return flat(record.result.settings).get("model.name")


def _mode(record: Record) -> str:
    """Weights that were fine-tuned before are no zero-shot model."""
    result = record.result
    tuned = result.mode == "zeroshot" and result.model.get("fine_tuned")
    return CHECKPOINT if tuned else result.mode


def _facets() -> dict[str, Facet]:
    found: dict[str, Facet] = {
        group.name: partial(_component_facet, group)
        for group in GROUPS.values()
        if group.changes_numbers and not group.by_values
    }
    found |= {
        option.label: partial(_option_facet, option)
        for option in OPTIONS.values()
        if option.changes_numbers
    }
    found |= {
        "seed": lambda record: record.seed,
        "data": lambda record: "made-up" if record.result.made_up_data else "real",
        "weights": _weights,
        "mode": _mode,
    }
    return dict(sorted(found.items(), key=lambda item: place_in_order(item[0])))


def place_in_order(name: str) -> int:
    """Where a facet stands in titles and tables."""
    return ORDER.index(name) if name in ORDER else len(ORDER)


FACETS = _facets()


def label_of(option: str) -> str:
    """The name of an option in reports."""
    return LABELS.get(option) or option


def facet(record: Record, key: str) -> Any:
    """A property of a run: one of FACETS, or any option by its dotted name (`training.lr`).

    Options of imported predictions are unknown. Raises InputError for what is no property.
    """
    label = label_of(key)
    if label in FACETS:
        return FACETS[label](record)
    value = value_at(record.result.settings, key, missing=NOWHERE)
    if value is not NOWHERE:
        return value
    if record.imported:
        return UNKNOWN
    raise InputError(f"{key} is no property of {record.name}{_hint(key, record)}")


def _hint(key: str, record: Record) -> str:
    hint = did_you_mean(key, [*FACETS, *flat(record.result.settings)])
    return hint or f": choose of {', '.join(FACETS)}, or any option"


def select(records: Iterable[Record], conditions: Sequence[str]) -> list[Record]:
    """The runs that meet all conditions, `key=value` or `key=value,value`.

    Values are compared as values: `weight_decay=1e-4` is 0.0001, `document_dates=false` False.
    """
    chosen = list(records)
    for condition in conditions:
        key, sign, values = condition.partition("=")
        if not sign or not values:
            raise InputError(f"{condition!r} is no condition: write key=value, or key=value,value")
        wanted = values.split(",")
        chosen = [r for r in chosen if any(equals(facet(r, key), value) for value in wanted)]
    return chosen


def may_meet(folder: Path, conditions: Sequence[str]) -> bool:
    """Whether an unfinished run may meet conditions, by its configuration and its name."""
    try:
        settings = flat(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError):
        return True  # nothing says that it does not
    words = folder.name.split("-")
    names = {label_of(name): name for name in settings} | {name: name for name in settings}
    for condition in conditions:
        key, _, values = condition.partition("=")
        if key in GROUPS:
            met = any(value in words for value in values.split(","))
        elif key in names:
            met = any(equals(settings[names[key]], value) for value in values.split(","))
        else:
            met = True
        if not met:
            return False
    return True


def equals(value: Any, text: str) -> bool:
    """Whether a property has the value that is written as `text`."""
    return shown(value) == text or same_value(value, parse_value(text))


def shown(value: Any) -> str:
    """A property as a table shows it."""
    return "none" if value is None else str(value)


def order(value: Any) -> tuple[int, float, str]:
    """A sorting key: numbers by size, then words; `none` comes first, `tune` last."""
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
    def seeds(self) -> tuple[int, ...]:
        """Their seeds."""
        return tuple(record.seed for record in self.records)

    @property
    def configuration(self) -> str:
        """The configuration that they share."""
        return self.first.configuration

    def facet(self, key: str) -> Any:
        """A property that they share."""
        return facet(self.first, key)

    def values(self, metric: str) -> list[float]:
        """One value per seed."""
        return [float(record.metrics[metric]) for record in self.records]

    def mean(self, metric: str) -> float:
        """The mean over the seeds."""
        return mean(self.values(metric))

    def sd(self, metric: str) -> float | None:
        """The sample standard deviation over the seeds; None for one seed."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


def chosen_runs(group: Group) -> tuple[str, ...]:
    """The names of the runs whose answers these are: a tuned run has those of the run it chose."""
    return tuple(r.result.tuned.run if r.result.tuned else r.name for r in group.records)


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
    """The dotted names of the options in which groups differ.

    The usual properties come first, then options of components, then the others.
    """
    names = {name for group in groups for name in group.first.options}
    ordered = sorted(names, key=_rank_of_option)
    return [n for n in ordered if len({_key(group, n) for group in groups}) > 1]


def _rank_of_option(name: str) -> tuple[int, bool, str]:
    return place_in_order(label_of(name)), name.partition(".")[0] not in GROUPS, name


def telling(groups: Sequence[Group]) -> list[str]:
    """The options by which groups may be told apart: those whose effective values differ."""
    return [n for n in differing(groups) if len({shown(effective(g, n)) for g in groups}) > 1]


def effective(group: Group, name: str) -> Any:
    """The value of an option; None if it has no effect in the group."""
    return None if _without_effect(group, name) else option_of(group, name)


def _without_effect(group: Group, name: str) -> bool:
    """Whether another option takes the effect: the likelihood of labels needs no tokens written."""
    written = name == "max_new_tokens" or name.startswith("model.generation.")
    return written and option_of(group, "model.decoding") == "likelihood"


def choices_apart(one: Group, other: Group) -> list[str]:
    """The choices in which two groups differ, each with all that belongs to it.

    A component stands for its options, and the profile for all options that only matter with one.
    More than one choice means that a difference in numbers has no single cause.
    """
    names = [
        name
        for name in telling([one, other])
        if not (name.startswith("data.") or any(_without_effect(g, name) for g in (one, other)))
    ]
    if one.first.personal != other.first.personal:
        impersonal = Usage(one.first.result.mode, personal=False)
        rest = [n for n in names if n != "k" and changes_numbers(n, impersonal)]
        return ["profile", *rest]
    apart = {name for name in names if name in GROUPS}
    return [n for n in names if n.partition(".")[0] not in apart - {n} and n != "k_values"]


def _key(group: Group, name: str) -> str:
    return configuration_key({name: group.first.options.get(name)})


def option_of(group: Group, name: str) -> Any:
    """The value of an option that decides the group's numbers; None if it does not apply."""
    return group.first.options.get(name)


def hidden_differences(groups: Sequence[Group], shown_names: Iterable[str]) -> list[str]:
    """What groups also differ in, beyond the properties that a table shows, as footer lines.

    Options of a component count among groups that have chosen the same component.
    """
    names, lines = set(shown_names), []
    for name in differing(groups):
        if label_of(name) in names or name in names or name == "k_values":
            continue
        if name.startswith("data."):
            continue
        owner = name.split(".")[0]
        values: dict[str, set[str]] = {}
        for group in groups:
            if name in group.first.options:
                place = shown(group.facet(owner)) if owner in FACETS else ""
                values.setdefault(place, set()).add(shown(option_of(group, name)))
        for place, different in values.items():
            if len(different) > 1:
                whose = f"{place} " if place else ""
                lines.append(f"{whose}{name} ({', '.join(sorted(different))})")
    return lines


def naming(
    groups: Sequence[Group], without: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """How groups are told apart in one table: column names, and values by configuration.

    The columns are the usual properties in which groups differ; where these are not enough,
    further options. None of `without`, labels of properties or names of options, is used.
    """
    names = [
        name
        for name in NAMING
        if name not in without
        and (name in ALWAYS_NAMED or len({shown(group.facet(name)) for group in groups}) > 1)
    ]
    heads = {g.configuration: tuple(shown(g.facet(name)) for name in names) for g in groups}
    for name in telling(groups):
        if name in without or label_of(name) in (*names, *without):
            continue
        if len(set(heads.values())) == len(groups):
            break
        alike = [head for head, count in Counter(heads.values()).items() if count > 1]
        values = {shown(effective(g, name)) for g in groups if heads[g.configuration] in alike}
        if len(values) > 1:
            names.append(name)
            heads = {
                g.configuration: (*heads[g.configuration], shown(effective(g, name)))
                for g in groups
            }
    return tuple(names), heads


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Sorted by the usual properties."""
    return sorted(groups, key=lambda group: [order(group.facet(name)) for name in NAMING])
