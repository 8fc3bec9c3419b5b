"""Filters runs, groups them over seeds, names what differs between groups.

The properties of runs are those of the table of options (`lamp_exp.options`), by their labels; any
other option is known by its dotted name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import mean, stdev
from typing import Any

import pandas as pd
import yaml

from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import (
    DETAIL,
    GROUPS,
    METHOD,
    NAME_ORDER,
    OPTIONS,
    QUESTIONS,
    VARIANT,
    Usage,
    changes_numbers,
    only_personal,
    parse_value,
    same_value,
    value_at,
)
from lamp_exp.results.record import Record
from lamp_exp.results.run_options import configuration_key, flat, model_name

CONTROL = {"profile.control": "shuffled_user"}
LEARNED_FROM = "train"  # the part
UNKNOWN = "unknown"  # what a record of imported predictions does not say
CHECKPOINT = "checkpoint"  # as mode: fine-tuned weights answered without more training
DATA, WEIGHTS = "data", "weights"  # properties that are no option
LABELS = {"model.name": WEIGHTS} | {option.name: option.label for option in OPTIONS.values()}
_NAMES = {option.label: option.name for option in OPTIONS.values()}
_ROLES = (
    {group.name: group.role for group in GROUPS.values()
     if group.changes_numbers and not group.by_values}
    | {DATA: QUESTIONS}
    | {o.label: DETAIL if o.name.startswith("training.") else o.role
       for o in OPTIONS.values() if o.changes_numbers}
    | {WEIGHTS: ""}
)  # fmt: skip
FACETS = tuple(dict.fromkeys(["task", DATA, *NAME_ORDER, *_ROLES]))
METHODS = tuple(name for name in FACETS if _ROLES[name] == METHOD)
VARIANTS = tuple(name for name in FACETS if _ROLES[name] == VARIANT)
SAME_QUESTIONS = tuple(name for name in FACETS if _ROLES[name] == QUESTIONS)
# Runs that differ in these stand in different tables, unless it is a row or column.
SEPARATE = tuple(name for name in FACETS if _ROLES[name] not in (METHOD, VARIANT, DETAIL))
# Columns of a table wherever its runs differ in them; others only if these cannot tell runs apart.
_UNNAMED = {o.name for o in OPTIONS.values() if not (o.run_name or o.column)} | {WEIGHTS}
NAMING = tuple(
    n
    for n in FACETS
    if (n not in _UNNAMED and n in SEPARATE) or n in METHODS + VARIANTS + SAME_QUESTIONS
)
# Settings that change a run without a profile, too: runs that share them have one baseline.
SAME_BASELINE = tuple(
    n
    for n in SEPARATE
    if n in (DATA, WEIGHTS) or changes_numbers(_NAMES.get(n, n), Usage.baseline("finetune"))
)
DATA_VERSION = "questions"  # set where runs of one task and part answered different ones
# What every title names, by its value alone; other properties only if they are not usual.
IN_TITLES = {*GROUPS, DATA, *(o.name for o in OPTIONS.values() if o.always_named)}


def facet(record: Record, key: str) -> Any:
    """A property of a run: one of FACETS, or any option by its dotted name (`training.lr`).

    A component that is not used is `none`, and so is an option that the run's component does not
    have (see `check_properties`). An option of profiles that are not read has its default. Options
    of imported predictions are unknown. Raises InputError for what is no property.
    """
    result, name = record.result, _NAMES.get(key, key)
    unknown = UNKNOWN if record.imported else None
    if key == DATA:
        return "made-up" if result.made_up_data else "real"
    if key == WEIGHTS:
        return model_name(result)
    if key == "mode" and result.mode == "zeroshot" and result.model.get("fine_tuned"):
        return CHECKPOINT
    if key == "seed" or name in record.options:
        return record.seed if key == "seed" else record.options[name]
    if name in GROUPS:
        return unknown or "none"
    if name in OPTIONS:
        applies = OPTIONS[name].applies
        of_profiles = only_personal(OPTIONS[name], result.mode)
        always = applies(Usage.baseline("rank"))
        return OPTIONS[name].default if of_profiles or always else unknown
    value = value_at(result.settings, key, missing=UNKNOWN)
    if value != UNKNOWN or record.imported:
        return value
    if _of_component(name):
        return "none"
    hint = did_you_mean(key, [*FACETS, *flat(result.settings)])
    hint = hint or f": choose of {', '.join(FACETS)}, or any option"
    raise InputError(f"{key} is no property of {record.name}{hint}")


def _of_component(name: str) -> bool:
    group, dot, _ = name.partition(".")
    return bool(dot) and group in GROUPS


def check_properties(records: Sequence[Record], keys: Iterable[str]) -> None:
    """Raises InputError for an option of a component that no run has, which may be misspelt."""
    for key in keys:
        name = _NAMES.get(key, key)
        if not _of_component(name) or not records:
            continue
        known = {option for record in records for option in flat(record.result.settings)}
        if not any(option == name or option.startswith(f"{name}.") for option in known):
            group = name.partition(".")[0]
            near = did_you_mean(name, [option for option in known if option.startswith(group)])
            raise InputError(f"{key} is no property of any of these runs{near}")


def conditions_of(texts: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Conditions `key=value` or `key=value,value`: the key and the values."""
    found = []
    for text in texts:
        key, sign, values = text.partition("=")
        if not sign or not values:
            raise InputError(f"{text!r} is no condition: write key=value, or key=value,value")
        found.append((key, values.split(",")))
    return found


