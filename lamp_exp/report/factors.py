"""The verb factors: is it enough to put the user into the prompt, or must it be inside the model?

Main effects and interactions of retrieval, summary and adapter over a grid of runs, such as
`+sweep=internal_external` makes. All effects are gains: positive where the metric got better.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, check_range, scored
from lamp_exp.report.factor_cells import cells_table, cost_table, size_table
from lamp_exp.report.factor_effects import effects_table
from lamp_exp.report.grid_search import grids
from lamp_exp.report.table import Table
from lamp_exp.results.record import Record

QUANTILES = 4


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument(
        "--quantiles", type=int, default=QUANTILES, metavar="N",
        help=f"groups of questions by the size of their profiles (default: {QUANTILES})",
    )  # fmt: skip


def tables(arguments: argparse.Namespace) -> list[Table]:
    check_range("quantiles", arguments.quantiles, 1, 100)
    return factor_tables(*scored(arguments), quantiles=arguments.quantiles)


def factor_tables(
    records: Sequence[Record], pool: Sequence[Record] = (), quantiles: int = QUANTILES
) -> list[Table]:
    """Effects, cells, gains by profile size, and costs. Raises InputError if there is no grid."""
    found, reasons = grids(records, pool)
    if not found:
        why = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
        raise InputError(
            "no grid: it takes runs with and without two of retrieval, summary and adapter, all "
            f"combinations and the baseline, as +sweep=internal_external makes them{why}"
        )
    return [
        effects_table(found, reasons),
        cells_table(found),
        *size_table(found, quantiles),
        cost_table(found, [*records, *pool]),
    ]
