"""Panels: runs of one task that may stand in one plot or column, and the look of each method.

Runs share a panel if they answered the same questions with the same model, read in the same way.
What only matters with a profile (the retriever, the items shown, parts of the profile) makes
methods within a panel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report import selection
from lamp_exp.report.colours import SERIES
from lamp_exp.report.paired_examples import on_common_seeds, pooled
from lamp_exp.report.personal import gains
from lamp_exp.report.selection import (
    DATA,
    DATA_VERSION,
    LABELS,
    SAME_BASELINE,
    Group,
    aside,
    by_model_options,
    grouped,
    method_words,
    order,
    shared_words,
    shown,
    telling,
)
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval, holm, interval
from lamp_exp.statistics.paired import SIGNIFICANT


@dataclass(frozen=True, slots=True)
class Method:
    """How items are chosen and shown, whatever k; its colour and line on the whole page.

    `aside` says why it is no system that could be the best, see `aside`.
    """

    label: str
    style: int = 0
    dashed: bool = False
    aside: str = ""


NO_PROFILE = Method("no profile", SERIES - 1)


@dataclass(frozen=True, eq=False)
class Panel:
    """Runs of a task that read profiles, in one setting, and their baseline if they share it.

    All are on the seeds that all of them have, if there are any. `setting` says what tells it from
    other panels, `shared` what all panels of the page share. `baselines` are by configuration.
    """

    task: str
    setting: str
    shared: str
    groups: tuple[Group, ...]
    baselines: Mapping[str, Group]
    methods: Mapping[str, Method]  # by configuration

    @property
    def words(self) -> str:
        return ", ".join(filter(None, (self.task, self.setting)))

    @property
    def metric(self) -> str:
        return self.groups[0].first.main_metric

    @property
    def higher(self) -> bool:
        return self.groups[0].first.higher_is_better(self.metric)

    @property
    def made_up(self) -> bool:
        return self.groups[0].first.result.made_up_data

    @property
    def baseline(self) -> Group | None:
        """The same run without a profile, if there is one of them."""
        return next(iter(self.baselines.values())) if len(self.baselines) == 1 else None

    def value(self, group: Group) -> float:
        """The main metric, the mean over seeds."""
        return group.mean(self.metric)

    def method(self, group: Group) -> Method:
        return self.methods.get(group.configuration, NO_PROFILE)

    def named(self, group: Group) -> str:
        """The method and k; a router has no k of its own."""
        label, k = self.method(group).label, group.shown("k")
        return label if k == "none" else f"{label} k={k}"

    def interval(self, group: Group) -> Interval | None:
        """The 95% interval over questions of the mean over seeds; None without scores."""
        sample = pooled(group, self.metric)
        return None if sample is None else interval(sample)

    @property
    def candidates(self) -> tuple[Group, ...]:
        """The groups of which one may be the best: all but controls and bounds."""
        return tuple(group for group in self.groups if not aside(group))

    @property
    def best(self) -> Group:
        """The best candidate by its value, of equal ones the first; there must be one."""
        return self.best_of(self.candidates)

    def best_of(self, groups: Sequence[Group]) -> Group:
        sign = 1 if self.higher else -1
        return max(groups, key=lambda group: sign * self.value(group))

    @cached_property
    def gains(self) -> pd.DataFrame:
        """The columns of `personal.gains`, best gain first; `p` is Holm's over the candidates.

        `verdict` goes by that p. Empty without a baseline or scores.
        """
        records = [record for group in self.groups for record in group.records]
        pool = [record for group in self.baselines.values() for record in group.records]
        frame = gains(records, pool)
        if frame.empty:
            return frame
        frame.index = pd.Index([group.configuration for group in frame["group"]])
        counted = [not aside(group) for group in frame["group"]]
        frame["p"] = [one.decisive.p for one in frame["comparison"]]
        frame.loc[counted, "p"] = holm(frame.loc[counted, "p"].tolist())
        frame["verdict"] = [_verdict(one) for one in frame.itertuples()]
        return frame.sort_values("gain", ascending=False, kind="stable")

    def gain(self, group: Group) -> Any | None:
        """The group's row of `gains`."""
        known = not self.gains.empty and group.configuration in self.gains.index
        return self.gains.loc[group.configuration] if known else None


