"""Which runs make a grid over retrieval, summary and adapter, and which part of it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import prod
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.options import ANSWERING, OPTIONS, Usage, changes_numbers
from lamp_exp.report.factor_grid import (
    ADAPTER,
    BASELINE,
    FACTORS,
    NONE,
    RETRIEVAL,
    SUMMARY,
    Cell,
    Grid,
    in_order,
)
from lamp_exp.report.paired_examples import common_seeds
from lamp_exp.report.selection import CONTROL, Group, grouped, shown
from lamp_exp.results.record import Record
from lamp_exp.results.run_options import configuration_key, usage_of

# Options that also have an effect without retrieval, but are part of how items are retrieved.
OF_RETRIEVAL = {"k", "k_values", "profile.pool", "profile.neighbours", "profile.neighbours_by"}
MOST_SUBGRIDS = 2**14


@dataclass(frozen=True)
class _Run:
    """A group with its options by factor; None where it does not use the factor."""

    group: Group
    options: tuple[Mapping[str, Any] | None, ...]

    @property
    def control(self) -> bool:
        return any(self.group.option(name) == value for name, value in CONTROL.items())


def grids(records: Sequence[Record], pool: Sequence[Record] = ()) -> tuple[list[Grid], list[str]]:
    """The grids among runs in which two factors or more vary; and why other runs make none.

    Baselines and controls may also be in `pool`.
    """
    wanted = grouped(filter(_usable, records))
    known = grouped(filter(_usable, [*records, *pool]))
    settings: dict[str, list[_Run]] = {}
    for configuration, group in known.items():
        run = _Run(group, _factor_options(group.first))
        if group.first.personal and (run.control or configuration in wanted):
            settings.setdefault(_setting(group.first), []).append(run)
    found, reasons = [], []
    for runs in settings.values():
        made = _grid(runs, known.get(runs[0].group.first.baseline or ""))
        if isinstance(made, Grid):
            found.append(made)
        elif made:
            reasons.append(f"{runs[0].group.first.task}: {made}")
    return found, reasons


def _usable(record: Record) -> bool:
    """Whether a run may be a cell: it answered by itself, and read no golds."""
    result = record.result
    return (
        bool(record.metrics) and result.mode in ANSWERING and not (result.routing or result.bound)
    )


def _setting(record: Record) -> str:
    """Equal for runs that differ in the three factors, and the control, alone."""
    usual = {name: option.default for name, option in OPTIONS.items()}
    profile = {
        name: value
        for name, value in record.options.items()
        if name.startswith("profile.")
        and name not in OF_RETRIEVAL
        and name not in CONTROL
        and value != usual.get(name)
    }
    return f"{record.baseline} {configuration_key(profile)}"


def _factor_options(record: Record) -> tuple[Mapping[str, Any] | None, ...]:
    usage, mode = usage_of(record.result), record.result.mode
    used = {RETRIEVAL: usage.retrieves, SUMMARY: SUMMARY in usage.others,
            ADAPTER: ADAPTER in usage.others}  # fmt: skip
    every = replace(Usage.full(mode), reads=True)
    others = {factor: every.others - {factor} for factor in FACTORS}
    without = {
        RETRIEVAL: replace(every, retrieves=False, reads=False),
        SUMMARY: replace(every, others=others[SUMMARY], writes=False),
        ADAPTER: replace(every, others=others[ADAPTER]),
    }

    def belongs(name: str, factor: str) -> bool:
        if name in OF_RETRIEVAL:
            return factor == RETRIEVAL
        return not changes_numbers(name, without[factor])

    return tuple(
        {n: v for n, v in record.options.items() if belongs(n, factor)} if used[factor] else None
        for factor in FACTORS
    )


def _grid(runs: Sequence[_Run], baseline: Group | None) -> Grid | str:
    """The grid of runs of one setting, or why they make none; `""` if there is nothing to say."""
    used = [any(run.options[n] is not None for run in runs) for n in range(len(FACTORS))]
    if sum(used) < 2:
        return ""
    if baseline is None:
        return "without a baseline, the run without retrieval, summary and adapter"
    names = [_level_names([run.options[n] for run in runs]) for n in range(len(FACTORS))]
    cells: dict[Cell, Group] = {BASELINE: baseline}
    controls: dict[Cell, Group] = {}
    for number, run in enumerate(runs):
        cell = tuple(own[number] for own in names)
        (controls if run.control else cells)[cell] = run.group
    levels = _largest_complete(list(cells))
    if sum(len(own) > 1 for own in levels) < 2:
        return "no two factors of which all combinations and the baseline are there"
    seeds = common_seeds(cells[cell] for cell in product(*levels))
    if not seeds:
        return "the runs of its grid have no seed in common"
    same = _of_seeds(cells, seeds)
    left_out = {c: own for c in same if (own := sorted({*cells[c].seeds} - seeds))}
    lacking = [cell for cell in cells if cell not in same]
    grid = Grid(same, _of_seeds(controls, seeds), levels, left_out, lacking)
    if not all(cell in grid.samples for cell in grid.complete):
        return "the scores of some runs of its grid are not recorded"
    return grid


def _of_seeds(cells: Mapping[Cell, Group], seeds: set[int]) -> dict[Cell, Group]:
    """The cells that have all of these seeds, reduced to them."""
    return {c: group.of_seeds(seeds) for c, group in cells.items() if seeds <= {*group.seeds}}


def _level_names(options: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """The name of each run's level: its component, and what else tells levels of it apart."""
    plain = [NONE if own is None else _plain_name(own) for own in options]
    found = []
    for name, own in zip(plain, options, strict=True):
        alike = [other for n, other in zip(plain, options, strict=True) if n == name and other]
        keys = dict.fromkeys(key for other in alike for key in other)
        apart = [k for k in keys if len({configuration_key({k: o.get(k)}) for o in alike}) > 1]
        further = [f"{k.partition('.')[2] or k}={shown((own or {}).get(k))}" for k in apart]
        found.append(" ".join([name, *further]))
    return found


