"""Tokens, seconds, memory and price."""

from __future__ import annotations

import argparse
from pathlib import Path

from lamp_exp.report.arguments import add_format, add_runs, chosen, write
from lamp_exp.report.cost import USUAL, cost_table, read_prices


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, the format, and the prices."""
    add_runs(parser)
    add_format(parser)
    parser.add_argument(
        "--prices", type=Path, default=USUAL, metavar="FILE",
        help="YAML with date, and models: {NAME: {input: $, output: $}} for a million tokens",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Makes the table and writes it."""
    prices = read_prices(options.prices)
    write([cost_table(chosen(options), prices)], options)
    return 0