def select(records: Iterable[Record], conditions: Sequence[str]) -> list[Record]:
    """The runs that meet all conditions, `key=value` or `key=value,value`.

    Values are compared as values: `weight_decay=1e-4` is 0.0001, `document_dates=false` False.
    """
    chosen, wanted = list(records), conditions_of(conditions)
    check_properties(chosen, (key for key, _ in wanted))
    for key, values in wanted:
        chosen = [r for r in chosen if any(equals(facet(r, key), value) for value in values)]
    return chosen


def may_meet(folder: Path, conditions: Sequence[str]) -> bool:
    """Whether an unfinished run may meet conditions, by its configuration and its name."""
    try:
        settings = flat(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError):
        return True  # nothing says that it does not
    known = settings | {LABELS.get(name, name): value for name, value in settings.items()}
    words = folder.name.split("-")
    for key, values in conditions_of(conditions):
        if key in GROUPS and not any(value in words for value in values):
            return False
        if key in known and not any(equals(known[key], value) for value in values):
            return False
    return True


def equals(value: Any, text: str) -> bool:
    """Whether a property has the value that is written as `text`."""
    return shown(value) == text or same_value(value, parse_value(text))


def shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return PurePath(text).name if text.startswith(("/", "~", "./", "../")) else text


def order(value: Any) -> tuple[int, float, str]:
    """A sorting key: numbers by size, then words; `none` comes first, `tune` last."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 1, float(value), ""
    return (0 if value in (None, "none") else 2), 0.0, str(value)


# --- groups over seeds -------------------------------------------------------------------------


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
        return tuple(record.seed for record in self.records)

    @property
    def configuration(self) -> str:
        return self.first.configuration

    def of_seeds(self, seeds: Collection[int]) -> Group:
        return Group(tuple(record for record in self.records if record.seed in seeds))

    def facet(self, key: str) -> Any:
        return facet(self.first, key)

    def shown(self, key: str) -> str:
        return shown(self.facet(key))

    def place(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self.shown, keys))

    def option(self, name: str) -> Any:
        """The value of an option by its dotted name; None if it does not apply."""
        return self.first.options.get(name)

    def without_effect(self, name: str) -> bool:
        """Whether an option has none, as with the likelihood of labels no tokens are written."""
        written = name == "max_new_tokens" or name.startswith("model.generation.")
        return written and self.option("model.decoding") == "likelihood"

    def effective(self, names: Iterable[str]) -> tuple[str, ...]:
        """The values of options as a table shows them; `none` of one without effect."""
        return tuple("none" if self.without_effect(n) else shown(self.option(n)) for n in names)

    def mean(self, metric: str) -> float:
        return mean(float(record.metrics[metric]) for record in self.records)

    def sd(self, metric: str) -> float | None:
        """The sample standard deviation over the seeds; None for one seed."""
        values = [float(record.metrics[metric]) for record in self.records]
        return stdev(values) if len(values) > 1 else None


def reported(groups: Sequence[Group]) -> list[Group]:
    """Without runs on train, from which others learn, of tasks that have runs on other parts."""
    tasks = {group.first.task for group in groups if group.shown("part") != LEARNED_FROM}
    return [
        group
        for group in groups
        if group.shown("part") != LEARNED_FROM or group.first.task not in tasks
    ]


def reported_personal(groups: Iterable[Group]) -> list[Group]:
    """The groups with a personal part that are `reported`."""
    return reported([group for group in groups if group.first.personal])


def grouped(records: Iterable[Record]) -> dict[str, Group]:
    """Groups over seeds, by their configuration, sorted by the usual properties."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record.configuration, {}).setdefault(record.seed, record)
    groups = [Group(tuple(seeds[seed] for seed in sorted(seeds))) for seeds in found.values()]
    groups.sort(key=lambda group: [order(group.facet(name)) for name in NAMING])
    return {group.configuration: group for group in groups}


