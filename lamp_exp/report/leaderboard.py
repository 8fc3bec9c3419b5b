"""Predictions as the LaMP leaderboard takes them: checked against the questions, and zipped.

The official scorer takes every JSON file of a zip for predictions, and tells tasks by their names
alone. So each split and part has a zip of its own, and the manifest lies beside the zips.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamp_exp import __version__
from lamp_exp.contracts import Task
from lamp_exp.data import Part, load
from lamp_exp.data.parse import is_id, some
from lamp_exp.data.source import read_json
from lamp_exp.errors import InputError
from lamp_exp.report.loading import PREDICTIONS, Record
from lamp_exp.report.selection import FACETS, facet, shown
from lamp_exp.results.folder import write_json
from lamp_exp.results.redaction import scrubbed
from lamp_exp.tasks import all_tasks

Id = str | int
EPOCH = (1980, 1, 1, 0, 0, 0)  # as the date of all files: the same runs make the same zip
TOLD = (
    "mode", "model", "retriever", "k", "skip", "augmentation", "selection", "control", "max_items",
    "before", "own_items", "fixes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One run's predictions, in the order of the questions and fit to be sent."""

    record: Record
    part: Part
    task: Task
    outputs: Mapping[Id, str]

    @property
    def archive(self) -> str:
        """The zip that it belongs to."""
        return f"lamp_{facet(self.record, 'split')}_{facet(self.record, 'part')}.zip"

    @property
    def file(self) -> str:
        """Its name in there."""
        return f"{self.task.name}.json"

    @property
    def content(self) -> bytes:
        """The official format, and nothing else."""
        golds = [{"id": id, "output": output} for id, output in self.outputs.items()]
        text = json.dumps({"task": self.task.name, "golds": golds}, ensure_ascii=False, indent=1)
        return text.encode()

    @property
    def counts(self) -> dict[str, int | None]:
        """What a person should look at before sending it; None where the run does not tell."""
        outputs, counts = list(self.outputs.values()), self.record.result["counts"]
        return {
            "questions": len(outputs),
            "empty": sum(not output.strip() for output in outputs),
            "unreadable": sum(not self.task.is_valid_output(output) for output in outputs),
            "at_the_token_limit": counts.get("outputs_at_the_token_limit"),
        }

    @property
    def data_changed(self) -> bool:
        """Whether the files (questions or golds) are no longer those that the run read."""
        return self.part.fingerprint != self.record.ground[1]


def entries(records: Sequence[Record], data_dir: str | None, allow_sample: bool) -> list[Entry]:
    """Each run's predictions, checked. Raises InputError that names the run and its fault.

    `data_dir` takes the place of the one that the runs were given.
    """
    _refuse_rivals(records)
    for record in records:
        if record.result["made_up_data"] and not allow_sample:
            raise InputError(
                f"{record.name} is of the made-up sample, not of LaMP: --allow-sample to try it out"
            )
        if (limit := facet(record, "limit")) is not None:
            raise InputError(f"{record.name} answers the first {limit} questions only (limit=)")
    return [_entry(record, data_dir) for record in records]


def _refuse_rivals(records: Sequence[Record]) -> None:
    known: dict[tuple[str, ...], Record] = {}
    for record in records:
        place = (record.result["task"], facet(record, "split"), facet(record, "part"))
        rival = known.setdefault(place, record)
        if rival is not record:
            raise InputError(
                f"{rival.name} and {record.name} are both {place[0]} of the {place[1]} split, "
                f"{place[2]}: choose one by --where {_apart(rival, record)}"
            )


def _apart(one: Record, other: Record) -> str:
    """A condition that only the first meets."""
    names = [key for key in FACETS if shown(facet(one, key)) != shown(facet(other, key))]
    return f"{names[0]}={shown(facet(one, names[0]))}" if names else "…, or by --runs FOLDER"


