"""The parts of a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamp_exp.report.loading import Record
from lamp_exp.report.plots import Draw
from lamp_exp.report.table import Table


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with a description and its numbers; a `broad` one has a row of its own."""

    draw: Draw
    title: str
    description: str
    numbers: Table
    broad: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a section holds, in this order."""

    notes: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A section; `make` is given all runs of the page, and raises InputError if none fits."""

    anchor: str
    name: str
    make: Callable[[Sequence[Record]], Content]
