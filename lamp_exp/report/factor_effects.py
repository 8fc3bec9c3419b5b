"""Effects over a grid of runs: main effects, interactions, and what retrieval alone has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lamp_exp.report.factor_cells import grid_names, grid_table
from lamp_exp.report.factor_grid import (
    ADAPTER,
    BASELINE,
    FACTORS,
    NONE,
    RETRIEVAL,
    Cell,
    Effect,
    Grid,
    cell_words,
    effects,
)
from lamp_exp.report.footers import interval_footers
from lamp_exp.report.personal import as_gain
from lamp_exp.report.table import Table, interval_cell, number, p_cell, worth_of
from lamp_exp.statistics import Contrast, Interval, compare, contrast, holm, share_of_gain
from lamp_exp.statistics.paired import SIGNIFICANT
from lamp_exp.wording import count_of

LISTED = 6  # cells that a footer names


def effects_frame(grid: Grid, family: int = 1) -> pd.DataFrame:
    """A row for each main effect and interaction over the complete part of a grid.

    `contrast` is in the metric's own direction, `interval` positive if better. `control` is the
    value of the same effect with the profiles of other users, None if some of these runs are
    missing. `family` is the number of tests for which p-values will be corrected.
    """
    return pd.DataFrame([_effect_row(grid, one, family) for one in effects(grid.levels)])


def _effect_row(grid: Grid, effect: Effect, family: int) -> dict[str, Any]:
    weights = list(effect.weights.values())
    samples = [grid.samples[cell] for cell in effect.weights]
    found = contrast(samples, weights, family=family)
    sign = 1 if grid.higher_is_better else -1
    control = None
    if not grid.missing_controls:
        others = (grid.control_samples[cell].measured() for cell in effect.weights)
        control = sign * sum(w * value for w, value in zip(weights, others, strict=True))
    return {
        "effect": effect,
        "contrast": found,
        "interval": as_gain(found.value, grid.higher_is_better),
        "control": control,
    }


def effects_table(found: Sequence[Grid], reasons: Sequence[str]) -> Table:
    family = sum(len(effects(grid.levels)) for grid in found)
    frames = [effects_frame(grid, family) for grid in found]
    contrasts: list[Contrast] = [one for frame in frames for one in frame["contrast"]]
    corrected = iter(holm([one.test.p for one in contrasts]))
    rows, shown = [], []
    for grid, frame in zip(found, frames, strict=True):
        for one in frame.itertuples():
            head = (grid.metric, _kind(one.effect), *_levels_shown(one.effect, grid))
            rows.append((grid.last, head, _effect_cells(one, float(next(corrected)))))
            shown.append(one.interval)
    tests = ", ".join(sorted({one.test.name for one in contrasts}))
    methods = ", ".join(sorted({one.value.method for one in contrasts}))
    number = count_of(len(contrasts), "effect")
    notes = [
        "an effect: of a level against none, paired by question; above zero is better, whatever "
        "the metric's direction; (mean): over all levels of that factor",
        "interaction: what the levels bring together beyond the sum of what each brings alone",
        "by another's: the same effect with the profiles of other users",
        f"p: {tests}; Holm over {number}",
        f"interval: {methods}",
        *interval_footers(shown),
        "detectable: the smallest effect that this test would find with 80% power at 5% over the "
        f"{number}",
        *_share_notes(found),
        *_missing_notes(found),
        *(f"no grid, {reason}" for reason in dict.fromkeys(reasons)),
    ]
    heads = ("metric", "effect", *FACTORS)
    title = "Effects of retrieval, summary and adapter"
    return grid_table(title, heads, rows, notes, found, remarks=True)


def _kind(effect: Effect) -> str:
    return "main effect" if effect.number_of_factors == 1 else "interaction"


def _levels_shown(effect: Effect, grid: Grid) -> tuple[str, ...]:
    return tuple(
        level or ("(mean)" if len(own) > 1 else own[0])
        for level, own in zip(effect.levels, grid.levels, strict=True)
    )


def _effect_cells(one: Any, p: float) -> dict[str, Any]:
    better = one.interval.value > 0
    worth = worth_of("better" if better else "worse") if p < SIGNIFICANT else ""
    return {
        "gain": number(one.interval.value, sign=True, worth=worth),
        "95% interval": interval_cell(one.interval, sign=True),
        "p": p_cell(one.contrast.test.p),
        "Holm": p_cell(p),
        "detectable": one.contrast.detectable,
        "by another's": number(one.control, sign=True),
    }


# --- what retrieval alone has ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the joint gain of a retrieval and an adapter one of them has alone."""

    alone: str
    joint: Interval
    share: Interval


