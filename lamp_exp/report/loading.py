"""Which of the finished runs count: the newest of each configuration and seed, or a named one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.results.finding import UNFINISHED, run_folders
from lamp_exp.results.folder import RESULT
from lamp_exp.results.record import Record, UnusableRun, read_run, read_runs


@dataclass(frozen=True)
class Found:
    """The runs below some folders, and the folders that could not be used, with the reason.

    `unfinished` are folders of runs that have begun, and still go on or were killed.
    """

    records: list[Record] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)


def find(places: Sequence[Path], stale: bool = False) -> Found:
    """The finished runs of `places`: folders of runs, single runs, or sweeps; each once.

    Unfinished, unreadable, superseded and (unless `stale`) stale runs are left out, with the
    reason. Raises InputError for a place that is no folder, or if there is no run at all.
    """
    found = Found()
    newest: dict[tuple[str, int], Record] = {}
    for one in read_runs(places):
        if isinstance(one, UnusableRun):
            if one.reason == UNFINISHED:
                found.unfinished.append(one.folder)
            else:
                found.left_out.append((one.folder, one.reason))
        elif one.result.stale and not stale:
            found.left_out.append((one.folder, f"stale: {one.result.stale}"))
        else:
            same = newest.setdefault((one.configuration, one.seed), one)
            loser, winner = sorted((same, one), key=_rank)
            newest[one.configuration, one.seed] = winner
            if loser.metrics != winner.metrics:
                reason = f"the same configuration and seed as {winner.name}, with other numbers"
                found.left_out.append((loser.folder, reason))
    found.records.extend(newest.values())
    if not (found.records or found.left_out or found.unfinished):
        named = ", ".join(map(str, places))
        raise InputError(f"there is no finished run in {named}: give --runs as output_dir was")
    return found


def _rank(record: Record) -> tuple[bool, str]:
    """Of two runs of one configuration and seed, the greater counts."""
    return record.result.stale is None, record.result.started


def one_run(name: str, places: Sequence[Path]) -> Record:
    """The run with this folder, or whose name in `places` is this or ends with it.

    Raises InputError if there is none, or several.
    """
    if (Path(name).expanduser() / RESULT).is_file():
        folders = [Path(name).expanduser()]
    else:
        near = [path for path, _ in run_folders(places) if path.name.endswith(name)]
        folders = [path for path in near if path.name == name] or near
    if len(folders) != 1:
        number = f"{len(folders)} runs are" if folders else "no finished run is"
        some = f": {', '.join(path.name for path in folders[:3])}" if folders else ""
        where = ", ".join(map(str, places))
        raise InputError(f"{number} {name!r} in {where}{some}: give its folder, or its whole name")
    found = read_run(folders[0])
    if isinstance(found, UnusableRun):
        raise InputError(f"{found.folder}: {found.reason}")
    return found
