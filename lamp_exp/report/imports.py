"""Predictions made elsewhere, in the official format, become runs as our own are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lamp_exp.data.arguments import PARTS, SPLITS
from lamp_exp.errors import InputError
from lamp_exp.experiment.import_predictions import (
    Import,
    Outputs,
    Source,
    choose,
    joined,
    read_outputs,
    record_import,
)
from lamp_exp.results.display import show


def add_options(parser: argparse.ArgumentParser) -> None:
    """The file, and what it does not tell of itself."""
    add = parser.add_argument
    add("file", type=Path, metavar="PREDICTIONS", help="an official file, or a zip of such files")
    add("--name", required=True, help="what the system is called in tables")
    add("--task", help="lamp1 ... lamp7, lamp2_news; by default what the file says")
    add("--split", choices=SPLITS, default="user", help="default: user")
    add("--part", choices=PARTS, default="dev", help="default: dev")
    add("--seed", type=int, default=0, help="tells runs of one system apart (default: 0)")
    add("--data-dir", metavar="DIR", help="the official files; without it, the made-up sample")
    add("--golds", type=Path, metavar="FILE", help="golds that do not lie beside the questions")
    add("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    add("--description", metavar="TEXT", help="kept in the record")
    add("--url", help="kept in the record: a paper, a repository")


def run(options: argparse.Namespace) -> int:
    """Checks all files before it writes the first run; prints the runs' folders."""
    output_dir = options.output_dir.expanduser()
    made = [record_import(one, output_dir) for one in _imports(options, output_dir / ".cache")]
    for one in made:
        if one.state == "there":
            print("these predictions are there already", file=sys.stderr)
        for name in one.replaced:
            print(f"{name} holds older predictions, and is marked as stale", file=sys.stderr)
        show(one.folder.read(), None)
        print(one.folder.path)
    return 0


def _imports(options: argparse.Namespace, cache_dir: Path) -> list[Import]:
    name = " ".join(options.name.split())
    if not name:
        raise InputError("--name is empty: it is what tables call the system")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed} must be at least 0")
    source = Source(
        name, options.split, options.part, options.seed, options.description, options.url
    )
    given, others = read_outputs(options.file.expanduser())
    if others:
        print(f"left out, no predictions: {', '.join(others)}", file=sys.stderr)
    golds = _golds(options)
    made = []
    for option, outputs in choose(given, options.task):
        if golds is not None and option not in golds:
            raise InputError(f"{options.golds} holds no golds for {option}")
        its = None if golds is None else golds[option]
        made.append(joined(source, option, outputs, its, options.data_dir, cache_dir))
    return made


def _golds(options: argparse.Namespace) -> dict[str, Outputs] | None:
    """By task, those that were given."""
    if options.golds is None:
        return None
    given, _ = read_outputs(options.golds.expanduser())
    return dict(choose(given, options.task))
