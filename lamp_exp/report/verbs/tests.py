"""Every pair of runs on the same questions, tested."""

from __future__ import annotations

import argparse

from lamp_exp.report.arguments import add_format, add_runs, chosen, write
from lamp_exp.report.pairing import pairs_table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, against which, and the format."""
    add_runs(parser)
    add_format(parser)
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="KEY=VALUE",
        help="only pairs with one of these runs, as --against retriever=bm25 k=4",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Makes the table and writes it."""
    write([pairs_table(chosen(options), options.against)], options)
    return 0
