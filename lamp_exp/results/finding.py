"""Finds the folders of runs: below an output folder, in a sweep, or a run's own folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.results.folder import RESULT, STATUS

UNFINISHED = "not finished"


def run_folders(places: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each folder that should hold a run, with what is wrong with it, if that is known."""
    for place in places:
        folder = place.expanduser()
        if not folder.is_dir():
            raise InputError(f"{place} is no folder: give --runs as output_dir was")
        if (folder / RESULT).is_file():
            yield folder, ""
        elif any(folder.glob(f"[0-9]*/{STATUS}")):
            yield from _runs_of_sweep(folder)
        else:
            inner = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
            for path in inner:
                if (path / RESULT).is_file():
                    yield path, ""
                elif (path / "config.yaml").is_file():
                    yield path, UNFINISHED


def _runs_of_sweep(sweep: Path) -> Iterator[tuple[Path, str]]:
    """The runs of a sweep's jobs: beside the sweep's folder, or where they were written."""
    for status in sorted(sweep.glob(f"[0-9]*/{STATUS}"), key=lambda p: int(p.parent.name)):
        try:
            content = json.loads(status.read_text(encoding="utf-8"))
            run, state = content["run"], content.get("state", "")
        except (ValueError, KeyError, TypeError) as error:
            yield status.parent, f"its {STATUS} cannot be read ({type(error).__name__})"
            continue
        if not run:
            yield status.parent, f"a job of the sweep that is {state or UNFINISHED}"
            continue
        places = (sweep.parent.parent / Path(run).name, Path(run))  # the output folder was moved
        folder = next((place for place in places if (place / RESULT).is_file()), places[-1])
        finished = (folder / RESULT).is_file()
        yield folder, "" if finished else f"a job of the sweep that is {state or UNFINISHED}"
