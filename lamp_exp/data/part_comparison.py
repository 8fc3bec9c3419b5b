"""Compares a part with published sizes and with the other parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lamp_exp.data.arguments import PARTS, SIZES
from lamp_exp.data.examine import Examined

SKETCH = 8  # hashes by which profiles that may be alike are found
ALIKE = 0.5  # of the items of two profiles, so many must be common to both


def compare_size(one: Examined) -> None:
    """With the published one; a file that was not read to its end has no size."""
    if not one.complete:
        return
    sizes = SIZES.get((one.target.option, one.target.split))
    if sizes is None:
        one.findings.add("size_unknown", count=one.questions)
        return
    expected = sizes[PARTS.index(one.target.part)]
    if one.questions != expected:
        one.findings.add("size_differs", count=one.questions, expected=expected)


def compare_parts(parts: Sequence[Examined]) -> None:
    """What the parts of one task and split, in their order, say about each other's users."""
    for number, later in enumerate(parts):
        earlier = parts[:number]
        if later.target.split == "time":
            _new_users(later, [one for one in earlier if one.target.part == "train"])
        else:
            _shared_users(later, earlier)
            _shared_profiles(later, earlier)


def _new_users(later: Examined, train: Sequence[Examined]) -> None:
    for one in train:
        for user in sorted(later.users - one.users):
            later.findings.add("users_new", at={"user": user})


def _shared_users(later: Examined, earlier: Sequence[Examined]) -> None:
    for user in sorted(later.users):
        parts = [one.target.part for one in earlier if user in one.users]
        if parts:
            later.findings.add("users_shared", at={"user": user, "also in": ", ".join(parts)})


def _shared_profiles(later: Examined, earlier: Sequence[Examined]) -> None:
    """Users without a name are known by their items; single items may be alike by chance."""
    twins = {one.target.part: dict(alike(later, one)) for one in earlier}
    for id in later.profiles:
        found = {f"question of {part}": twin[id] for part, twin in twins.items() if id in twin}
        if found:
            later.findings.add("profiles_shared", at={"question": id, **found})


def alike(later: Examined, earlier: Examined) -> Iterator[tuple[str, str]]:
    """Questions of `later`, each with one of `earlier` that has mostly the same items.

    Only those are compared that have one of their smallest hashes in common: of two profiles
    that are half the same, one in hundreds is missed.
    """
    index = defaultdict(list)
    for id, items in earlier.profiles.items():
        for item in items[:SKETCH]:
            index[item].append(id)
    for id, items in later.profiles.items():
        own = set(items)
        for other in dict.fromkeys(
            other for item in items[:SKETCH] for other in index.get(item, ())
        ):
            common = len(own.intersection(earlier.profiles[other]))
            if common > 1 and common >= ALIKE * (len(own) + len(earlier.profiles[other]) - common):
                yield id, other
                break