def _verdict(row: Any) -> str:
    found = str(row.verdict)
    significant = row.p < SIGNIFICANT or found not in ("better", "worse")
    return found if significant else "inconclusive"


def panels(records: Sequence[Record]) -> list[Panel]:
    """The panels: real data before made-up, then by setting and task.

    Runs on train, from which routers learn, have panels where a task has no others.

    Raises InputError if no run reads profiles.
    """
    all_groups = grouped(records)
    personal = selection.reported_personal(all_groups.values())
    if not personal:
        raise InputError("no run that reads profiles is among these")
    sets = [
        part
        for shared, groups in selection.comparable_sets(personal, ("task", *SAME_BASELINE))
        for part in by_model_options(shared, groups)
    ]
    first = sets[0][0]
    common = {
        key: value
        for key, value in first.items()
        if key != "task" and all(shared.get(key) == value for shared, *_ in sets)
    }
    looks = _Looks(personal)
    made: list[Panel] = []
    for shared, options, groups in sets:
        own = {key: value for key, value in shared.items() if key not in {*common, "task"}}
        version, _ = own.pop(DATA_VERSION, ""), own.pop(DATA, "")  # a mark tells made-up data
        setting = ", ".join(filter(None, (shared_words(own), *options)))
        places = {(panel.task, panel.setting, panel.made_up) for panel in made}
        if (shared["task"], setting, groups[0].first.result.made_up_data) in places:
            setting = ", ".join(filter(None, (setting, f"other questions ({version[:8]})")))
        wanted = dict.fromkeys(group.first.baseline or "" for group in groups)
        baselines = [all_groups[name] for name in wanted if name in all_groups]
        same = on_common_seeds([*groups, *baselines])
        made.append(
            Panel(
                shared["task"], setting, shared_words(common),
                tuple(same[group.configuration] for group in groups),
                {group.configuration: same[group.configuration] for group in baselines},
                looks.of(groups),
            )
        )  # fmt: skip
    return _in_order(made)


def _in_order(made: Sequence[Panel]) -> list[Panel]:
    """Real data first, then the settings of most runs, and in each the tasks."""
    runs = Counter[tuple[bool, str]]()
    for panel in made:
        runs[panel.made_up, panel.setting] += len(panel.groups)
    return sorted(
        made,
        key=lambda panel: (
            panel.made_up, -runs[panel.made_up, panel.setting], panel.setting, order(panel.task),
        ),
    )  # fmt: skip


class _Looks:
    """Gives each method of the page a colour, a marker and a line.

    Augmentations but one have dashed lines; methods that differ in more have colours of their own.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._styles: dict[tuple[str, ...], int] = {}
        systems = [group for group in groups if not aside(group)]
        for name in sorted({group.shown("retriever") for group in systems}):
            self._style((name,))
        self._solid = max((group.shown("augmentation") for group in groups), default="")

    def of(self, groups: Sequence[Group]) -> dict[str, Method]:
        """The method of each group, by configuration."""
        further = _further(groups)
        found = {}
        for group in groups:
            rest = further[group.configuration]
            words = method_words(group, augmentation=True)
            if reason := aside(group):
                rest = [*rest, f"({reason})"]
            label = " ".join([*words, *rest])
            augmentation = group.shown("augmentation")
            style = self._style((*(word for word in words if word != augmentation), *rest))
            dashed = augmentation != self._solid
            found[group.configuration] = Method(label, style, dashed, reason)
        return found

    def _style(self, name: tuple[str, ...]) -> int:
        number = len(self._styles)
        skipped = number + number // (SERIES - 1)  # the last colour is the baseline's
        return self._styles.setdefault(name, skipped)


def _further(groups: Sequence[Group]) -> dict[str, list[str]]:
    """What groups of the same components differ in besides k; usually nothing.

    It is told of each k, so that one method is the same at all k. Controls and bounds are told by
    `aside`.
    """
    by_components: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        components = (*method_words(group, augmentation=True), aside(group))
        by_components.setdefault(components, []).append(group)
    found = {}
    for same in by_components.values():
        names = [name for name in telling(same) if name not in ("k", "k_values")]
        for group in same:
            values = {LABELS.get(name, name): group.option(name) for name in names}
            found[group.configuration] = [
                f"{name}={shown(value)}" for name, value in values.items() if value is not None
            ]
    return found
