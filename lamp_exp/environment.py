"""Prepares the process: environment variables, terminal, home folder, interrupts."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


@contextmanager
def environment(variables: Mapping[str, str], unless_set: bool = False) -> Iterator[None]:
    """Within it they have these values; with `unless_set`, what the user has set stays."""
    kept = os.environ.keys() if unless_set else set()
    chosen = {name: value for name, value in variables.items() if name not in kept}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Within it no search for garbage in cycles, where much is made and little thrown away."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


KNOWN_WARNINGS = (
    "The `srun` command is available",  # Lightning's advice: hydra/launcher=slurm does what it says
    ".*does not have many workers",  # Lightning's advice: on CPUs they would compete
    "Checkpoint directory .* is not empty",  # Lightning's: training is resumed
    ".*LeafSpec",  # Lightning's own call of torch
    ".is_gradient_checkpointing. is deprecated",  # peft's own call of transformers
)


def ignore_known_warnings() -> None:
    """Hides warnings of libraries that tell a user nothing.

    Lasts as long as Python's filters of warnings do: until the end of `warnings.catch_warnings`.
    """
    for pattern in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def prepare_process() -> None:
    """Makes a command work in any terminal, and without a home folder.

    A character that the terminal's encoding lacks is shown as `?`. Libraries that look for a home
    folder fail where neither HOME nor an entry of the user names one: they are given the folder
    for temporary files.

    At its end the interpreter would search all objects of the libraries for garbage, which takes
    seconds: they are kept from that search.
    """
    ignore_known_warnings()
    atexit.unregister(gc.freeze)  # in case it was called before
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception stands for Ctrl-C; Lightning turns it into a SystemExit."""
    context = error.__context__ if isinstance(error, SystemExit) else None
    return isinstance(error, KeyboardInterrupt) or isinstance(context, KeyboardInterrupt)


def end_with_the_reader() -> None:
    """A command whose output nobody reads any more (`| head`) ends quietly, as others do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs a command in any terminal, and exits with its code."""
    prepare_process()
    end_with_the_reader()
    sys.exit(main())
