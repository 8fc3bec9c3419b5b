"""The layouts of metric tables: the paper's, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import equals, facet

METRIC = "metric"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the runs with these properties."""

    label: str
    where: Mapping[str, str]

    def takes(self, record: Record) -> bool:
        """Whether a run belongs there."""
        return all(equals(facet(record, key), value) for key, value in self.where.items())


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows and columns of a table, by names of properties or `metric`.

    Columns are the values of the properties `by`, or are given one by one as `columns`. `where`
    are the conditions that all runs must meet.
    """

    title: str
    rows: tuple[str, ...]
    by: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "seed" in (*self.rows, *self.by):
            raise InputError(
                "seed can be no row or column, since numbers are means over seeds: "
                "pick one by --where seed=1"
            )


def _setup(label: str, retriever: str, k: str, augmentation: str) -> Column:
    return Column(label, {"retriever": retriever, "k": k, "augmentation": augmentation})


def _paper(retrievers: Sequence[str], untuned: Sequence[str]) -> tuple[Column, ...]:
    """No profile, one item of each retriever, k tuned on dev, FiD with 16 items."""
    return (
        Column("no profile", {"k": "0"}),
        *(_setup(f"{name} k=1", name, "1", "ipa") for name in untuned),
        *(_setup(f"{name} IPA k tuned", name, "tune", "ipa") for name in retrievers),
        *(_setup(f"{name} FiD k=16", name, "16", "fid") for name in retrievers),
    )


LAYOUTS = {
    "table2": Layout(
        "LaMP table 2: fine-tuned, user split",
        ("task", METRIC),
        columns=_paper(("bm25", "contriever"), ("random", "bm25", "contriever")),
        where=("split=user", "mode=finetune"),
    ),
    "table3": Layout(
        "LaMP table 3: fine-tuned, time split",
        ("task", METRIC),
        columns=_paper(
            ("recency", "bm25", "contriever"), ("random", "recency", "bm25", "contriever")
        ),
        where=("split=time", "mode=finetune"),
    ),
    "table4": Layout(
        "LaMP table 4: zero-shot",
        ("task", METRIC),
        columns=(
            Column("no profile", {"k": "0"}),
            *(
                _setup(f"{name} {label}", name, k, "ipa")
                for k, label in (("1", "k=1"), ("tune", "k tuned"))
                for name in ("recency", "bm25", "contriever")
            ),
        ),
        where=("mode=zeroshot",),
    ),
    "ablation": Layout("Ablation", ("task", METRIC, "retriever", "augmentation"), by=("k",)),
}
