"""The verb rerun: repeats a run and says whether the numbers agree, and what else differs."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_config_dir, add_named_runs
from lamp_exp.report.loading import Record, one_run
from lamp_exp.results.schema import RunResult

AGREE, DIFFER, FAILED = 0, 1, 2  # exit codes
SHOWN = 5  # questions with other answers that are shown
FILES = {  # the last that a run has decides whether it agrees
    "rankings": "rankings.jsonl", "prompts": "prompts.jsonl", "predictions": "predictions.json",
}  # fmt: skip


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run, and where its repetition is kept."""
    add_named_runs(parser, "run")
    add = parser.add_argument
    add_config_dir(parser)
    add("--keep", type=Path, metavar="FOLDER", help="where to keep it (default: nowhere)")
    add("--allow-api", action="store_true", help="also ask a model behind an API, which may cost")
    parser.epilog = "exit code: 0 the numbers agree, 1 they differ, 2 it could not be repeated"


def run(arguments: argparse.Namespace) -> int:
    """Repeats the run in a folder of its own and prints what differs."""
    original = one_run(arguments.run, arguments.runs)
    _use_as_many_threads(original)
    with _folder(arguments.keep, original) as output_dir:
        try:
            again = _run_again(original, output_dir, arguments)
        except (InputError, OSError):
            raise  # one line
        except Exception:  # noqa: BLE001  (whatever a model may raise: it was not repeated)
            traceback.print_exc()
            return FAILED
        repetition = Repetition(original, again)
        print("\n".join(repetition.lines()))
        if arguments.keep:
            print(again.folder)
        return AGREE if repetition.agrees else DIFFER


def _use_as_many_threads(original: Record) -> None:
    """Sets the recorded number of threads, unless the user sets one: sums round by their order."""
    if threads := original.result.model.get("threads"):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch is not loaded yet


def _run_again(original: Record, output_dir: Path, arguments: argparse.Namespace) -> Record:
    from lamp_exp.reproduction import run_again  # loads all that runs need

    allow_api, config_dir = arguments.allow_api, arguments.config_dir
    folder = run_again(original.result, output_dir, allow_api, config_dir)
    return Record(folder.path, folder.read())


@contextmanager
def _folder(keep: Path | None, original: Record) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="lamp_exp-") as scratch:
            yield Path(scratch)
        return
    folder = keep.expanduser()
    if folder.resolve() == original.folder.resolve().parent:
        raise InputError(f"--keep {keep} is where the run itself lies: give another folder")
    yield folder


# --- the comparison ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Repetition:
    """A run, and the same run again."""

    original: Record
    again: Record

    @property
    def agrees(self) -> bool:
        """Whether metrics and predictions are equal; without a model, prompts or rankings."""
        *_, decisive = [name for name in FILES if name in self.contents]
        return not self.metrics and not self.contents[decisive]

    @cached_property
    def metrics(self) -> dict[str, tuple[float | None, float | None]]:
        """The metrics that differ, even in the last digit: then and now."""
        names = dict.fromkeys([*self.original.metrics, *self.again.metrics])
        pairs = {n: (self.original.metrics.get(n), self.again.metrics.get(n)) for n in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @cached_property
    def contents(self) -> dict[str, list[str]]:
        """For each kind of file, the ids of the questions for which the two differ."""
        return {
            kind: sorted(id for id in then.keys() | now.keys() if then.get(id) != now.get(id))
            for kind, name in FILES.items()
            if (then := _rows(self.original.folder / name)) is not None
            and (now := _rows(self.again.folder / name)) is not None
        }

    def explanations(self) -> Iterator[str]:
        """What may explain a difference: code, libraries, data, machine."""
        then, now = self.original.result, self.again.result
        if then.code.fingerprint != now.code.fingerprint:
            yield f"code: {_code(then)} then, {_code(now)} now"
        yield from _changed("version of", then.versions, now.versions)
        yield from _changed("data of", _fingerprints(then), _fingerprints(now))
        yield from _changed("", _machine(then), _machine(now))

    def lines(self) -> Iterator[str]:
        """The whole comparison as text; the verdict is the last line."""
        yield from self._metric_lines()
        for kind, ids in self.contents.items():
            yield from self._content_lines(kind, ids)
        explanations = list(self.explanations())
        yield from explanations
        if not explanations:
            yield "the same code, versions, data, threads and device"
        verdict = "agree" if self.agrees else "DIFFER"
        yield f"the numbers {verdict}: {self.original.name}"

    def _metric_lines(self) -> Iterator[str]:
        for name, (then, now) in self.metrics.items():
            yield f"{name}: {then} then, {now} now"
        if self.original.metrics and not self.metrics:
            values = ", ".join(f"{name} {value}" for name, value in self.original.metrics.items())
            yield f"metrics are equal to the last digit: {values}"

    def _content_lines(self, kind: str, ids: list[str]) -> Iterator[str]:
        if not ids:
            yield f"{kind} are identical"
            return
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        named = ", ".join(map(repr, ids[:SHOWN]))
        yield f"{kind} differ for {len(ids)} questions: {named}{more}"
        if kind == "predictions":
            runs = (self.original, self.again)
            then, now = (_rows(one.folder / FILES[kind]) or {} for one in runs)
            for id in ids[:SHOWN]:
                yield f"  {id}: {then.get(id)!r} then, {now.get(id)!r} now"


def _rows(path: Path) -> dict[str, Any] | None:
    """The content of a run's file by question; None if the run has no such file."""
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix == ".json":
                return {str(row["id"]): row["output"] for row in json.load(file)["golds"]}
            # Lines end with \n only: texts may hold U+2028, at which str.splitlines splits.
            return {str(row["id"]): row for row in map(json.loads, file)}
    except ValueError as error:
        raise InputError(f"{path} is damaged: rerun=true makes it") from error


def _code(result: RunResult) -> str:
    code = result.code
    commit = (code.commit or "an installed package")[:12]
    return f"{commit}{' with changes' if code.changed else ''} ({code.fingerprint})"


def _fingerprints(result: RunResult) -> dict[str, Any]:
    return {name: part.fingerprint for name, part in result.data.items()}


def _machine(result: RunResult) -> dict[str, Any]:
    """What rounds differently on another machine."""
    training = result.training or {}
    return {
        "threads": result.model.get("threads"),
        "device": result.model.get("device"),
        "retriever's device": result.retrieval.get("device"),
        "processes": training.get("processes"),
        "precision": training.get("precision"),
    }


def _changed(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            label = f"{what} {name}".strip()
            yield f"{label}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
