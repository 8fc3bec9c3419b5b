"""Finished runs as they are read: records, options and examples, for frames and reports.

Everything comes from the runs' folders (see `lamp_exp.results.folder`). Examples are read when a
number needs them, and only the columns that the run's metrics or that number need.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.results.finding import run_folders
from lamp_exp.results.folder import EXAMPLES, PROMPTS, RESULT, RunFolder
from lamp_exp.results.run_options import (
    baseline_options,
    configuration_key,
    run_options,
    usage_of,
)
from lamp_exp.results.schema import IMPORTED, MetricFacts, NewerSchemaError, RunResult

LINES = 1000  # of a file, that are parsed at once


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
        """Whether the run has a part that the baseline lacks; False for imported predictions."""
        return usage_of(self.result).personal

    @property
    def reads_profile(self) -> bool:
        """Whether the run reads profiles; False for imported predictions, which do not say."""
        return usage_of(self.result).reads_profile

    @cached_property
    def options(self) -> dict[str, Any]:
        """All options that decide its numbers but the seed, by dotted name; see `run_options`."""
        return run_options(self.result)

    @cached_property
    def option_keys(self) -> dict[str, str]:
        """For each option a text that is equal for equal values."""
        return {name: configuration_key({name: value}) for name, value in self.options.items()}

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

    def columns(self, *names: str) -> dict[str, list[Any]]:
        """Those of these columns of `examples.parquet` that there are, a value per question.

        They are read together, which takes little longer than one, and kept.
        """
        missing = [name for name in names if name not in self._columns]
        if missing and self.has_file(EXAMPLES):
            with self._open_examples() as file:
                there = [name for name in missing if name in file.schema_arrow.names]
                self._columns.update(file.read(there, use_threads=False).to_pydict())
        return {name: self._columns[name] for name in names if name in self._columns}

    def column(self, name: str) -> list[Any]:
        """One of them. Raises InputError if it is not there."""
        found = self.columns(name)
        if name not in found:
            raise InputError(f"{self.folder} has no {name!r} of its examples: rerun=true makes it")
        return found[name]

    def has_column(self, name: str) -> bool:
        return name in self._columns or name in self._column_names

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
            # One thread and no buffer beforehand: for files as small as these, both take longer.
            return pyarrow.parquet.ParquetFile(self.folder / EXAMPLES, pre_buffer=False)
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
            rows = json.load(file)["golds"] if path.suffix == ".json" else _json_lines(file)
            return {str(row["id"]): row.get("output", row) for row in rows}
    except ValueError as error:
        raise InputError(f"{path} is damaged: rerun=true makes it") from error


def _json_lines(file: Iterable[str]) -> Iterator[Any]:
    """The values of lines, of which many are parsed at once: that takes two thirds of the time."""
    lines = iter(file)  # which end with \n only: texts may hold U+2028, where str.splitlines splits
    while some := list(islice(lines, LINES)):
        yield from json.loads(f"[{','.join(some)}]")


# --- reading runs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnusableRun:
    """A folder without a usable record, and the reason; `newer`: its schema is not known yet."""

    folder: Path
    reason: str
    newer: bool = False


def read_runs(places: Iterable[Path]) -> Iterator[Record | UnusableRun]:
    """All runs of output folders, sweeps or single runs, stale ones included.

    Raises InputError for a place that is no folder.
    """
    for folder, fault in run_folders(places):
        yield UnusableRun(folder, fault) if fault else read_run(folder)


def read_run(folder: Path) -> Record | UnusableRun:
    try:
        result = RunFolder(folder).finished_result()
        if result is None:
            there = (folder / RESULT).is_file()
            reason = "files of it are missing" if there else f"its {RESULT} was damaged"
            return UnusableRun(folder, reason)
        record = Record(folder, result)
        _ = record.configuration, record.questions, record.comparable_key
    except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"its {RESULT} cannot be read ({type(error).__name__}: {error})"
        return UnusableRun(folder, reason, isinstance(error, NewerSchemaError))
    return record
