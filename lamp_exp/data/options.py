"""What the verbs of `python -m lamp_exp.data` have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lamp_exp.types import InputError

SPLITS = ("user", "time")
PARTS = ("train", "dev", "test")


def chosen(option: str, given: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """The names given, or all there are, in the order of `known`; InputError for others."""
    odd = [name for name in given or () if name not in known]
    if odd:
        raise InputError(f"--{option} {odd[0]}: choose from {', '.join(known)}")
    return [name for name in known if not given or name in given]
