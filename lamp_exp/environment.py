"""Environment variables that are set for a while."""

from __future__ import annotations

import os
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
