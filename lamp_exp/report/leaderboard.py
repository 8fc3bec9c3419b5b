"""The verb leaderboard: predictions as the LaMP leaderboard takes them, checked and zipped.

The official scorer takes every JSON file of a zip for predictions, and tells tasks apart by their
names alone. So each split and part has a zip of its own, and the manifest lies beside the zips.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamp_exp import __version__
from lamp_exp.contracts import Task
from lamp_exp.data import Part, load
from lamp_exp.data.official import format_ids, parse_outputs, read_json
from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, chosen
from lamp_exp.report.selection import FACETS, METHODS, SEPARATE, WEIGHTS, facet, shown
from lamp_exp.results.folder import PREDICTIONS
from lamp_exp.results.record import Record
from lamp_exp.results.redaction import scrubbed
from lamp_exp.storage.atomic import replacing, write_json
from lamp_exp.tasks import all_tasks
from lamp_exp.wording import count_of

Id = str | int
EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of all files, so that the same runs make the same zip


@dataclass(frozen=True, slots=True)
class Entry:
    """One run's predictions in the order of the questions, fit to be submitted."""

    record: Record
    part: Part
    task: Task
    outputs: Mapping[Id, str]

    @property
    def archive(self) -> str:
        return f"lamp_{self.record.result.split}_{self.record.result.part}.zip"

    @property
    def file(self) -> str:
        return f"{self.task.name}.json"

    @property
    def content(self) -> bytes:
        """The file in the official format."""
        golds = [{"id": id, "output": output} for id, output in self.outputs.items()]
        text = json.dumps({"task": self.task.name, "golds": golds}, ensure_ascii=False, indent=1)
        return text.encode()

    @property
    def counts(self) -> dict[str, int | None]:
        """What to look at before submitting; None where the record does not say."""
        outputs, counts = list(self.outputs.values()), self.record.result.counts
        return {
            "questions": len(outputs),
            "empty": sum(not output.strip() for output in outputs),
            **{
                name.removeprefix("outputs_"): count
                for name, count in self.task.output_counts(outputs).items()
            },
            "at_the_token_limit": counts.get("outputs_at_the_token_limit"),
        }

    @property
    def data_changed(self) -> bool:
        """Whether the questions or golds are no longer those that the run read."""
        return self.part.fingerprint != self.record.comparable_key[1]

    def line(self) -> str:
        """What is in the file, and what to look at in it."""
        words = [f"{n} {name.replace('_', ' ')}" for name, n in self.counts.items() if n]
        sample = "MADE-UP SAMPLE, " if self.record.result.made_up_data else ""
        return f"{self.archive}/{self.file}: {sample}{', '.join(words)} ({self.record.name})"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add = parser.add_argument
    out = "a folder for a zip of each split and part, or one zip; a manifest lies beside"
    add("--out", type=Path, required=True, metavar="FOLDER_OR_ZIP", help=out)
    add("--data-dir", metavar="DIR", help="the questions, if they lie elsewhere now")
    add("--allow-sample", action="store_true", help="also the made-up sample, to try it out")


def run(arguments: argparse.Namespace) -> int:
    """Checks everything, then writes; names each file with what to look at in it."""
    made = entries(chosen(arguments, answered=True), arguments.data_dir, arguments.allow_sample)
    paths = write(made, arguments.out.expanduser())
    for entry in made:
        print(entry.line())
        if entry.data_changed:
            text = "its questions or golds have changed since it was run (the ids are the same)"
            print(f"{entry.record.name}: {text}", file=sys.stderr)
    print("\n".join(map(str, paths)))
    return 0


def entries(records: Sequence[Record], data_dir: str | None, allow_sample: bool) -> list[Entry]:
    """Each run's predictions, checked. Raises InputError that names the run and its fault.

    `data_dir` replaces the data folder that the runs were given.
    """
    known: dict[tuple[str, ...], Record] = {}
    for record in records:
        place = (record.result.task, record.result.split, record.result.part)
        rival = known.setdefault(place, record)
        if rival is not record:
            raise InputError(
                f"{rival.name} and {record.name} are both {place[0]} of the {place[1]} split, "
                f"{place[2]}: choose one by --where {_apart(rival, record)}"
            )
    for record in records:
        if record.result.made_up_data and not allow_sample:
            raise InputError(
                f"{record.name} is of the made-up sample, not of LaMP: --allow-sample to try it out"
            )
        if (limit := facet(record, "limit")) is not None:
            raise InputError(
                f"{record.name} answers the first {count_of(limit, 'question')} only (limit=)"
            )
    return [_entry(record, data_dir) for record in records]


