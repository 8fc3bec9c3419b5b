"""The verb rerun: repeats a run and says whether the numbers agree, and what else differs."""

from __future__ import annotations

import argparse
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
from lamp_exp.report.card import machine
from lamp_exp.report.cli_arguments import add_config_dir, add_named_runs
from lamp_exp.report.loading import one_run
from lamp_exp.results.folder import PREDICTIONS, PROMPTS, RANKINGS
from lamp_exp.results.record import Record, read_by_question
from lamp_exp.wording import count_of

AGREE, DIFFER, FAILED = 0, 1, 2  # exit codes
SHOWN = 5  # questions with other answers that are shown
# The last that a run has decides whether it agrees.
FILES = {"rankings": RANKINGS, "prompts": PROMPTS, "predictions": PREDICTIONS}


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
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
        *_, decisive = self.contents.values()
        return not (self.metrics or decisive)

    @cached_property
    def metrics(self) -> dict[str, tuple[float | None, float | None]]:
        """The metrics that differ, even in the last digit: then and now."""
        return _differing(self.original.metrics, self.again.metrics)

    @cached_property
    def contents(self) -> dict[str, dict[str, tuple[Any, Any]]]:
        """For each kind of file, the questions for which the two differ: then and now."""
        runs = (self.original, self.again)
        return {
            kind: _differing(*(read_by_question(one.folder / name) for one in runs))
            for kind, name in FILES.items()
            if all(one.has_file(name) for one in runs)
        }

    def explanations(self) -> Iterator[str]:
        """What may explain a difference: code, libraries, data, machine."""
        then, now = self.original.result, self.again.result
        if then.code.fingerprint != now.code.fingerprint:
            codes = [
                f"{(code.commit or 'an installed package')[:12]}"
                f"{' with changes' if code.changed else ''} ({code.fingerprint})"
                for code in (then.code, now.code)
            ]
            yield f"code: {codes[0]} then, {codes[1]} now"
        data = ({name: part.fingerprint for name, part in r.data.items()} for r in (then, now))
        for what, different in (
            ("version of ", _differing(then.versions, now.versions)),
            ("data of ", _differing(*data)),
            ("", _differing(machine(then), machine(now))),
        ):
            for name, (one, other) in different.items():
                yield f"{what}{name}: {one or 'none'} then, {other or 'none'} now"

    def lines(self) -> Iterator[str]:
        """The whole comparison as text; the verdict is the last line."""
        for name, (then, now) in self.metrics.items():
            yield f"{name}: {then} then, {now} now"
        if self.original.metrics and not self.metrics:
            values = ", ".join(f"{name} {value}" for name, value in self.original.metrics.items())
            yield f"metrics are equal to the last digit: {values}"
        for kind, different in self.contents.items():
            yield from _content_lines(kind, different)
        explanations = list(self.explanations())
        yield from explanations or ["the same code, versions, data, threads and device"]
        yield f"the numbers {'agree' if self.agrees else 'DIFFER'}: {self.original.name}"


def _content_lines(kind: str, different: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    if not different:
        yield f"{kind} are identical"
        return
    ids = sorted(different)
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    named = ", ".join(map(repr, ids[:SHOWN]))
    yield f"{kind} differ for {count_of(len(ids), 'question')}: {named}{more}"
    if kind == "predictions":
        for id in ids[:SHOWN]:
            yield f"  {id}: {different[id][0]!r} then, {different[id][1]!r} now"


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values that differ, then and now; None where there is none."""
    pairs = {name: (then.get(name), now.get(name)) for name in dict.fromkeys([*then, *now])}
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}
