"""Metric and gain by size, similarity and age of the profile."""

from __future__ import annotations

import argparse
import math

from lamp_exp.errors import InputError
from lamp_exp.report.arguments import add_format, add_runs, scored, within, write
from lamp_exp.report.coldstart import PROPERTIES, coldstart_tables


def add_options(parser: argparse.ArgumentParser) -> None:
    """By what, and into which bins."""
    add_runs(parser)
    add_format(parser)
    told = "; ".join(f"{name}: {words}" for name, (words, _) in PROPERTIES.items())
    parser.add_argument("--by", choices=PROPERTIES, default="size", help=f"{told} (default: size)")
    parser.add_argument("--quantiles", type=int, metavar="N", help="bins of one size (default: 5)")
    parser.add_argument(
        "--bins", nargs="+", type=float, default=[], metavar="LOWEST",
        help="bins that begin at these values, instead of quantiles: --bins 1 10 50",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Makes the tables and writes them."""
    if options.bins and options.quantiles is not None:
        raise InputError("--bins and --quantiles are two ways to make bins: give one")
    quantiles = 5 if options.quantiles is None else options.quantiles
    within("quantiles", quantiles, 1, 100)
    if not all(map(math.isfinite, options.bins)):
        raise InputError("--bins must be finite numbers: give the lowest value of each bin")
    records, pool = scored(options)
    write(coldstart_tables(records, options.by, quantiles, options.bins, pool), options)
    return 0
