"""Which runs go where: the paper's tables, and tables of anyone's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import facet, shown

METRIC = "metric"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of its own label: the runs whose properties are these."""

    label: str
    where: Mapping[str, str]

    def takes(self, record: Record) -> bool:
        """Whether a run belongs there."""
        return all(shown(facet(record, key)) == value for key, value in self.where.items())


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows and columns by the names of properties (`metric` is one), or columns one by one."""

    title: str
    rows: tuple[str, ...]
    by: tuple[str, ...] = ()  # properties whose values make the columns
    columns: tuple[Column, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "seed" in (*self.rows, *self.by):
            raise InputError(
                "seed can be no row or column, since numbers are means over seeds: "
                "pick one by --where seed=1"
            )


def _items(label: str, retriever: str, k: str, augmentation: str) -> Column:
    return Column(label, {"retriever": retriever, "k": k, "augmentation": augmentation})


def _paper(retrievers: Sequence[str], untuned: Sequence[str]) -> tuple[Column, ...]:
    """No profile; one item of each retriever; k tuned on dev; FiD with 16."""
    return (
        Column("no profile", {"k": "0"}),
        *(_items(f"{name} k=1", name, "1", "ipa") for name in untuned),
        *(_items(f"{name} IPA k tuned", name, "tune", "ipa") for name in retrievers),
        *(_items(f"{name} FiD k=16", name, "16", "fid") for name in retrievers),
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
                _items(f"{name} {label}", name, k, "ipa")
                for k, label in (("1", "k=1"), ("tune", "k tuned"))
                for name in ("recency", "bm25", "contriever")
            ),
        ),
        where=("mode=zeroshot",),
    ),
    "ablation": Layout("Ablation", ("task", METRIC, "retriever", "augmentation"), by=("k",)),
}
