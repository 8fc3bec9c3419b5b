"""All that is needed to repeat a run, on one page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lamp_exp.report.arguments import add_named_runs, write_text
from lamp_exp.report.card import card_of, markdown
from lamp_exp.report.loading import one_run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run, and how it is told."""
    add_named_runs(parser, "run")
    add = parser.add_argument
    add("--format", choices=("md", "json"), default="md", help="default: md")
    add("--out", type=Path, metavar="FILE", help="a file instead of the screen")


def run(options: argparse.Namespace) -> int:
    """Writes it."""
    card = card_of(one_run(options.run, options.runs))
    as_json = options.format == "json"
    text = f"{json.dumps(card, ensure_ascii=False, indent=1)}\n" if as_json else markdown(card)
    write_text(text, options.out)
    return 0
