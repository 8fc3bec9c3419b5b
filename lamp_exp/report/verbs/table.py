"""The paper's tables, and tables of one's own rows and columns."""

from __future__ import annotations

import argparse

from lamp_exp.report.arguments import add_format, add_runs, scored, within, write
from lamp_exp.report.build import Look, tables
from lamp_exp.report.layouts import LAYOUTS, METRIC, Layout


def add_options(parser: argparse.ArgumentParser) -> None:
    """Rows and columns, and what is shown of each number."""
    add_runs(parser)
    add_format(parser)
    if parser.prog.endswith(" table"):
        parser.add_argument(
            "--rows", nargs="+", default=["task", METRIC, "retriever"], metavar="KEY",
            help="properties of runs, or metric (default: task metric retriever)",
        )  # fmt: skip
        parser.add_argument(
            "--columns", nargs="+", default=["k"], metavar="KEY", help="likewise (default: k)"
        )
    parser.add_argument("--digits", type=int, default=3, help="after the point (default: 3)")
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="N",
        help="intervals of macro F1 and RMSE by N resamples (BCa) instead of the jackknife",
    )  # fmt: skip
    parser.add_argument("--no-intervals", action="store_true", help="only the numbers themselves")
    parser.add_argument("--no-tests", action="store_true", help="no marks of significance")
    parser.add_argument("--no-published", action="store_true", help="no published numbers beside")


def run(options: argparse.Namespace) -> int:
    """Makes the tables and writes them."""
    within("digits", options.digits, 0, 12)
    within("bootstrap", options.bootstrap, 0, 100_000)
    look = Look(
        digits=options.digits,
        intervals=not options.no_intervals,
        tests=not options.no_tests,
        published=not options.no_published,
        resamples=options.bootstrap,
    )
    layout = LAYOUTS.get(options.verb) or _own(options)
    records, pool = scored(options)
    write(tables(records, layout, look, pool), options)
    return 0


def _own(options: argparse.Namespace) -> Layout:
    rows = options.rows if METRIC in (*options.rows, *options.columns) else [*options.rows, METRIC]
    return Layout("Runs", tuple(rows), by=tuple(options.columns))
