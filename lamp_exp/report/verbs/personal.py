"""What the profile gains, for whom, and how much is left to gain."""

from __future__ import annotations

import argparse

from lamp_exp.report.arguments import add_format, add_runs, scored, write
from lamp_exp.report.personal import personal_tables


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the format."""
    add_runs(parser)
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    """Makes the tables and writes them."""
    write(personal_tables(*scored(options)), options)
    return 0
