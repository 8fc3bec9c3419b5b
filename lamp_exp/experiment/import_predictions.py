"""Imports predictions made elsewhere: checks, scores and records them.

What is not known of them (which items they were made with, what they cost) is null in the record.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data import Part, load
from lamp_exp.data.official import format_ids, parse_outputs, read_json
from lamp_exp.data.stream import parse_json
from lamp_exp.errors import InputError
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.identity import identity_hash
from lamp_exp.experiment.run import Provenance, metric_facts, part_facts
from lamp_exp.experiment.stages import StageResults, question_columns
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.provenance import commit, versions
from lamp_exp.results.schema import IMPORTED, CodeVersion, ImportSource, RunResult
from lamp_exp.score import refuse_other_ids
from lamp_exp.tasks import all_tasks
from lamp_exp.values import Prediction, ProfileOptions, Prompt, Scores

UNKNOWN = (
    "items_lost", "texts_cut", "passages_cut", "prompt_tokens", "output_tokens", "output_capped",
)  # fmt: skip
NOTE = "predictions made elsewhere, imported"


@dataclass(frozen=True, slots=True)
class Source:
    """What is said of predictions: whose they are, and of which questions."""

    name: str
    split: str
    part: str
    seed: int = 0
    description: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """One official file: the task that it names, if it names one, and the output by id.

    `file` is what was given: itself, or the zip that holds it.
    """

    file: Path
    where: str
    task: str | None
    by_id: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Import:
    """Predictions of one task, joined to their questions; `targets` None where no gold is known."""

    source: Source
    option: str
    task: Task
    part: Part
    file: str  # its name
    golds_file: str | None  # the name of the one that was given with it
    outputs: Sequence[str]
    targets: Sequence[str] | None
    own_golds: bool  # known from that file only
    data_dir: str | None

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this run and no other."""
        ids = self.part.examples.column("id")
        what: dict[str, Any] = {
            "mode": IMPORTED,
            "task": self.option,
            "model.name": self.source.name,
            "split": self.source.split,
            "part": self.source.part,
            "seed": self.source.seed,
            "data.asked": self.part.fingerprint,
            "predictions": _hash([ids, list(self.outputs)]),
        }
        return what | ({"golds": _hash(self.targets)} if self.own_golds else {})

    @property
    def stem(self) -> str:
        """The folder's name without the identity."""
        source = self.source
        name = re.sub(r"[^\w.]+", "_", source.name).strip("_.")[:40] or "system"
        words = [self.option, source.split, source.part, IMPORTED, name, f"s{source.seed}"]
        return "-".join(words)


