"""The error of a user's mistake, and how errors are quoted in one line."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the user gave.

    The message says in one line what is wrong, where, and what to do about it. The commands print
    it and exit with code 2.
    """


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, which may be empty."""
    return str(error).strip().split("\n", 1)[0]
