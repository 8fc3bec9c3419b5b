"""The layouts of metric tables: the paper's, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lamp_exp.errors import InputError
from lamp_exp.options import PERSONAL_GROUPS
from lamp_exp.report.selection import Group, equals

METRIC = "metric"
# Columns of runs without items; the first that fits a run is its column.
WITHOUT_ITEMS = {
    "no profile": {"k": "0", **dict.fromkeys(PERSONAL_GROUPS, "none")},
    "no items": {"k": "0"},  # but a summary, or an adapter
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows and columns of a table, by names of properties or `metric`.

    Columns are the values of the properties `by`, or given one by one: `columns` are the properties
    of the runs in each, by its label. `where` are the conditions that all runs must meet.
    """

    title: str
    rows: tuple[str, ...]
    by: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "seed" in (*self.rows, *self.by):
            raise InputError(
                "seed can be no row or column, since numbers are means over seeds: "
                "pick one by --where seed=1"
            )

    @property
    def keys(self) -> list[str]:
        return [key for key in (*self.by, *self.rows) if key != METRIC]

    def column(self, group: Group) -> str | None:
        """The label of a group's column, `""` where metrics are the columns; None without one."""
        if group.first.imported and (self.columns or "k" in self.by):
            return group.shown("model")
        for label, where in self.columns.items():
            if all(equals(group.facet(key), value) for key, value in where.items()):
                return label
        named = [f"{key}={group.shown(key)}" for key in self.by if key != METRIC]
        return None if self.columns else " ".join(named)

    def label(self, group: Group, metric: str) -> str:
        label = self.column(group) or ""
        return label or "value" if METRIC in self.rows else f"{label} {metric}".strip()

    def cell(self, group: Group, metric: str) -> tuple[str, ...]:
        """Equal for groups that share a cell."""
        return (*self.head(group, metric), self.label(group, metric))

    def head(self, group: Group, metric: str) -> tuple[str, ...]:
        return tuple(metric if key == METRIC else group.shown(key) for key in self.rows)


def _columns(names: Sequence[str], label: str, k: str, way: str) -> dict[str, dict[str, str]]:
    return {f"{n} {label}": {"retriever": n, "k": k, "augmentation": way} for n in names}


def _paper(retrievers: Sequence[str], untuned: Sequence[str]) -> dict[str, dict[str, str]]:
    """No profile, one item of each retriever, k tuned on dev, FiD with 16 items."""
    return {
        **WITHOUT_ITEMS,
        **_columns(untuned, "k=1", "1", "ipa"),
        **_columns(retrievers, "IPA k tuned", "tune", "ipa"),
        **_columns(retrievers, "FiD k=16", "16", "fid"),
    }


DENSE, ALL = ("bm25", "contriever"), ("recency", "bm25", "contriever")
LAYOUTS = {
    "table2": Layout(
        "LaMP table 2: fine-tuned, user split", ("task", METRIC),
        columns=_paper(DENSE, ("random", *DENSE)), where=("split=user", "mode=finetune"),
    ),
    "table3": Layout(
        "LaMP table 3: fine-tuned, time split", ("task", METRIC),
        columns=_paper(ALL, ("random", *ALL)), where=("split=time", "mode=finetune"),
    ),
    "table4": Layout(
        "LaMP table 4: zero-shot", ("task", METRIC), where=("mode=zeroshot",),
        columns={**WITHOUT_ITEMS, **_columns(ALL, "k=1", "1", "ipa"),
                 **_columns(ALL, "k tuned", "tune", "ipa")},
    ),
    "ablation": Layout("Ablation", ("task", METRIC, "retriever", "augmentation"), by=("k",)),
}  # fmt: skip
