"""One page of everything, in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.report.arguments import add_runs, left_out, scored_of, write_text
from lamp_exp.report.loading import Found, find
from lamp_exp.report.page import page
from lamp_exp.report.page.browser import Limits


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, where to, and how much of their examples."""
    usual = Limits()
    add_runs(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("page.html"), metavar="FILE", help="default: page.html"
    )
    parser.add_argument("--title", default="LaMP results", help="default: LaMP results")
    parser.add_argument(
        "--browse", nargs="+", default=[], metavar="KEY=VALUE",
        help="whose examples can be browsed, as --where (default: the best of each task first)",
    )  # fmt: skip
    parser.add_argument(
        "--examples", type=int, default=usual.examples, metavar="N",
        help=f"of each run, the first N (default: {usual.examples})",
    )  # fmt: skip
    parser.add_argument(
        "--characters", type=int, default=usual.characters, metavar="N",
        help=f"of each prompt (default: {usual.characters})",
    )  # fmt: skip
    parser.add_argument(
        "--megabytes", type=float, default=usual.megabytes, metavar="N",
        help=f"of examples in all: whole runs until it is full (default: {usual.megabytes:g})",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Makes the page and writes it."""
    for name in ("examples", "characters", "megabytes"):
        if getattr(options, name) < 0:
            raise InputError(f"--{name} must not be negative")
    limits = Limits(options.examples, options.characters, options.megabytes, tuple(options.browse))
    found = find(options.runs, options.stale)
    records = scored_of(found, options)
    write_text(page(records, limits, options.title, _left_out(found, options)), options.out)
    return 0


def _left_out(found: Found, options: argparse.Namespace) -> list[str]:
    """What stderr was told already, which readers of the page do not see; and the conditions."""
    lines = left_out(found)
    silent = sum(not record.metrics for record in found.records)
    if silent:
        lines.append(f"{silent} runs without metrics are left out")
    if options.where:
        lines.append(f"only runs of {' '.join(options.where)}")
    return lines