def _hash(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_outputs(file: Path) -> tuple[list[Outputs], list[str]]:
    """The official files in `file`: itself, or those of a zip; and the names of other JSON there.

    Raises InputError for what cannot be read, or holds none.
    """
    if not zipfile.is_zipfile(file):
        return [_outputs(read_json(file), file, str(file))], []
    found, others = [], []
    for name, content in _jsons(file):
        if isinstance(content, dict) and "golds" in content:
            found.append(_outputs(content, file, f"{file}/{name}"))
        else:
            others.append(name)
    if not found:
        raise InputError(f'{file} holds no file like {{"task": "LaMP_n", "golds": [...]}}')
    return found, others


def _jsons(file: Path) -> Iterator[tuple[str, Any]]:
    """Without what macOS puts beside."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".json") and not name.startswith("__MACOSX/"):
                try:
                    yield name, parse_json(archive.read(name))
                except (ValueError, RuntimeError, zipfile.BadZipFile) as error:  # or locked
                    raise InputError(f"{file}/{name} cannot be read as JSON ({error})") from error


def _outputs(content: object, file: Path, where: str) -> Outputs:
    outputs = parse_outputs(content, where)
    return Outputs(file, where, outputs.task, outputs.by_id)


def choose(given: Sequence[Outputs], option: str | None) -> list[tuple[str, Outputs]]:
    """For each file the task's option: the one that is asked for, or the one that the file names.

    LaMP-2 is two tasks of one name: without `option`, the movies are meant.
    """
    tasks = all_tasks()
    if option is not None and option not in tasks:
        raise InputError(f"--task {option}: choose from {', '.join(tasks)}")
    chosen: dict[str, Outputs] = {}
    for one in given:
        name = _option(one, option, tasks)
        if name in chosen:
            raise InputError(f"{chosen[name].where} and {one.where} are both of {name}")
        if name:
            chosen[name] = one
    if not chosen:
        named = ", ".join(sorted({str(one.task) for one in given}))
        raise InputError(f"--task {option}: {given[0].where} is of {named}")
    return list(chosen.items())


def _option(one: Outputs, option: str | None, tasks: Mapping[str, Task]) -> str:
    """Empty for a file of another task than the one that is asked for."""
    if one.task is None:
        if option is None:
            raise InputError(f"{one.where} names no `task`: give --task lamp1 … lamp7")
        return option
    if option is not None:
        return option if tasks[option].name == one.task else ""
    fitting = [name for name, task in tasks.items() if task.name == one.task]
    if not fitting:
        raise InputError(f"{one.where} is of task {one.task!r}, which is none of LaMP's")
    return fitting[0]


def joined(
    source: Source,
    option: str,
    given: Outputs,
    golds: Outputs | None,
    data_dir: str | None,
    cache_dir: Path,
) -> Import:
    """The predictions beside their questions. InputError names ids that do not meet."""
    task = all_tasks()[option]
    part = load(data_dir, task, source.split, source.part, cache_dir=cache_dir)
    ids = part.examples.column("id")
    _refuse_other_ids(given, ids)
    known = part.examples.column("target") if part.has_golds else None
    targets = known if golds is None else _targets(golds, ids, task)
    if known is not None and targets != known:
        assert targets, "known golds are replaced by given ones only"
        pairs = zip(ids, known, targets, strict=True)
        odd = format_ids([id for id, own, other in pairs if own.strip() != other.strip()])
        if odd:
            raise InputError(f"the golds of {odd} differ from those beside {part.source}")
        targets = known
    outputs = [given.by_id[id] for id in ids]
    files = (given.file.name, None if golds is None else golds.file.name)
    own = targets is not None and known is None
    return Import(source, option, task, part, *files, outputs, targets, own, data_dir)


def _refuse_other_ids(given: Outputs, ids: Sequence[str]) -> None:
    try:
        refuse_other_ids(ids, given.by_id, "question")
    except InputError as error:
        raise InputError(f"{given.where}: {error}") from error


def _targets(golds: Outputs, ids: Sequence[str], task: Task) -> list[str]:
    if golds.task not in (None, task.name):
        raise InputError(f"{golds.where} is of task {golds.task}, not {task.name}")
    _refuse_other_ids(golds, ids)
    odd = [id for id in ids if not task.is_valid_output(golds.by_id[id])]
    if odd:
        raise InputError(
            f"{golds.where}: the golds of {format_ids(odd)} are no answers to {task.name}"
        )
    return [golds.by_id[id] for id in ids]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An imported run: `done` now, or `there` already; and the runs whose place it takes."""

    folder: RunFolder
    state: str
    replaced: Sequence[str]


def record_import(one: Import, output_dir: Path) -> Recorded:
    """Scores and writes what is not recorded yet.

    Older predictions of the same system, questions and seed are marked as stale: the ones that
    were imported last count.
    """
    folder = RunFolder(output_dir / f"{one.stem}-{identity_hash(one.identity)}")
    provenance = Provenance(code_fingerprint(StageResults, one.task), versions())
    with folder.lock():
        recorded = folder.finished_result()
        there = recorded is not None and recorded.code.fingerprint == provenance.code
        if there:
            folder.mark_stale(None)
        else:
            replacement = folder.replacement()
            _write(one, replacement, provenance)
            replacement.replace(folder)
    return Recorded(folder, "there" if there else "done", _mark_superseded(folder, one))


def _mark_superseded(folder: RunFolder, one: Import) -> list[str]:
    """Marks older imports of the same system as stale; returns their names."""
    superseded = []
    for other, result in folder.others_of_its_name():
        if _same_system(result.identity, one.identity):
            superseded += [] if result.stale else [other.name]
            other.mark_stale(
                f"other predictions of this system have been imported since: {folder.name}"
            )
    return superseded


def _same_system(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def kept(identity: Mapping[str, Any]) -> dict[str, Any]:
        varying = ("predictions", "golds", "data")
        return {n: v for n, v in identity.items() if n.partition(".")[0] not in varying}

    return kept(one) == kept(other)


def _write(one: Import, folder: RunFolder, provenance: Provenance) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    settings = _settings(one)
    folder.start(settings, {"code": provenance.code, "versions": provenance.versions})
    ids = one.part.examples.column("id")
    predictions = [Prediction(id, output) for id, output in zip(ids, one.outputs, strict=True)]
    outputs = [(one.part.original_id(p.id), p.output) for p in predictions]
    folder.write_predictions(one.task.name, outputs)
    scores = None if one.targets is None else one.task.score(one.outputs, one.targets)
    unknown: list[Any] = [None] * len(ids)
    columns = {
        **question_columns(one.part),
        "target": list(one.targets or unknown),
        "top_similarity": unknown,
    }
    empty = [Prompt(id, ()) for id in ids]
    folder.write_examples(columns, empty, predictions, scores, UNKNOWN)
    (folder.path / "run.log").touch()
    folder.write_result(_result(one, folder, started, scores, settings, provenance))


def _settings(one: Import) -> dict[str, Any]:
    source = one.source
    return {
        "task": {"_target_": f"{type(one.task).__module__}.{type(one.task).__qualname__}"},
        "model": {"name": source.name},
        "split": source.split,
        "part": source.part,
        "mode": IMPORTED,
        "k": None,
        "seed": source.seed,
        "data_dir": one.data_dir,
        "limit": None,
        "fixes": "none",
        "profile": asdict(ProfileOptions()),
    }


def _result(
    one: Import,
    folder: RunFolder,
    started: str,
    scores: Scores | None,
    settings: Mapping[str, Any],
    provenance: Provenance,
) -> RunResult:
    source, part = one.source, one.part
    counts = part.facts.counts() | {"outputs_empty": sum(not o.strip() for o in one.outputs)}
    counts |= {**one.task.output_counts(one.outputs), **(scores.notes if scores else {})}
    names = {"task": one.option, "model": source.name, "retriever": None, "augmentation": None}
    return RunResult(
        run=folder.name,
        started=started,
        task=one.task.name,
        choices=names,
        split=source.split,
        part=source.part,
        mode=IMPORTED,
        k=None,
        seed=source.seed,
        main_metric=one.task.main_metric.name,
        metrics=None if scores is None else dict(scores.metrics),
        metric_facts=metric_facts(one.task),
        notes=(NOTE,),
        fixes="none",
        selection=None,
        profile=settings["profile"],
        made_up_data=part.made_up,
        licence="" if part.made_up else one.task.licence,
        data={"asked": replace(part_facts(part), golds=one.targets is not None)},
        counts=counts,
        seconds={},
        peak_memory_mb=None,
        retrieval={},
        model={},
        training=None,
        settings=settings,
        identity=one.identity,
        versions=provenance.versions,
        code=CodeVersion(provenance.code, **commit()),
        imported=ImportSource(**asdict(source), file=one.file, golds=one.golds_file),
    )
