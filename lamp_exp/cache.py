"""`python -m lamp_exp.cache VERB`: lists, checks and removes what is kept between runs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lamp_exp.environment import run_command
from lamp_exp.errors import InputError
from lamp_exp.results.folder import RESULT, RunFolder
from lamp_exp.storage.inventory import (
    damaged_shards,
    entries,
    leftovers,
    remove,
    seconds_since_use,
    size,
    unfinished,
)

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
VERBS = {
    "list": "show what is kept: size, time since its last use, purpose",
    "verify": "check every file; exit code 1 if one is damaged",
    "prune": "remove damaged files, and what killed jobs left behind in the cache",
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
    old = "also what was not used for this time: 12h, 30d, 8w (but never answers of APIs)"
    prune.add_argument("--older-than", metavar="TIME", help=old)
    prune.add_argument("--all", action="store_true", help="everything, answers of APIs included")
    killed = "also runs and artefacts that did not finish, from which the same command would go on"
    prune.add_argument("--unfinished", action="store_true", help=f"{killed} (see --older-than)")
    prune.add_argument("--dry-run", action="store_true", help="only print what would be removed")


def _cache(output_dir: Path) -> Path:
    folder = output_dir.expanduser()
    if not folder.is_dir():
        raise InputError(f"{output_dir} is no folder: give --output-dir as the runs had it")
    return folder / ".cache"


def _list(cache: Path, _: argparse.Namespace) -> int:
    for entry in entries(cache):
        place = entry.path.relative_to(cache)
        print(f"{_bytes(size(entry.path)):>9}  {_time(entry.age):>4}  {place}")
        print(f"{'':17}{entry.description()}")
    left = leftovers(cache)
    if left:
        print(f"{_bytes(sum(map(size, left))):>9}  left by killed jobs, or damaged: see prune")
    if begun := unfinished(cache):
        print(f"{_bytes(sum(map(size, begun))):>9}  of artefacts begun: see prune --unfinished")
    print(f"{_bytes(size(cache)):>9}  in all, below {cache}")
    return 0


def _verify(cache: Path, _: argparse.Namespace) -> int:
    checked = entries(cache)
    faults = [fault for entry in checked if (fault := entry.fault())]
    for fault in faults:
        print(f"damaged: {fault}", file=sys.stderr)
    print(f"{len(checked) - len(faults)} of {len(checked)} are whole")
    return 1 if faults else 0


def _prune(cache: Path, options: argparse.Namespace) -> int:
    """Prints each path that it removes, or would remove; what is in use stays."""
    oldest = None if options.older_than is None else seconds(options.older_than)
    freed = 0
    begun = _begun(cache, oldest) if options.unfinished or options.all else ()
    for path, reason in (*_removals(cache, oldest, options.all), *begun):
        bytes = size(path)
        removed = options.dry_run or remove(path)
        freed += bytes if removed else 0
        reason = reason if removed else "in use: it stays"
        print(f"{_bytes(bytes):>9}  {path.relative_to(cache)} ({reason})")
    for run in _unfinished(cache.parent, oldest) if options.unfinished else ():
        bytes = size(run.path)
        removed = options.dry_run or run.remove()
        freed += bytes if removed else 0
        reason = "a run that did not finish" if removed else "in use: it stays"
        print(f"{_bytes(bytes):>9}  {run.path} ({reason})")
    print(f"{_bytes(freed):>9}  {'would be freed' if options.dry_run else 'freed'}")
    return 0


def _removals(cache: Path, oldest: float | None, everything: bool) -> Iterator[tuple[Path, str]]:
    """What is to be removed, and why. Answers cost money: only `everything` includes them."""
    for path in leftovers(cache):
        if everything or "answers" not in path.name:
            yield path, "left over"
    for entry in entries(cache):
        if everything:
            yield entry.path, "all"
        elif entry.kind.name == "answers":
            continue
        elif oldest is not None and entry.age > oldest:
            yield entry.path, "old"
        elif entry.fault():
            shards = damaged_shards(entry.path) if entry.kind.name == "vectors" else {}
            yield from ((path, "damaged") for path in shards or [entry.path])


def _begun(cache: Path, oldest: float | None) -> Iterator[tuple[Path, str]]:
    """The artefacts that were begun, not touched for at least `oldest` seconds."""
    for path in unfinished(cache):
        if oldest is None or seconds_since_use(path.rglob("*")) > oldest:
            yield path, "an artefact that did not finish"


def _unfinished(output_dir: Path, oldest: float | None) -> Iterator[RunFolder]:
    """The folders of runs that were begun, not touched for at least `oldest` seconds."""
    for path in sorted(output_dir.glob("*/config.yaml")):
        age = seconds_since_use(path.parent.rglob("*"))
        if not (path.parent / RESULT).is_file() and (oldest is None or age > oldest):
            yield RunFolder(path.parent)


def seconds(text: str) -> float:
    """A duration such as 12h or 30d; raises InputError for another."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not found:
        raise InputError(f"--older-than {text}: give a number and m, h, d or w, such as 30d")
    return float(found[1]) * SECONDS[found[2]]


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
    run_command(main)
