"""Command-line arguments shared by the verbs of `python -m lamp_exp.data`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Collection, Iterable, Sequence

from lamp_exp.errors import InputError

SPLITS = ("user", "time")
PARTS = ("train", "dev", "test")
# The published numbers of questions of each part, by the task's option and the split.
SIZES = {
    ("lamp1", "user"): (9682, 2500, 2500), ("lamp1", "time"): (6542, 1500, 1500),
    ("lamp2", "user"): (3820, 692, 870), ("lamp2", "time"): (5073, 1410, 1557),
    ("lamp3", "user"): (20000, 2500, 2500), ("lamp3", "time"): (20000, 2500, 2500),
    ("lamp4", "user"): (12527, 1925, 2376), ("lamp4", "time"): (12500, 1500, 1800),
    ("lamp5", "user"): (9682, 2500, 2500), ("lamp5", "time"): (14682, 1500, 1500),
    ("lamp6", "user"): (4840, 1353, 1246), ("lamp6", "time"): (4821, 1250, 1250),
    ("lamp7", "user"): (10437, 1500, 1496), ("lamp7", "time"): (13437, 1498, 1500),
}  # fmt: skip


def add_part_arguments(parser: argparse.ArgumentParser, tasks: bool = True) -> None:
    """Adds --task, --split and --part, each of which takes several names and may be repeated."""
    names = {"task": "lamp1 ... lamp7, lamp2_news"} if tasks else {}
    for name, choices in {**names, "split": "user, time", "part": "train, dev, test"}.items():
        parser.add_argument(
            f"--{name}", nargs="+", action="extend", metavar=name.upper(),
            help=f"{choices}; several allowed, by default all",
        )  # fmt: skip


def chosen_parts(
    options: argparse.Namespace, tasks: Collection[str]
) -> Iterable[tuple[str, str, str]]:
    """The names of each task, split and part that the options choose."""
    return itertools.product(
        select_names("task", options.task, tasks),
        select_names("split", options.split, SPLITS),
        select_names("part", options.part, PARTS),
    )


def select_names(option: str, given: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """The names given, or all, in the order of `known`; InputError for unknown ones."""
    unknown = [name for name in given or () if name not in known]
    if unknown:
        raise InputError(f"--{option} {unknown[0]}: choose from {', '.join(known)}")
    return [name for name in known if not given or name in given]