def shares(grid: Grid, retrieval: str, adapter: str) -> list[Share]:
    """What each has alone of the gain of both together; none where that gain may be zero."""
    both = _cell(retrieval, adapter)
    needed = (both, _cell(retrieval, NONE), _cell(NONE, adapter))
    if not all(cell in grid.samples for cell in needed):
        return []
    baseline, joint = grid.samples[BASELINE], grid.samples[both]
    gain = as_gain(compare(baseline, joint, thorough=False).difference, grid.higher_is_better)
    if not gain.low > 0:  # NaN too
        return []
    return [
        Share(name, gain, share_of_gain(baseline, grid.samples[cell], joint))
        for name, cell in zip((retrieval, adapter), needed[1:], strict=True)
    ]


def _cell(retrieval: str, adapter: str) -> Cell:
    given = {RETRIEVAL: retrieval, ADAPTER: adapter}
    return tuple(given.get(factor, NONE) for factor in FACTORS)


def _share_notes(found: Sequence[Grid]) -> Iterator[str]:
    """In words, for each pair of a retrieval and an adapter whose joint gain is above zero."""
    for grid, name in zip(found, grid_names(found), strict=True):
        retrievals, _, adapters = grid.all_levels
        for retrieval in retrievals[1:]:
            for adapter in adapters[1:]:
                known = shares(grid, retrieval, adapter)
                if known:
                    yield f"{name}: {_share_words(known, f'retrieval ({retrieval})', adapter)}"


def _share_words(known: Sequence[Share], retrieval: str, adapter: str) -> str:
    (of_retrieval, of_adapter), joint = known, known[0].joint
    return (
        f"of the gain of {retrieval} and {adapter} together "
        f"({joint.value:+.4f}), retrieval alone has {_share_text(of_retrieval.share)}, "
        f"{adapter} alone {_share_text(of_adapter.share)}; intervals by resampling users"
    )


def _share_text(one: Interval) -> str:
    low, high = (f"{end:.0%}" if math.isfinite(end) else "no bound" for end in (one.low, one.high))
    return f"{one.value:.0%} (95% interval {low} to {high})"


def _missing_notes(found: Sequence[Grid]) -> Iterator[str]:
    """Which cells are not there, and over which levels the effects then are."""
    for grid, name in zip(found, grid_names(found), strict=True):
        if grid.missing or grid.without_seeds:
            over = " x ".join(f"{factor} ({', '.join(own)})"
                              for factor, own in zip(FACTORS, grid.levels, strict=True)
                              if len(own) > 1)  # fmt: skip
            yield f"{name}: effects are over the largest complete part of the grid: {over}"
        if grid.missing:
            yield f"{name}: missing cells: {_named(grid.missing)}"
        if grid.without_seeds:
            yield f"{name}: cells left out, as they lack seeds: {_named(grid.without_seeds)}"
        if grid.left_out:
            yield f"{name}: seeds left out, as not all cells have them: {_seeds_named(grid)}"
        if grid.missing_controls:
            yield f"{name}: cells without other users' profiles: {_named(grid.missing_controls)}"


def _named(cells: Sequence[Cell]) -> str:
    names = list(map(cell_words, cells))
    more = f"; and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{'; '.join(names[:LISTED])}{more}"


def _seeds_named(grid: Grid) -> str:
    return ", ".join(map(str, sorted({seed for own in grid.left_out.values() for seed in own})))