def _entry(record: Record, data_dir: str | None) -> Entry:
    task = all_tasks().get(record.task)
    if task is None:
        raise InputError(f"{record.name} is of task={record.task}, which is none of LaMP's")
    where = record.result["settings"].get("data_dir") if data_dir is None else data_dir
    where = None if record.result["made_up_data"] else where
    split, part = facet(record, "split"), facet(record, "part")
    try:
        asked = load(where, task, split, part, cache_dir=record.folder.parent / ".cache")
    except InputError as error:
        hint = "--data-dir tells where they lie now"
        raise InputError(
            f"{record.name}: its questions are not to be had ({hint}): {error}"
        ) from error
    ids = [asked.original_id(id) for id in asked.examples.column("id")]
    outputs = _read(record, task)
    _refuse_other_ids(record, ids, [id for id, _ in outputs])
    by_id = dict(outputs)
    return Entry(record, asked, task, {id: by_id[id] for id in ids})


def _read(record: Record, task: Task) -> list[tuple[Id, str]]:
    """The predictions with their ids as they are written: 5 is another id than "5"."""
    where = record.folder / PREDICTIONS
    content = read_json(where)
    rows = content.get("golds") if isinstance(content, dict) else None
    if not isinstance(rows, list) or content.get("task") != task.name:
        raise InputError(f'{where} is no {{"task": "{task.name}", "golds": [...]}}')
    for number, row in enumerate(rows, 1):
        good = isinstance(row, dict) and is_id(row.get("id")) and isinstance(row.get("output"), str)
        if not good:
            raise InputError(f"{where}: gold {number} must have an `id` and an `output` of text")
    return [(row["id"], row["output"]) for row in rows]


def _refuse_other_ids(record: Record, asked: Sequence[Id], given: Sequence[Id]) -> None:
    """The official scorer wants each question once, under the very id that it has."""
    repeated = [id for id, count in Counter(given).items() if count > 1]
    missing, extra = _without(asked, given), _without(given, asked)
    faults = [f"ids that occur more than once: {some(repeated)}"] if repeated else []
    if missing and {str(id) for id in missing} == {str(id) for id in extra}:
        faults.append(f"ids {some(extra)} are written as {some(missing)} in the questions")
    else:
        gone, odd = f"no prediction for {len(missing)} questions", "predictions without a question"
        faults += [f"{gone}: {some(missing)}"] if missing else []
        faults += [f"{len(extra)} {odd}: {some(extra)}"] if extra else []
    if faults:
        raise InputError(f"{record.name}: {'; '.join(faults)}")


def _without(ids: Sequence[Id], others: Sequence[Id]) -> list[Id]:
    known = set(others)
    return [id for id in ids if id not in known]


def write(entries: Sequence[Entry], out: Path) -> list[Path]:
    """The zips and their manifest: into a folder, or as one zip with the manifest beside it."""
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
        _zip([entry for entry in entries if entry.archive == name], place)
    told = [told_of(entry, places[entry.archive]) for entry in entries]
    write_json(manifest, {"made_by": f"lamp-exp {__version__}", "files": told})
    return [*places.values(), manifest]


def _zip(entries: Sequence[Entry], place: Path) -> None:
    """Whole or not at all."""
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    with zipfile.ZipFile(beside, "w") as archive:
        for entry in sorted(entries, key=lambda entry: entry.file):
            info = zipfile.ZipInfo(entry.file, EPOCH)
            archive.writestr(info, entry.content, zipfile.ZIP_DEFLATED)
    beside.replace(place)


def told_of(entry: Entry, place: Path) -> dict[str, Any]:
    """What the manifest tells of one file, without paths and keys."""
    record, result = entry.record, entry.record.result
    settings = {key: shown(facet(record, key)) for key in TOLD}
    name = (result["settings"].get("model") or {}).get("name")
    told = {
        "zip": place.name,
        "file": entry.file,
        "sha256": hashlib.sha256(entry.content).hexdigest(),
        "task": record.task,
        "split": result["split"],
        "part": result["part"],
        "run": record.name,
        "seed": record.seed,
        "settings": {**settings, "model.name": name},
        "counts": entry.counts,
        "made_up_data": result["made_up_data"],
        "data": {"fingerprint": entry.part.fingerprint, "changed_since": entry.data_changed},
        "code": dict(result["code"]),
    }
    cleaned: dict[str, Any] = scrubbed(told)
    return cleaned
