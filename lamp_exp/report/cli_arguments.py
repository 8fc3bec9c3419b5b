"""Command-line arguments shared by the report verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.report.formats import FORMATS
from lamp_exp.report.loading import Found, find
from lamp_exp.report.selection import may_meet, select
from lamp_exp.report.table import Table
from lamp_exp.results.folder import PREDICTIONS
from lamp_exp.results.record import Record
from lamp_exp.storage.atomic import write_text as write_file

SUFFIXES = {".csv": "csv", ".md": "md", ".tex": "latex", ".html": "html", ".txt": "terminal"}
LISTED = 3  # folders that are named of those left out for one reason


def add_runs(parser: argparse.ArgumentParser) -> None:
    _add_places(parser, "folders of runs, single runs, or sweeps (default: outputs)")
    where = "only runs with these properties: task=lamp4 k=1,4 training.lr=0.001"
    parser.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help=where)
    parser.add_argument("--stale", action="store_true", help="also runs that are marked as stale")


def _add_places(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[Path("outputs")], metavar="FOLDER", help=text
    )


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError for a number outside its range."""
    if not low <= value <= high:
        raise InputError(f"--{name} {value:g} must be from {low:g} to {high:g}")


def add_named_runs(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds runs that are named one by one; `loading.one_run` finds them."""
    for name in names:
        text = "a run's folder, or its name in --runs, or the end of it"
        parser.add_argument(name, metavar=name.upper(), help=text)
    _add_places(parser, "where runs are looked for by name (default: outputs)")


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    text = "as it was given to the run, with YAMLs of components of one's own"
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help=text)


def add_format(parser: argparse.ArgumentParser) -> None:
    text = f"by default that of --out's ending ({', '.join(SUFFIXES)}), or else terminal"
    parser.add_argument("--format", choices=FORMATS, help=text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file instead of the screen")


def check_format(arguments: argparse.Namespace) -> None:
    """Chooses the format by the ending of the file; InputError for one that no format has."""
    ending = arguments.out.suffix.lower() if arguments.out else ""
    if arguments.format is None and ending and ending not in SUFFIXES:
        raise InputError(
            f"--out {arguments.out}: tables are not written as {ending}: give --format, or a name "
            f"that ends in {', '.join(SUFFIXES)}"
        )
    arguments.format = arguments.format or SUFFIXES.get(ending, "terminal")


def chosen(
    arguments: argparse.Namespace, found: Found | None = None, answered: bool = False
) -> list[Record]:
    """The chosen runs with metrics; stderr names those left out. Raises InputError for none.

    With `answered` all runs with predictions, whether or not targets are known. `found` are the
    runs, if they are known already.
    """
    found = found or find(arguments.runs, arguments.stale)
    needed = "predictions" if answered else "metrics"
    usable = [r for r in found.records if (r.has_file(PREDICTIONS) if answered else r.metrics)]
    lines = left_out(found, arguments.where)
    if without := [record.name for record in found.records if record not in usable]:
        lines.append(f"left out, without {needed}: {_first_of(without)}")
    for line in lines:
        print(line, file=sys.stderr)
    records = select(usable, arguments.where)
    if not records:
        where = f", of those with {' '.join(arguments.where)}" if arguments.where else ""
        raise InputError(f"there is no run with {needed}{where}")
    return records


def scored(arguments: argparse.Namespace) -> tuple[list[Record], list[Record]]:
    """The chosen runs with metrics, and all runs with metrics.

    A baseline may be one that `--where` leaves out.
    """
    found = find(arguments.runs, arguments.stale)
    return chosen(arguments, found), [record for record in found.records if record.metrics]


def left_out(found: Found, conditions: Sequence[str] = ()) -> list[str]:
    """One line per reason, with the first of the folders left out for it.

    Only of runs that meet the conditions, as far as their settings say; of unfinished ones, only
    the number.
    """
    reasons: dict[str, list[str]] = {}
    for path, reason in found.left_out:
        if may_meet(path, conditions):
            reasons.setdefault(reason, []).append(path.name)
    lines = []
    for reason, names in reasons.items():
        lines.append(f"left out, {reason}: {_first_of(names)}")
    if unfinished := sum(may_meet(folder, conditions) for folder in found.unfinished):
        runs = "run goes on or was killed" if unfinished == 1 else "runs go on or were killed"
        lines.append(f"left out, not finished: {unfinished} {runs}")
    return lines


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


def write(tables: Sequence[Table], arguments: argparse.Namespace) -> int:
    """Writes tables in the chosen format, to the screen or a file; returns the exit code."""
    return write_text(FORMATS[arguments.format](tables), arguments.out)


def write_text(text: str, out: Path | None) -> int:
    """Writes to the screen, or to a file whose name is then printed; returns the exit code.

    Raises InputError if the file cannot be written.
    """
    if out is None:
        sys.stdout.write(text)
        return 0
    path = out.expanduser()
    if path.is_dir():
        raise InputError(f"--out {out} is a folder: give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [text])
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror})") from error
    print(path)
    return 0
