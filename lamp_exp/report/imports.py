"""The verb import: predictions made elsewhere, in the official format, become runs."""

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
    add = parser.add_argument
    add("file", type=Path, metavar="PREDICTIONS", help="an official file, or a zip of such files")
    add("--name", required=True, help="the system's name in tables")
    add("--task", help="lamp1 ... lamp7, lamp2_news; by default what the file says")
    add("--split", choices=SPLITS, default="user", help="default: user")
    add("--part", choices=PARTS, default="dev", help="default: dev")
    add("--seed", type=int, default=0, help="tells runs of one system apart (default: 0)")
    add("--data-dir", metavar="DIR", help="the official files; without it, the made-up sample")
    add("--golds", type=Path, metavar="FILE", help="golds that do not lie beside the questions")
    add("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    add("--description", metavar="TEXT", help="kept in the record")
    add("--url", help="kept in the record: a paper, a repository")


def run(arguments: argparse.Namespace) -> int:
    """Checks all files before it writes the first run; prints the runs' folders."""
    output_dir = arguments.output_dir.expanduser()
    imports = _imports(arguments, output_dir / ".cache")
    for one in [record_import(each, output_dir) for each in imports]:
        if one.state == "there":
            print("these predictions are there already", file=sys.stderr)
        for name in one.replaced:
            print(f"{name} holds older predictions, and is marked as stale", file=sys.stderr)
        show(one.folder.read(), None)
        print(one.folder.path)
    return 0


def _imports(arguments: argparse.Namespace, cache_dir: Path) -> list[Import]:
    name = " ".join(arguments.name.split())
    if not name:
        raise InputError("--name is empty: it is what tables call the system")
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed} must be at least 0")
    source = Source(
        name, arguments.split, arguments.part, arguments.seed, arguments.description, arguments.url
    )
    given, others = read_outputs(arguments.file.expanduser())
    if others:
        print(f"left out, no predictions: {', '.join(others)}", file=sys.stderr)
    golds = _golds(arguments)
    made = []
    for option, outputs in choose(given, arguments.task):
        if golds is not None and option not in golds:
            raise InputError(f"{arguments.golds} holds no golds for {option}")
        its_golds = None if golds is None else golds[option]
        made.append(joined(source, option, outputs, its_golds, arguments.data_dir, cache_dir))
    return made


def _golds(arguments: argparse.Namespace) -> dict[str, Outputs] | None:
    """The golds that were given, by task; None without any."""
    if arguments.golds is None:
        return None
    given, _ = read_outputs(arguments.golds.expanduser())
    return dict(choose(given, arguments.task))