def alike_but_for(name: str, records: Iterable[Record]) -> list[list[Group]]:
    """Sets of several runs that read profiles and differ only in one option or component."""
    found: dict[str, list[Group]] = {}
    for group in grouped(records).values():
        if group.first.personal:
            found.setdefault(group.first.configuration_without(name), []).append(group)
    return [groups for groups in found.values() if len(groups) > 1]


def chosen_runs(group: Group) -> tuple[str, ...]:
    """The names of the runs whose answers these are: a tuned run has those of the run it chose."""
    return tuple(r.result.tuned.run if r.result.tuned else r.name for r in group.records)


def aside(group: Group) -> str:
    """Why a run is no system that could be the best; `""` if it is one.

    A `bound` reads the golds of the questions that it answers. A `control` has the profiles of
    other users, and shows what a profile brings by being any.
    """
    if any(record.result.bound for record in group.records):
        return "bound"
    control = any(group.option(name) == value for name, value in CONTROL.items())
    return "control" if control else ""


def method_words(group: Group, augmentation: bool = False) -> list[str]:
    """The components in use, k aside; a router stands for those of its candidates.

    With `augmentation`, it is among them where items are shown.
    """
    if group.first.result.routing is not None:
        router = group.shown("router")
        return [f"{router} router" if aside(group) else router]
    names = ("retriever", "pool", "augmentation", "summary", "adapter")
    retriever, pool, shown_by, summary, adapter = group.place(names)
    words = [] if retriever == "none" else [retriever]
    words += [f"of {pool}"] if words and pool != "own" else []
    words += [shown_by] if augmentation and shown_by != "none" else []
    words += [] if summary == "none" else [f"summary {summary}"]
    return words + ([] if adapter == "none" else [adapter])


# --- sets that may stand side by side ----------------------------------------------------------


def properties(groups: Sequence[Group]) -> pd.DataFrame:
    """A row for each group: its properties as tables show them, and the version of its questions.

    The version is `none` for the usual questions of a task and part.
    """
    frame = pd.DataFrame([g.place(FACETS) for g in groups], pd.Index(groups), FACETS, dtype=object)
    versions = pd.Series([g.first.comparable_key[1] for g in groups], frame.index)
    parts = [frame[name] for name in ("task", "split", "part")]
    usual = versions.groupby(parts).transform(lambda own: own.value_counts().idxmax())
    return frame.assign(**{DATA_VERSION: versions.where(versions != usual, "none")})


def comparable_sets(
    groups: Sequence[Group], keys: Sequence[str]
) -> list[tuple[dict[str, str], list[Group]]]:
    """Groups that share these properties and the version of their questions, with what they share.

    Sets are in the order of their properties.
    """
    names = [*keys, DATA_VERSION]
    sets = properties(groups).groupby(names, sort=False).groups
    return [
        (dict(zip(names, place, strict=True)), list(sets[place]))
        for place in sorted(sets, key=lambda place: list(map(order, place)))
    ]


def by_model_options(
    shared: dict[str, str], groups: Sequence[Group]
) -> list[tuple[dict[str, str], list[str], list[Group]]]:
    """The groups by options of the model in which they differ, such as how answers are decoded."""
    names = [name for name in telling(groups) if name.startswith("model.")]
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        found.setdefault(group.effective(names), []).append(group)
    return [
        (shared, [f"{n.removeprefix('model.')}={v}" for n, v in zip(names, key, strict=True)], own)
        for key, own in found.items()
    ]


def same_questions(group: Group) -> tuple[str, ...]:
    """Equal for groups that answered the same questions."""
    return (*group.first.comparable_key, *group.place(SAME_QUESTIONS))


