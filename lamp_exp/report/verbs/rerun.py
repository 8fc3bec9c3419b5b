"""A run, made once more: do the numbers agree?"""

from __future__ import annotations

import argparse
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.report.arguments import add_named_runs
from lamp_exp.report.loading import Record, one_run
from lamp_exp.report.rerun_check import Repeat
from lamp_exp.results.schema import RunResult

AGREE, DIFFER, FAILED = 0, 1, 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run, and what becomes of its repeat."""
    add_named_runs(parser, "run")
    add = parser.add_argument
    add("--keep", type=Path, metavar="FOLDER", help="where to keep it (default: nowhere)")
    add("--allow-api", action="store_true", help="also ask a model behind an API, which may cost")
    parser.epilog = "exit code: 0 the numbers agree, 1 they differ, 2 it could not be repeated"


def run(options: argparse.Namespace) -> int:
    """Repeats it in a folder of its own, and tells what differs."""
    first = one_run(options.run, options.runs)
    _use_as_many_threads(first)
    with _place(options.keep, first) as output_dir:
        try:
            again = _again(first, output_dir, options.allow_api)
        except (InputError, OSError):
            raise  # one line
        except Exception:  # noqa: BLE001  (whatever a model may raise: it was not repeated)
            traceback.print_exc()
            return FAILED
        repeat = Repeat(first, again)
        print("\n".join(repeat.lines()))
        if options.keep:
            print(again.folder)
        return AGREE if repeat.agrees else DIFFER


def _use_as_many_threads(first: Record) -> None:
    """As the run did, unless told otherwise: sums round by how they are shared out."""
    if threads := first.result["model"].get("threads"):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch is not loaded yet


def _again(first: Record, output_dir: Path, allow_api: bool) -> Record:
    from lamp_exp.reproduction import run_again  # with all that runs need

    folder = run_again(RunResult.from_json(dict(first.result)), output_dir, allow_api)
    return Record(folder.path, folder.result())


@contextmanager
def _place(keep: Path | None, first: Record) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="lamp_exp-") as scratch:
            yield Path(scratch)
        return
    folder = keep.expanduser()
    if folder.resolve() == first.folder.resolve().parent:
        raise InputError(f"--keep {keep} is where the run itself lies: give another folder")
    yield folder
