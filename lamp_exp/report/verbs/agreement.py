"""How far retrievers pick the same items."""

from __future__ import annotations

import argparse

from lamp_exp.report.agreement import agreement_tables
from lamp_exp.report.arguments import add_format, add_runs, chosen, write


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the format."""
    add_runs(parser)
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    """Makes the tables and writes them."""
    write(agreement_tables(chosen(options)), options)
    return 0
