"""`python -m lamp_exp.data download`: the official files, each of them whole or not at all."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2

from lamp_exp import __version__
from lamp_exp.contracts import Task
from lamp_exp.data.arguments import add_part_arguments, chosen_parts
from lamp_exp.data.fetch import Fetcher, Outcome, Wanted
from lamp_exp.data.retry import Patience
from lamp_exp.data.source import part_folder
from lamp_exp.errors import InputError

MIRROR = "https://ciir.cs.umass.edu/downloads/LaMP"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_part_arguments(parser)
    add("--data-dir", type=Path, required=True, help="where the files are put")
    add("--mirror", default=MIRROR, metavar="ADDRESS", help="where from (%(default)s)")
    add("--retries", type=int, default=5, help="tries in a row without progress (%(default)s)")
    add("--timeout", type=float, default=30.0, help="seconds without an answer (%(default)s)")
    add("--wait", type=float, default=1.0, help="seconds before the first retry (%(default)s)")
    add("--force", action="store_true", help="download again what is there")


def run(options: argparse.Namespace, tasks: Mapping[str, Task]) -> int:
    """Downloads what is asked for, one file at a time; 0 if all of it is there in the end."""
    wanted, mirror = wanted_files(options, tasks), _mirror(options.mirror)
    if options.retries < 0:
        raise InputError(f"--retries {options.retries}: give 0 or more")
    for name, seconds in (("timeout", options.timeout), ("wait", options.wait)):
        if not (math.isfinite(seconds) and seconds > 0):
            raise InputError(f"--{name} {seconds:g}: give a number of seconds above 0")
    data_dir = _make_folder(options.data_dir.expanduser())
    if any(file.changes for file in wanted):
        print("LaMP-6 holds only the names of mails: their text needs the Avocado corpus")
    headers = {"User-Agent": f"lamp_exp/{__version__}", "Accept-Encoding": "identity"}
    patience = Patience(options.retries, options.wait)
    with httpx2.Client(headers=headers, timeout=options.timeout, follow_redirects=True) as client:
        fetcher = Fetcher(client, mirror, data_dir, patience, options.force)
        code = report([fetcher.bring(file) for file in wanted])
    if code and not fetcher.answered:
        print(f"{mirror} did not answer: is there a network? --mirror names another server")
    return code


def wanted_files(options: argparse.Namespace, tasks: Mapping[str, Task]) -> list[Wanted]:
    """All files that the options name; the outputs of test are not public.

    The server has them where the loader looks first.
    """
    named = options.task or ()
    tasks = {name: task for name, task in tasks.items() if task.download != "none"}
    return [
        Wanted(
            path=f"{part_folder(Path(), split, tasks[task].folders[0], part)}/{part}_{kind}.json",
            optional=tasks[task].download == "optional" and task not in named,
            changes=task == "lamp6",
        )
        for task, split, part in chosen_parts(options, tasks)
        for kind in ("questions", "outputs")
        if (part, kind) != ("test", "outputs")
    ]


def report(outcomes: Sequence[Outcome]) -> int:
    """One line for each file, one for all of them; the command's exit code."""
    for outcome in outcomes:
        note = f": {outcome.note}" if outcome.note else ""
        print(f"{outcome.state:<11}  {outcome.path}{note}")
    states = Counter(outcome.state for outcome in outcomes)
    print(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    return 1 if states["failed"] else 0


def _mirror(address: str) -> str:
    """The address without its last slash; one with a password would end up in messages."""
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise InputError(f"--mirror {address!r} is no address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"--mirror {address!r}: give an address such as {MIRROR}")
    if url.userinfo or url.query or url.fragment:
        raise InputError("--mirror: give an address without user name, `?` and `#`")
    return address.rstrip("/")


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--data-dir {path} cannot be made ({error}): choose another") from error
    return path
