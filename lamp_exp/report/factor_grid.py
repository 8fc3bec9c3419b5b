"""Grids of runs over three factors: retrieval, summary and adapter, each used or not.

The factors are how the user gets into the model: by items in the prompt, by a text in the prompt,
or inside the model. A cell of a grid is a run, named by its level of each factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from math import prod

from lamp_exp.report.paired_examples import pooled
from lamp_exp.report.selection import Group
from lamp_exp.statistics import Sample

RETRIEVAL, SUMMARY, ADAPTER = FACTORS = ("retrieval", "summary", "adapter")
NONE = "none"
Cell = tuple[str, ...]  # the level of each factor
BASELINE: Cell = (NONE,) * len(FACTORS)


@dataclass(frozen=True, eq=False)
class Grid:
    """Runs of one task in one setting: by cell, and by cell with the profiles of other users.

    All have the same seeds. `levels` are those of the largest part of the grid that is complete,
    which has the baseline. `left_out` are seeds of cells that are not used, `without_seeds` the
    cells that are not used as they lack some seeds.
    """

    cells: Mapping[Cell, Group]
    controls: Mapping[Cell, Group]
    levels: tuple[tuple[str, ...], ...]
    left_out: Mapping[Cell, Sequence[int]] = field(default_factory=dict)
    without_seeds: Sequence[Cell] = ()

    @property
    def baseline(self) -> Group:
        return self.cells[BASELINE]

    @property
    def last(self) -> Group:
        """The run with the last level of each factor, which stands for the grid."""
        return self.cells[tuple(levels[-1] for levels in self.levels)]

    @property
    def metric(self) -> str:
        return self.baseline.first.main_metric

    @property
    def higher_is_better(self) -> bool:
        return self.baseline.first.higher_is_better(self.metric)

    @property
    def complete(self) -> list[Cell]:
        """The cells of the complete part."""
        return list(product(*self.levels))

    @property
    def all_levels(self) -> list[list[str]]:
        """The levels of each factor in any cell, none first."""
        return [in_order(cell[n] for cell in self.cells) for n in range(len(FACTORS))]

    @property
    def missing(self) -> list[Cell]:
        """The combinations of any levels that no run has."""
        there = {*self.cells, *self.without_seeds}
        return [cell for cell in product(*self.all_levels) if cell not in there]

    @property
    def missing_controls(self) -> list[Cell]:
        """The cells of the complete part without a run with the profiles of other users."""
        return [c for c in self.complete if c != BASELINE and c not in self.controls]

    @cached_property
    def samples(self) -> dict[Cell, Sample]:
        """The main metric of each cell, on the same examples in the same order."""
        return self._samples(self.cells)

    @cached_property
    def control_samples(self) -> dict[Cell, Sample]:
        """Likewise with the profiles of other users; the baseline reads none."""
        return {BASELINE: self.samples[BASELINE], **self._samples(self.controls)}

    def _samples(self, cells: Mapping[Cell, Group]) -> dict[Cell, Sample]:
        base = self.baseline.first
        found = {cell: pooled(group, self.metric, base) for cell, group in cells.items()}
        return {cell: sample for cell, sample in found.items() if sample is not None}


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect or an interaction, as a weighted sum of cells.

    `levels` has the level of each factor that takes part, compared with `none`, and None of the
    factors over whose levels it is the mean.
    """

    levels: tuple[str | None, ...]
    weights: Mapping[Cell, float]

    @property
    def order(self) -> int:
        """1 for a main effect, 2 or 3 for an interaction."""
        return sum(level is not None for level in self.levels)


def effects(levels: Sequence[Sequence[str]]) -> list[Effect]:
    """All main effects, then all interactions, of a complete grid with these levels."""
    varied = [n for n, own in enumerate(levels) if len(own) > 1]
    found = []
    for order in range(1, len(varied) + 1):
        for taking_part in combinations(varied, order):
            for chosen in product(*(levels[n][1:] for n in taking_part)):
                own = dict(zip(taking_part, chosen, strict=True))
                place = tuple(own.get(n) for n in range(len(levels)))
                found.append(Effect(place, _weights(place, levels)))
    return found


def _weights(place: Sequence[str | None], levels: Sequence[Sequence[str]]) -> dict[Cell, float]:
    each = [
        {level: 1 / len(own) for level in own} if chosen is None else {chosen: 1.0, NONE: -1.0}
        for chosen, own in zip(place, levels, strict=True)
    ]
    return {
        cell: prod(weights[level] for weights, level in zip(each, cell, strict=True))
        for cell in product(*each)
    }


def in_order(levels: Iterable[str]) -> list[str]:
    """Each level once, none first."""
    return list(dict.fromkeys([NONE, *levels]))
