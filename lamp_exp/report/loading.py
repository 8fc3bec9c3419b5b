"""Finished runs as reports read them: their records, options and examples.

Everything comes from the runs' folders (see `lamp_exp.results.folder`). Examples are read when a
number needs them, and only the columns that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.results.finding import UNFINISHED, run_folders
from lamp_exp.results.folder import EXAMPLES, PROMPTS, RESULT, RunFolder
from lamp_exp.results.run_options import (
    baseline_options,
    configuration_key,
    run_options,
    usage_of,
)
from lamp_exp.results.schema import IMPORTED, MetricFacts, RunResult, SchemaError


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run: its folder and the content of its `result.json`."""

    folder: Path
    result: RunResult
    _columns: dict[str, list[Any]] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def task(self) -> str:
        """The option's name, such as `lamp4`."""
        return str(self.result.choices["task"])

    @property
    def seed(self) -> int:
        return self.result.seed

    @property
    def questions(self) -> int:
        return self.result.counts["questions"]

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics; empty if no targets are known."""
        return self.result.metrics or {}

    @property
    def main_metric(self) -> str:
        """The metric that selects models and k."""
        return self.result.main_metric

    def facts(self, metric: str) -> MetricFacts:
        return self.result.metric_facts[metric]

    def higher_is_better(self, metric: str) -> bool:
        return self.facts(metric).higher_is_better

    def score_column(self, metric: str) -> str:
        return self.facts(metric).column or metric

    @property
    def imported(self) -> bool:
        """Whether its predictions were made elsewhere: k and the retriever are not known."""
        return self.result.mode == IMPORTED

    @property
    def personal(self) -> bool:
        """Whether the run reads profiles; False for imported predictions, which do not say."""
        return usage_of(self.result).personal

    @cached_property
    def options(self) -> dict[str, Any]:
        """All options that decide its numbers but the seed, by dotted name; see `run_options`."""
        return run_options(self.result)

    @cached_property
    def configuration(self) -> str:
        """Equal for runs that differ in nothing but the seed."""
        return configuration_key(self.options)

    def configuration_with(self, **changes: Any) -> str:
        """The configuration of the run that differs from this one in these options."""
        return configuration_key({**self.options, **changes})

    def configuration_without(self, name: str) -> str:
        """The configuration but for one option, or one component with its options."""
        kept = {n: v for n, v in self.options.items() if n != name and not n.startswith(f"{name}.")}
        return configuration_key(kept)

    @cached_property
    def baseline(self) -> str | None:
        """The configuration of the same run without any personal part; None if this has none."""
        found = baseline_options(self.result, self.options)
        return None if found is None else configuration_key(found)

    @property
    def comparable_key(self) -> tuple[str, str]:
        """What must be equal for examples to be paired: the task, and the questions' data."""
        return self.task, self.result.data["asked"].fingerprint

    def has_file(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def column(self, name: str) -> list[Any]:
        """A column of `examples.parquet`, a value per question. Raises InputError without it."""
        if not self.has_column(name):
            raise InputError(f"{self.folder} has no {name!r} of its examples: rerun=true makes it")
        if name not in self._columns:
            with self._open_examples() as file:
                table = file.read(columns=[name], use_threads=False)  # threads take longer
            self._columns[name] = table.column(0).to_pylist()
        return self._columns[name]

    def has_column(self, name: str) -> bool:
        return name in self._column_names

    def by_question(self, name: str) -> dict[str, Any]:
        return dict(zip(self.column("id"), self.column(name), strict=True))

    @cached_property
    def _column_names(self) -> frozenset[str]:
        if not self.has_file(EXAMPLES):
            return frozenset()
        with self._open_examples() as file:
            return frozenset(file.schema_arrow.names)

    def _open_examples(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.folder / EXAMPLES)
        except pa.ArrowException as error:
            raise InputError(f"{self.folder / EXAMPLES} is damaged: rerun=true makes it") from error

    def prompts(self) -> dict[str, list[str]]:
        """The passages that the model was given, by question; empty if they are not recorded."""
        there = self.has_file(PROMPTS)  # not of imported predictions
        rows = read_by_question(self.folder / PROMPTS) if there else {}
        return {id: row["passages"] for id, row in rows.items()}


def read_by_question(path: Path) -> dict[str, Any]:
    """The rows of a run's JSON or JSONL file by `id`. Raises InputError for a damaged file."""
    try:
        with path.open(encoding="utf-8") as file:
            # Lines end with \n only: texts may hold U+2028, at which str.splitlines splits.
            rows = json.load(file)["golds"] if path.suffix == ".json" else map(json.loads, file)
            return {str(row["id"]): row.get("output", row) for row in rows}
    except ValueError as error:
        raise InputError(f"{path} is damaged: rerun=true makes it") from error


# --- finding runs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """The runs below some folders, and the folders that could not be used, with the reason.

    `unfinished` are folders of runs that have begun, and still go on or were killed.
    """

    records: list[Record] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)


def find(places: Sequence[Path], stale: bool = False) -> Found:
    """The finished runs of `places`: folders of runs, single runs, or sweeps; each once.

    Unfinished, unreadable, superseded and (unless `stale`) stale runs are left out, with the
    reason. Raises InputError for a place that is no folder, or if there is no run at all.
    """
    found = Found()
    newest: dict[tuple[str, int], Record] = {}
    for folder, fault in run_folders(places):
        record, fault = (None, fault) if fault else _open(folder, stale)
        if record is not None:
            same = newest.setdefault((record.configuration, record.seed), record)
            loser, winner = sorted((same, record), key=_rank)
            newest[record.configuration, record.seed] = winner
            if loser.metrics != winner.metrics:
                reason = f"the same configuration and seed as {winner.name}, with other numbers"
                found.left_out.append((loser.folder, reason))
        elif fault == UNFINISHED:
            found.unfinished.append(folder)
        else:
            found.left_out.append((folder, fault))
    found.records.extend(newest.values())
    if not (found.records or found.left_out or found.unfinished):
        named = ", ".join(map(str, places))
        raise InputError(f"there is no finished run in {named}: give --runs as output_dir was")
    return found


def _rank(record: Record) -> tuple[bool, str]:
    """Of two runs of one configuration and seed, the greater counts."""
    return record.result.stale is None, record.result.started


def _open(folder: Path, stale: bool) -> tuple[Record | None, str]:
    try:
        result = RunFolder(folder).finished_result()
        if result is None:
            there = (folder / RESULT).is_file()
            return None, "files of it are missing" if there else f"its {RESULT} was damaged"
        record = Record(folder, result)
        _ = record.configuration, record.questions, record.comparable_key
    except (SchemaError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"its {RESULT} cannot be read ({type(error).__name__}: {error})"
    return (None, f"stale: {result.stale}") if result.stale and not stale else (record, "")


def one_run(name: str, places: Sequence[Path]) -> Record:
    """The run with this folder, or whose name in `places` is this or ends with it.

    Raises InputError if there is none, or several.
    """
    if (Path(name).expanduser() / RESULT).is_file():
        folders = [Path(name).expanduser()]
    else:
        near = [path for path, _ in run_folders(places) if path.name.endswith(name)]
        folders = [path for path in near if path.name == name] or near
    if len(folders) != 1:
        number = f"{len(folders)} runs are" if folders else "no finished run is"
        some = f": {', '.join(path.name for path in folders[:3])}" if folders else ""
        where = ", ".join(map(str, places))
        raise InputError(f"{number} {name!r} in {where}{some}: give its folder, or its whole name")
    record, fault = _open(folders[0], stale=True)
    if record is None:
        raise InputError(f"{folders[0]}: {fault}")
    return record
