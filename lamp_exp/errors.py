"""What errors say, as a person is told it."""

from __future__ import annotations


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, which may be empty."""
    return str(error).strip().split("\n", 1)[0]
