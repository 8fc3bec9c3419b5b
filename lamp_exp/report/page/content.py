"""What a section of the page is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamp_exp.report.loading import Record
from lamp_exp.report.plots import Draw
from lamp_exp.report.table import Table


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, what it shows in a sentence, and its numbers; `broad` ones have a row alone."""

    draw: Draw
    title: str
    description: str
    numbers: Table
    broad: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What stands in a section, in this order."""

    words: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """`make` takes all the runs of the page, and raises InputError if none of them fits."""

    anchor: str
    name: str
    make: Callable[[Sequence[Record]], Content]