def _apart(one: Record, other: Record) -> str:
    """A condition that only the first meets."""
    names = [key for key in FACETS if shown(facet(one, key)) != shown(facet(other, key))]
    return f"{names[0]}={shown(facet(one, names[0]))}" if names else "…, or by --runs FOLDER"


def _entry(record: Record, data_dir: str | None) -> Entry:
    result, task = record.result, all_tasks().get(record.task)
    if task is None:
        raise InputError(f"{record.name} is of task={record.task}, which is none of LaMP's")
    where = result.settings.get("data_dir")
    if where is not None and data_dir is not None:  # a run on the built-in sample has no folder
        where = data_dir
    cache = record.folder.parent / ".cache"
    try:
        asked = load(where, task, result.split, result.part, cache_dir=cache)
    except InputError as error:
        hint = "--data-dir tells where they lie now"
        raise InputError(
            f"{record.name}: its questions cannot be read ({hint}): {error}"
        ) from error
    ids = [asked.original_id(id) for id in asked.examples.column("id")]
    path = record.folder / PREDICTIONS
    outputs = parse_outputs(read_json(path), str(path))
    if outputs.task != task.name:
        raise InputError(f"{path} is of task {outputs.task}, not {task.name}")
    by_id = {  # ids as they are written: 5 is another one than "5"
        int(id) if id in outputs.numeric_ids else id: output for id, output in outputs.by_id.items()
    }
    _refuse_other_ids(record, ids, list(by_id))
    return Entry(record, asked, task, {id: by_id[id] for id in ids})


def _refuse_other_ids(record: Record, asked: Sequence[Id], given: Sequence[Id]) -> None:
    """Raises InputError unless each question is answered, under exactly its id."""
    asked_ids, given_ids = set(asked), set(given)
    missing = [id for id in asked if id not in given_ids]
    extra = [id for id in given if id not in asked_ids]
    faults = []
    if missing and {*map(str, missing)} == {*map(str, extra)}:
        faults.append(
            f"ids {format_ids(extra)} are written as {format_ids(missing)} in the questions"
        )
    else:
        gone = f"no prediction for {count_of(len(missing), 'question')}"
        odd = f"{count_of(len(extra), 'prediction')} without a question"
        faults += [f"{gone}: {format_ids(missing)}"] if missing else []
        faults += [f"{odd}: {format_ids(extra)}"] if extra else []
    if faults:
        raise InputError(f"{record.name}: {'; '.join(faults)}")


def write(entries: Sequence[Entry], out: Path) -> list[Path]:
    """Writes zips and their manifest into a folder, or one zip with the manifest beside it.

    Returns their paths. Raises InputError if one zip is asked for and several are needed.
    """
    archives = sorted({entry.archive for entry in entries})
    if out.suffix.lower() != ".zip":
        if out.is_file():
            raise InputError(f"--out {out} is a file: give a folder, or a name that ends with .zip")
        places, manifest = {name: out / name for name in archives}, out / "manifest.json"
    elif len(archives) > 1:
        parts = ", ".join(name.removesuffix(".zip") for name in archives)
        raise InputError(
            f"one zip holds one split and part, and these are {parts}: give --out a folder, or "
            "choose by --where split=… part=…"
        )
    else:
        places, manifest = {archives[0]: out}, out.with_name(f"{out.stem}.manifest.json")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for name, place in places.items():
        with replacing(place) as path, zipfile.ZipFile(path, "w") as archive:
            for entry in sorted(entries, key=lambda entry: entry.file):
                if entry.archive == name:
                    info = zipfile.ZipInfo(entry.file, EPOCH)
                    archive.writestr(info, entry.content, zipfile.ZIP_DEFLATED)
    files = [manifest_of(entry, places[entry.archive]) for entry in entries]
    write_json(manifest, {"made_by": f"lamp-exp {__version__}", "files": files})
    return [*places.values(), manifest]


def manifest_of(entry: Entry, place: Path) -> dict[str, Any]:
    """The manifest's facts about one file, without paths and keys."""
    record, result = entry.record, entry.record.result
    settings = {key: shown(facet(record, key)) for key in (*METHODS, *SEPARATE)}
    cleaned: dict[str, Any] = scrubbed({
        "zip": place.name,
        "file": entry.file,
        "sha256": hashlib.sha256(entry.content).hexdigest(),
        "task": record.task,
        "split": result.split,
        "part": result.part,
        "run": record.name,
        "seed": record.seed,
        "settings": {**settings, "model.name": settings[WEIGHTS]},
        "counts": entry.counts,
        "made_up_data": result.made_up_data,
        "data": {"fingerprint": entry.part.fingerprint, "changed_since": entry.data_changed},
        "code": result.code.known(),
    })  # fmt: skip
    return cleaned