def shared_words(shared: Mapping[str, str]) -> str:
    """The properties that runs share, without those at their default."""
    words = []
    for name, value in shared.items():
        model = shared.get("model", "").replace("_", "-")
        own_weights = name == WEIGHTS and value.rpartition("/")[2] in (model, "random")
        option = OPTIONS.get(_NAMES.get(name, ""))
        usual = option and name not in IN_TITLES and value == shown(option.default)
        if value == "none" or own_weights or usual:
            continue
        text = f"{value} split" if name == "split" else f"{name}={value}"
        words.append(value if name in IN_TITLES - {"split"} else text)
    return ", ".join(words)


# --- what differs ------------------------------------------------------------------------------


def differing(groups: Sequence[Group]) -> list[str]:
    """The dotted names of the options in which groups differ.

    The usual properties come first, then options of components, then the others.
    """

    def rank(name: str) -> tuple[int, bool, str]:
        label = LABELS.get(name, name)
        place = NAMING.index(label) if label in NAMING else len(NAMING)
        return place, name.partition(".")[0] not in GROUPS, name

    keys = [group.first.option_keys for group in groups]
    names = {name for known in keys for name in known}
    apart = [n for n in names if len({k.get(n) or configuration_key({n: None}) for k in keys}) > 1]
    return sorted(apart, key=rank)


def telling(groups: Sequence[Group], places: Sequence[tuple[str, ...]] = ()) -> list[str]:
    """The options by which groups may be told apart: those whose effective values differ.

    With `places`, one a group, only those that are needed to tell groups of one place apart.
    """
    chosen: list[str] = []
    for name in differing(groups):
        values: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for group, place in zip(groups, places or [()] * len(groups), strict=True):
            key = (*place, *group.effective(chosen)) if places else ()
            values.setdefault(key, set()).add(group.effective([name]))
        chosen += [name] if any(len(different) > 1 for different in values.values()) else []
    return chosen


def choices_apart(one: Group, other: Group) -> list[str]:
    """The choices in which two groups differ, each with all that belongs to it.

    A component stands for its options, and the profile for all options that only matter with one.
    More than one choice means that a difference in numbers has no single cause.
    """
    names = [
        name
        for name in telling([one, other])
        if not (name.startswith("data.") or any(g.without_effect(name) for g in (one, other)))
    ]
    if one.first.reads_profile != other.first.reads_profile:
        impersonal = Usage.baseline(one.first.result.mode)
        rest = [n for n in names if n != "k" and changes_numbers(n, impersonal)]
        return ["profile", *rest]
    apart = {name for name in names if name in GROUPS}
    return [n for n in names if n.partition(".")[0] not in apart - {n} and n != "k_values"]


def hidden_differences(groups: Sequence[Group], shown_names: Iterable[str]) -> list[str]:
    """What groups also differ in, beyond the properties that a table shows, as footer lines.

    Options of a component count among groups that have chosen the same component.
    """
    names, lines = {*shown_names, "k_values"}, []
    for name in differing(groups):
        if {LABELS.get(name, name), name} & names or name.startswith("data."):
            continue
        owner = name.split(".")[0]
        values: dict[str, set[str]] = {}
        for group in groups:
            if name in group.first.options:
                place = f"{group.shown(owner)} " if owner in FACETS else ""
                values.setdefault(place, set()).add(shown(group.option(name)))
        lines += [
            f"{place}{name} ({', '.join(sorted(different))})"
            for place, different in values.items()
            if len(different) > 1
        ]
    return lines


def _is_usual(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column is always shown: a method, unless it may be none and all groups use none."""
    optional = name in GROUPS and GROUPS[name].default == "none"
    return name in METHODS and not (optional and (frame[name] == "none").all())


def naming(
    groups: Sequence[Group], without: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """How groups are told apart in one table: column names, and values by configuration.

    The columns are the methods in use and the usual properties in which groups differ; where these
    are not enough, the model's name and further options. None of `without`, labels of properties or
    names of options, is used.
    """
    frame = properties(groups)
    names = [
        name
        for name in NAMING
        if name not in without and (_is_usual(name, frame) or frame[name].nunique() > 1)
    ]
    if len(frame.value_counts([*names, WEIGHTS])) > len(frame.value_counts(names)):
        names.append(WEIGHTS)
    further = telling(groups, list(frame[names].itertuples(index=False, name=None)))
    further = [n for n in further if not {n, LABELS.get(n, n)} & {*names, *without}]
    heads = {g.configuration: (*g.place(names), *g.effective(further)) for g in groups}
    return (*names, *further), heads
