"""Finished runs as reports read them: what they are, their numbers, their examples.

Everything comes from the runs' folders (see `lamp_exp.results.folder`). Examples are read when a
number needs them, and only the columns that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.results.folder import RESULT, STATUS, RunFolder
from lamp_exp.results.schema import IMPORTED

PREDICTIONS = "predictions.json"
EXAMPLES = "examples.parquet"
NEEDED = (  # of a record, besides what tells which run it is
    "split", "part", "mode", "k", "monitor", "notes", "fixes", "selection", "profile",
    "made_up_data", "seconds", "retrieval", "model", "settings", "versions", "code",
)  # fmt: skip
WITHOUT_PROFILE = {"retriever", "augmentation", "profile", "document_dates", "skip"}


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run: its folder, and the content of its `result.json`."""

    folder: Path
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics; none where no golds were known."""
        return self.result["metrics"] or {}

    @property
    def task(self) -> str:
        """The option's name, such as `lamp4`."""
        return str(self.result["choices"]["task"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.result["seed"])

    @property
    def questions(self) -> int:
        """How many were answered."""
        return int(self.result["counts"]["questions"])

    @property
    def imported(self) -> bool:
        """Whether its predictions were made elsewhere: nothing is known of k and retriever."""
        return bool(self.result["mode"] == IMPORTED)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that changes its numbers, but for the seed; tuned runs have a k of their own.

        Imported predictions of one system are its seeds, too, though each has other content.
        """
        what: dict[str, Any] = _without_seed(self.result["identity"])
        if self.imported:
            what = {key: value for key, value in what.items() if key != "predictions"}
        if "tuned" in self.result:
            what["k"] = {"tune": [point["k"] for point in self.result["tuned"]["curve"]]}
        if what.get("k"):
            what.setdefault("skip", 0)  # a record tells it only where something is passed over
        return what

    @cached_property
    def configuration(self) -> str:
        """The same for runs that differ in nothing but the seed."""
        return _text(self.identity)

    def as_if(self, **changes: Any) -> str:
        """The configuration of the run that differs from this one in these parts of its identity.

        Parts are named as in the record, those inside others with a dot: `profile.control`.
        """
        other = json.loads(self.configuration)
        for name, value in changes.items():
            *outer, last = name.split(".")
            place = other
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = value
        return _text(other)

    @cached_property
    def twin(self) -> str | None:
        """The configuration of the same run without a profile; None if it is without one, or may
        be.
        """
        if self.result["k"] == 0 or "k" not in self.identity:
            return None
        what = {key: v for key, v in self.identity.items() if key not in WITHOUT_PROFILE}
        return _text({**what, "k": 0})

    @property
    def ground(self) -> tuple[str, str]:
        """What must be equal for examples to be paired: the task, and the data asked about."""
        return self.task, str(self.result["data"]["asked"]["fingerprint"])

    @property
    def has_predictions(self) -> bool:
        """Whether it answered its questions, and not only ranked or made prompts."""
        return (self.folder / PREDICTIONS).is_file()

    def direction(self, metric: str) -> bool:
        """Whether higher is better."""
        main, better = self.result["monitor"]
        return better == "max" if metric == main else metric not in {"mae", "rmse"}

    def column(self, name: str) -> list[Any]:
        """One column of `examples.parquet`, a value for each question; InputError without it."""
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    def has_column(self, name: str) -> bool:
        """Whether the examples were recorded with it."""
        return name in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        if not (self.folder / EXAMPLES).is_file():
            return frozenset()
        with self._opened() as file:
            return frozenset(file.schema_arrow.names)

    def _opened(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.folder / EXAMPLES)
        except pa.ArrowException as error:
            raise InputError(f"{self.folder / EXAMPLES} is damaged: run it again") from error

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {}

    def _read(self, name: str) -> list[Any]:
        if not self.has_column(name):
            raise InputError(f"{self.folder} has no {name!r} of its examples: rerun=true makes it")
        with self._opened() as file:
            table = file.read(columns=[name], use_threads=False)  # threads take longer than it
        values: list[Any] = table.column(0).to_pylist()
        return values

    def prompts(self) -> dict[str, list[str]]:
        """By question, the passages that the model was given; none where they are not recorded."""
        path = self.folder / "prompts.jsonl"
        if not path.is_file():  # predictions that were made elsewhere
            return {}
        with path.open(encoding="utf-8") as lines:
            rows = map(json.loads, lines)
            return {row["id"]: row["passages"] for row in rows}


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, ensure_ascii=False)


def _without_seed(value: Any) -> Any:
    """Also of the components that were given it."""
    if isinstance(value, Mapping):
        return {key: _without_seed(inner) for key, inner in value.items() if key != "seed"}
    return value


@dataclass(frozen=True)
class Found:
    """The runs below some folders, and what could not be used, with the reason."""

    records: list[Record] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)


def find(places: Sequence[Path], stale: bool = False) -> Found:
    """The finished runs of `places`: folders of runs, runs, or sweeps; each once.

    What is unfinished, unreadable or superseded, and what is stale unless `stale` is asked for,
    is left out and told. Raises InputError for a place that is none, or without any run.
    """
    found = Found()
    newest: dict[tuple[str, int], Record] = {}
    for folder, fault in _folders(places):
        record, fault = (None, fault) if fault else _open(folder, stale)
        if record is None:
            found.left_out.append((folder, fault))
            continue
        key = (record.configuration, record.seed)
        other = newest.get(key)
        newest[key] = record if other is None or _rank(record) > _rank(other) else other
        loser = other if newest[key] is record else record
        if loser is not None and loser.metrics != newest[key].metrics:
            told = f"the same configuration and seed as {newest[key].name}, with other numbers"
            found.left_out.append((loser.folder, told))
    found.records.extend(newest.values())
    if not found.records and not found.left_out:
        named = ", ".join(map(str, places))
        raise InputError(f"there is no finished run in {named}: give --runs as output_dir was")
    return found


def _rank(record: Record) -> tuple[bool, str]:
    """Of two runs of one configuration and seed, the greater counts."""
    return not record.result.get("stale"), str(record.result.get("started"))


def _folders(places: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each folder that should hold a run, with what is wrong with it, if that is known."""
    for place in places:
        folder = place.expanduser()
        if not folder.is_dir():
            raise InputError(f"{place} is no folder: give --runs as output_dir was")
        if (folder / RESULT).is_file():
            yield folder, ""
        elif any(folder.glob(f"[0-9]*/{STATUS}")):
            yield from _of_sweep(folder)
        else:
            inner = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
            for path in inner:
                if (path / RESULT).is_file():
                    yield path, ""
                elif (path / "config.yaml").is_file():
                    yield path, "not finished"


def _of_sweep(sweep: Path) -> Iterator[tuple[Path, str]]:
    """The runs of a sweep's jobs, wherever its output folder has been moved to."""
    for status in sorted(sweep.glob(f"[0-9]*/{STATUS}"), key=lambda p: int(p.parent.name)):
        try:
            told = json.loads(status.read_text(encoding="utf-8"))
            run, state = told["run"], told.get("state", "")
        except (ValueError, KeyError) as error:
            yield status.parent, f"its {STATUS} cannot be read ({type(error).__name__})"
            continue
        folder = sweep.parent.parent / Path(run).name if run else status.parent
        finished = (folder / RESULT).is_file()
        yield folder, "" if finished else f"a job of the sweep that is {state or 'not finished'}"


def _open(folder: Path, stale: bool) -> tuple[Record | None, str]:
    """The record, or why there is none to use."""
    run = RunFolder(folder)
    try:
        if not run.finished:
            return None, "files of it are missing"
        record = Record(folder, run.result())
        _ = record.metrics, record.configuration, record.task, record.questions, record.seed
        _ = record.ground, [record.result[name] for name in NEEDED]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"its {RESULT} cannot be read ({type(error).__name__}: {error})"
    if record.result.get("stale") and not stale:
        return None, f"stale: {record.result['stale']}"
    return record, ""


def one_run(name: str, places: Sequence[Path]) -> Record:
    """The run whose folder this is, or whose name in `places` is this or ends with it.

    Raises InputError if none is, or several are.
    """
    if (Path(name).expanduser() / RESULT).is_file():
        folders = [Path(name).expanduser()]
    else:
        near = [path for path, _ in _folders(places) if path.name.endswith(name)]
        folders = [path for path in near if path.name == name] or near
    if len(folders) != 1:
        told = f"{len(folders)} runs are" if folders else "no finished run is"
        some = f": {', '.join(path.name for path in folders[:3])}" if folders else ""
        where = ", ".join(map(str, places))
        raise InputError(f"{told} {name!r} in {where}{some}: give its folder, or its whole name")
    record, fault = _open(folders[0], stale=True)
    if record is None:
        raise InputError(f"{folders[0]}: {fault}")
    return record
