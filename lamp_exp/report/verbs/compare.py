"""Two runs side by side."""

from __future__ import annotations

import argparse

from lamp_exp.report.arguments import add_format, add_named_runs, within, write
from lamp_exp.report.compare import comparison_tables, example_tables, of_user
from lamp_exp.report.loading import one_run


def add_options(parser: argparse.ArgumentParser) -> None:
    """The two, and how much of them."""
    add_named_runs(parser, "a", "b")
    add_format(parser)
    many = "how many of the examples that changed most (default: 5)"
    parser.add_argument("--examples", type=int, default=5, metavar="N", help=many)
    parser.add_argument("--users", type=int, default=10, metavar="N", help="likewise users (10)")
    parser.add_argument("--user", metavar="ID", help="all questions of this user instead")


def run(options: argparse.Namespace) -> int:
    """Makes the tables and writes them."""
    for name in ("examples", "users"):
        within(name, getattr(options, name), 0, 100_000)
    a, b = one_run(options.a, options.runs), one_run(options.b, options.runs)
    if options.user is not None:
        tables = example_tables(a, b, of_user(a, options.user))
    else:
        tables = comparison_tables(a, b, options.examples, options.users)
    write(tables, options)
    return 0
