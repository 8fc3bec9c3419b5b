"""What surrounds a command: environment variables for a while, and who reads its output."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


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


def end_with_the_reader() -> None:
    """A command whose output nobody reads any more (`| head`) ends quietly, as others do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
