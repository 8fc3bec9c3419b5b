"""`python -m lamp_exp.cache VERB`: what is kept between runs, whether it is whole, removing it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lamp_exp.environment import end_with_the_reader
from lamp_exp.errors import InputError
from lamp_exp.storage.inventory import Entry, entries, leftovers, remove, shard_fault, size

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
VERBS = {
    "list": "tell what is kept, how large it is, when it was last used and what it is for",
    "verify": "check every file; exit code 1 if one is damaged",
    "prune": "remove what is damaged, and what killed jobs left",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a mistake of the user's ends in one line and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        run = {"list": _list, "verify": _verify, "prune": _prune}[options.verb]
        return run(_cache(options.output_dir), options)
    except (InputError, OSError) as error:
        print(f"lamp_exp.cache {options.verb}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.cache", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, words in VERBS.items():
        made = verbs.add_parser(verb, help=words, description=words)
        where = "as given to runs (default: outputs)"
        made.add_argument("--output-dir", type=Path, default=Path("outputs"), help=where)
        if verb == "prune":
            _add_choices(made)
    return parser


def _add_choices(prune: argparse.ArgumentParser) -> None:
    old = "also what was not used for so long: 12h, 30d, 8w (but never answers of APIs)"
    prune.add_argument("--older-than", metavar="TIME", help=old)
    prune.add_argument("--all", action="store_true", help="all, and the answers of APIs, too")
    prune.add_argument("--dry-run", action="store_true", help="only tell what would be removed")


def _cache(output_dir: Path) -> Path:
    folder = output_dir.expanduser()
    if not folder.is_dir():
        raise InputError(f"{output_dir} is no folder: give --output-dir as the runs had it")
    return folder / ".cache"


def _list(cache: Path, _: argparse.Namespace) -> int:
    found = entries(cache)
    for entry in found:
        place = entry.path.relative_to(cache)
        print(f"{_bytes(entry.size):>9}  {_time(entry.age):>4}  {place}\n{'':17}{entry.told()}")
    left = leftovers(cache)
    if left:
        print(f"{_bytes(_sum(path for path, _ in left)):>9}  left by killed jobs: see prune")
    print(f"{_bytes(_sum([cache])):>9}  in all, below {cache}")
    return 0


def _verify(cache: Path, _: argparse.Namespace) -> int:
    found = entries(cache)
    faults = [fault for entry in found if (fault := entry.fault())]
    for fault in faults:
        print(f"damaged: {fault}", file=sys.stderr)
    print(f"{len(found) - len(faults)} of {len(found)} are whole")
    return 1 if faults else 0


def _prune(cache: Path, options: argparse.Namespace) -> int:
    """Says each thing that it removes, or would; what is in use stays."""
    oldest = None if options.older_than is None else seconds(options.older_than)
    freed = 0
    doomed = [("left over", path, lock) for path, lock in leftovers(cache)]
    for entry in entries(cache):
        doomed += _doomed(entry, oldest, options.all)
    for why, path, lock in doomed:
        bytes = size(path)
        gone = options.dry_run or remove(path, lock)
        freed += bytes if gone else 0
        place = path.relative_to(cache)
        print(f"{_bytes(bytes):>9}  {place} ({why if gone else 'in use: it stays'})")
    print(f"{_bytes(freed):>9}  {'would be freed' if options.dry_run else 'freed'}")
    return 0


def _doomed(
    entry: Entry, oldest: float | None, everything: bool
) -> list[tuple[str, Path, Path | None]]:
    """What goes of an entry, and why: all of it, or only damaged shards."""
    old = oldest is not None and entry.age > oldest
    paid = entry.kind == "answers"  # they cost money, and are not removed by the way
    if everything or (old and not paid):
        return [("all" if everything else "old", entry.path, entry.lock)]
    if paid or not entry.fault():
        return []
    shards = [path for path in sorted(entry.path.glob("*.arrow")) if shard_fault(path)]
    if entry.kind == "vectors" and shards:
        return [("damaged", path, entry.lock) for path in shards]
    return [("damaged", entry.path, entry.lock)]


def seconds(text: str) -> float:
    """A duration such as 12h or 30d; raises InputError for another."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not found:
        raise InputError(f"--older-than {text}: give a number and m, h, d or w, such as 30d")
    return float(found[1]) * SECONDS[found[2]]


def _sum(paths: Iterable[Path]) -> int:
    return sum(map(size, paths))


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(age: float) -> str:
    for unit in ("w", "d", "h"):
        if age >= 2 * SECONDS[unit]:
            return f"{age / SECONDS[unit]:.0f}{unit}"
    return f"{age / 60:.0f}m"


if __name__ == "__main__":
    end_with_the_reader()
    sys.exit(main())
