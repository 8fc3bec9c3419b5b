"""The published numbers themselves."""

from __future__ import annotations

import argparse
from dataclasses import fields

from lamp_exp.errors import InputError
from lamp_exp.report.arguments import add_format, write
from lamp_exp.report.published import Published, all_published
from lamp_exp.report.table import Row, Table, number

HEADS = ("task", "split", "part", "metric", "system", "source", "arxiv", "status")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which of them, and the format."""
    parser.add_argument(
        "--where", nargs="+", default=[], metavar="KEY=VALUE",
        help=f"only these, by {', '.join(HEADS)}: task=lamp4 split=user",
    )  # fmt: skip
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    """Lists them."""
    found = [one for one in all_published() if all(_meets(one, c) for c in options.where)]
    if not found:
        raise InputError(f"nothing was published of {' '.join(options.where)}")
    found.sort(key=lambda one: (one.split, one.task, one.metric))
    rows = [Row(tuple(str(getattr(o, h)) for h in HEADS), (number(o.value, 3),)) for o in found]
    write([Table("Published numbers", HEADS, ("value",), tuple(rows))], options)
    return 0


def _meets(one: Published, condition: str) -> bool:
    key, sign, values = condition.partition("=")
    names = [field.name for field in fields(Published) if field.name != "value"]
    if not sign or key not in names:
        raise InputError(f"{condition!r} is no condition: write key=value, of {', '.join(names)}")
    return str(getattr(one, key)) in values.split(",")
