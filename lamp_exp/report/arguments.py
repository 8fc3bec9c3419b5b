"""What the verbs of a report have in common: which runs, in which format, and where to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.report.formats import FORMATS
from lamp_exp.report.loading import Found, Record, find
from lamp_exp.report.selection import select
from lamp_exp.report.table import Table
from lamp_exp.storage.atomic import write_text as write_file

LISTED = 3  # of the runs that are left out for one reason


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Which runs."""
    _add_places(parser, "folders of runs, single runs, or sweeps (default: outputs)")
    parser.add_argument(
        "--where", nargs="+", default=[], metavar="KEY=VALUE",
        help="only runs with these properties: task=lamp4 k=1,4 training.lr=0.001",
    )  # fmt: skip
    parser.add_argument("--stale", action="store_true", help="also runs that are marked as stale")


def _add_places(parser: argparse.ArgumentParser, told: str) -> None:
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[Path("outputs")], metavar="FOLDER", help=told
    )


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError for a number out of its range."""
    if not low <= value <= high:
        raise InputError(f"--{name} {value:g} must be from {low:g} to {high:g}")


def add_named_runs(parser: argparse.ArgumentParser, *names: str) -> None:
    """Runs that are named one by one; `records.one_run` finds them."""
    for name in names:
        told = "a run's folder, or its name in --runs, or the end of it"
        parser.add_argument(name, metavar=name.upper(), help=told)
    _add_places(parser, "where runs are looked for by name (default: outputs)")


def add_format(parser: argparse.ArgumentParser) -> None:
    """How tables are written, and where to."""
    parser.add_argument("--format", choices=FORMATS, default="terminal", help="default: terminal")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file instead of the screen")


def chosen(options: argparse.Namespace) -> list[Record]:
    """The scored runs that are meant; what is left out is told on stderr. InputError for none."""
    return scored_of(find(options.runs, options.stale), options)


def scored(options: argparse.Namespace) -> tuple[list[Record], list[Record]]:
    """The scored runs that are meant, and all that are there: the run without a profile may be
    one that `--where` leaves out.
    """
    found = find(options.runs, options.stale)
    return scored_of(found, options), [record for record in found.records if record.metrics]


def scored_of(found: Found, options: argparse.Namespace) -> list[Record]:
    """The same of what has been found already."""
    return _chosen(found, options, "metrics", lambda record: bool(record.metrics))


def answered(options: argparse.Namespace) -> list[Record]:
    """The same of the runs that hold predictions, whether golds are known or not."""
    found = find(options.runs, options.stale)
    return _chosen(found, options, "predictions", lambda record: record.has_predictions)


def _chosen(
    found: Found, options: argparse.Namespace, needed: str, has: Callable[[Record], bool]
) -> list[Record]:
    tell_left_out(found)
    usable = [record for record in found.records if has(record)]
    silent = len(found.records) - len(usable)
    if silent:
        print(f"left out, without {needed}: {silent} of {len(found.records)}", file=sys.stderr)
    records = select(usable, options.where)
    if not records:
        wanted = " ".join(options.where)
        raise InputError(f"no run with {needed} is left{f' of {wanted}' if wanted else ''}")
    return records


def tell_left_out(found: Found) -> None:
    """On stderr."""
    for line in left_out(found):
        print(line, file=sys.stderr)


def left_out(found: Found) -> list[str]:
    """For each reason the number of runs, and some of them."""
    reasons: dict[str, list[str]] = {}
    for path, reason in found.left_out:
        reasons.setdefault(reason, []).append(path.name)
    lines = []
    for reason, names in reasons.items():
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        lines.append(f"left out, {reason}: {', '.join(names[:LISTED])}{more}")
    return lines


def write(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """In the format and to the place that were asked for."""
    write_text(FORMATS[options.format](tables), options.out)


def write_text(text: str, out: Path | None) -> None:
    """To a file, whole or not at all, whose name is printed; else to the screen."""
    if out is None:
        sys.stdout.write(text)
        return
    path = out.expanduser()
    if path.is_dir():
        raise InputError(f"--out {out} is a folder: give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [text])
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror})") from error
    print(path)
