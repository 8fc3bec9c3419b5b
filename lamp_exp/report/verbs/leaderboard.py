"""The official files of runs, checked against the questions and zipped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lamp_exp.report.arguments import add_runs, answered
from lamp_exp.report.leaderboard import Entry, entries, write


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, and where to."""
    add_runs(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER_OR_ZIP",
        help="a folder for a zip of each split and part, or one zip; a manifest lies beside",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="the questions, if they lie elsewhere now"
    )
    parser.add_argument(
        "--allow-sample", action="store_true", help="also the made-up sample, to try it out"
    )


def run(options: argparse.Namespace) -> int:
    """Checks everything, then writes; names each file with what to look at in it."""
    made = entries(answered(options), options.data_dir, options.allow_sample)
    paths = write(made, options.out.expanduser())
    for entry in made:
        print(_line(entry))
        if entry.data_changed:
            told = "its questions or golds have changed since it was run (the ids are the same)"
            print(f"{entry.record.name}: {told}", file=sys.stderr)
    print("\n".join(map(str, paths)))
    return 0


def _line(entry: Entry) -> str:
    counts = entry.counts
    odd = [
        f"{count} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and name != "questions"
    ]
    words = [f"{counts['questions']} questions", *odd]
    sample = "MADE-UP SAMPLE, " if entry.record.result["made_up_data"] else ""
    return f"{entry.archive}/{entry.file}: {sample}{', '.join(words)} ({entry.record.name})"
