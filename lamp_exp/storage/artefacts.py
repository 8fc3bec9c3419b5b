"""Makes artefacts and keeps them: what is required first, each once, whole or not at all.

artefacts/feedback-7f3a…/           a finished artefact: its files, and artefact.json
artefacts/.feedback-7f3a….begun/    what an interrupted one has so far
artefacts/user_lora-0c1d…/units/KEY/    a unit of a keyed artefact, of which more can be added
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from lamp_exp.artefacts import WORK, Artefact, KeyedArtefact, Made, UnitWriter
from lamp_exp.errors import InputError
from lamp_exp.storage import atomic
from lamp_exp.storage.locks import exclusive

log = logging.getLogger("lamp_exp")
CONTENT, UNITS, BEGUN = "artefact.json", "units", ".begun"
FORMAT = 1  # increase it when the files change: older ones are then made again


class ArtefactStore:
    """Artefacts below a folder, for several processes at once."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder = folder

    def path(self, artefact: Artefact) -> Path:
        """Where a finished artefact is, named by its kind and its identity."""
        digest = hashlib.sha256(_canonical(artefact.identity())).hexdigest()[:20]
        return self.folder / f"{artefact.kind}-{digest}"

    def find(self, artefact: Artefact) -> Made | None:
        """The finished artefact; None if it, or a unit that is needed, is missing or damaged."""
        path = self.path(artefact)
        content = _read(path)
        if content is None or (isinstance(artefact, KeyedArtefact) and _missing(artefact, path)):
            return None
        return Made(artefact.kind, path, content["facts"], was_there=True)

    def make(self, artefact: Artefact) -> Made:
        """The artefact, which is made now if it is missing, after all that it requires.

        Of two processes that want the same one, one makes it and the other waits. Raises
        InputError if nothing can be written.
        """
        if found := self.find(artefact):
            atomic.touch(found.folder / CONTENT)
            return found
        required = [self.make(one).folder for one in artefact.requires()]
        path = self.path(artefact)
        try:
            with exclusive(path, waiting=log.info):
                found = self.find(artefact)
                return found or self._make(artefact, path, required)
        except atomic.Unwritable as error:
            raise InputError(f"{artefact.kind} cannot be kept: {error}") from error

    def _make(self, artefact: Artefact, path: Path, required: Sequence[Path]) -> Made:
        log.info("making %s: %s", artefact.kind, artefact.cost())
        start = perf_counter()
        begun = path.with_name(f".{path.name}{BEGUN}")
        if isinstance(artefact, KeyedArtefact):
            units = path / UNITS
            if not path.is_dir():  # appears with its content: others may look at it meanwhile
                (begun / UNITS).mkdir(parents=True, exist_ok=True)
                _write_content(begun, artefact, {})
                atomic.replace_folder(begun, path)
            atomic.remove_leftovers(units / "unit")
            keys = _missing(artefact, path)
            facts = artefact.make_units(keys, _Units(units), required)
            return Made(artefact.kind, path, {**facts, "seconds": _seconds(start)})
        # It is there if a process was killed between its last two steps.
        content = _read(begun) if (begun / CONTENT).is_file() else None
        if content is None:
            (begun / WORK).mkdir(parents=True, exist_ok=True)
            facts = artefact.make(begun, required)
            content = _write_content(begun, artefact, {**facts, "seconds": _seconds(start)})
        shutil.rmtree(begun / WORK, ignore_errors=True)
        atomic.replace_folder(begun, path)
        return Made(artefact.kind, path, content["facts"])


class _Units(UnitWriter):
    """Writes each unit into a temporary folder, which is then moved to its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def unit(self, key: str) -> Iterator[Path]:
        made = atomic.temporary(self.folder / "unit")
        made.mkdir()
        try:
            yield made
            atomic.replace_folder(made, self.folder / key)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _missing(artefact: KeyedArtefact, path: Path) -> list[str]:
    units = path / UNITS
    return [key for key in artefact.unit_keys() if not _is_whole(artefact, units / key)]


def _is_whole(artefact: KeyedArtefact, unit: Path) -> bool:
    """Whether a unit is there; one that is damaged is set aside."""
    if not unit.is_dir():
        return False
    try:
        artefact.check_unit(unit)
    except atomic.Damaged as error:
        atomic.report_damage(unit, error)
        return False
    return True


def _seconds(start: float) -> float:
    return round(perf_counter() - start, 3)


def _canonical(identity: Mapping[str, Any]) -> bytes:
    return json.dumps([FORMAT, identity], sort_keys=True, ensure_ascii=True).encode()


def _write_content(folder: Path, artefact: Artefact, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes what an artefact is, and the sizes of its files; returns what it wrote."""
    keyed = isinstance(artefact, KeyedArtefact)
    files = [] if keyed else [path for path in folder.rglob("*") if path.is_file()]
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in files
        if not path.is_relative_to(folder / WORK)
    }
    content = {
        "format": FORMAT,
        "kind": artefact.kind,
        "identity": dict(artefact.identity()),
        "facts": dict(facts),
        "units": artefact.cost().units,  # for estimates of others of its kind
        "files": sizes,
    }
    atomic.flush_tree(folder)
    atomic.write_json(folder / CONTENT, content)
    return content


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a finished artefact; what is damaged is set aside and counts as missing."""
    try:
        return read_artefact(path)
    except FileNotFoundError:
        return None
    except atomic.Damaged as error:
        atomic.report_damage(path, error)
        return None


def read_artefact(path: Path) -> dict[str, Any]:
    """What an artefact is, with its facts. Raises Damaged, or FileNotFoundError if it is none."""
    if not path.is_dir():
        raise FileNotFoundError(path)
    try:
        content = atomic.read_json(path / CONTENT)
    except FileNotFoundError as error:
        raise atomic.Damaged(f"it lacks {CONTENT}") from error
    for name, size in content["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            raise atomic.Damaged(f"{name} is missing, or has another size than it was written with")
    return content