def _plain_name(options: Mapping[str, Any]) -> str:
    if "retriever" in options:
        return f"{options['retriever']} {options['augmentation']} k={options['k']}"
    return str(options.get(SUMMARY) or options.get(ADAPTER))


def _largest_complete(cells: Sequence[Cell]) -> tuple[tuple[str, ...], ...]:
    """The levels of the largest complete grid among the cells that has the baseline.

    Of equally large ones, the first. Of the factor with the most levels, all that are complete with
    the chosen levels of the others are in; those of the others are tried in every combination.
    Raises InputError if there are too many.
    """
    there = set(cells)
    levels = [in_order(cell[n] for cell in cells) for n in range(len(FACTORS))]
    longest = max(range(len(FACTORS)), key=lambda n: len(levels[n]))
    rest = [n for n in range(len(FACTORS)) if n != longest]
    if prod(2 ** (len(levels[n]) - 1) for n in rest) > MOST_SUBGRIDS:
        raise InputError("too many summaries and adapters to find a complete grid: use --where")
    best: tuple[tuple[str, ...], ...] = tuple((NONE,) for _ in FACTORS)
    for chosen in product(*(_subsets(levels[n]) for n in rest)):
        own = tuple(
            level
            for level in levels[longest]
            if there.issuperset(product(*_inserted(chosen, longest, (level,))))
        )
        if NONE in own:
            best = max(best, _inserted(chosen, longest, own), key=_size)
    return best


def _inserted(
    chosen: Sequence[tuple[str, ...]], place: int, own: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    return (*chosen[:place], own, *chosen[place:])


def _size(levels: Sequence[Sequence[str]]) -> tuple[bool, int]:
    return sum(len(own) > 1 for own in levels) >= 2, prod(map(len, levels))


def _subsets(levels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All choices of levels with `none`, the largest first."""
    for number in range(len(levels), 0, -1):
        for chosen in combinations(levels[1:], number - 1):
            yield (NONE, *chosen)
