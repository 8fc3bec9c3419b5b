"""Runs, sweeps and their results from Python: the functions that `lamp_exp` offers.

They do what the commands do, by the same code: a run has the same identity, folder, record and
caches, and a mistake raises the InputError whose message the command prints.

Nothing stays behind in the process: Hydra's state, logging, random states and the number of
threads are as they were before the call. The code of components is the one that the process has
imported: after a change in a component's file, start the process (the notebook's kernel) anew.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import open_dict

from lamp_exp import composition, config, config_checks, hydra_messages, statistics
from lamp_exp.conf_files import conf_folder
from lamp_exp.environment import ignore_known_warnings, is_interrupt
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.options import OPTIONS
from lamp_exp.override_words import override, value_text
from lamp_exp.report.compare import refuse_other_questions
from lamp_exp.report.loading import find, one_run
from lamp_exp.report.paired_examples import common_seeds, pair, pair_of_runs, sample
from lamp_exp.report.selection import Group, choices_apart
from lamp_exp.results.display import remarks
from lamp_exp.results.folder import RESULT
from lamp_exp.results.frame import results_frame
from lamp_exp.results.record import Record
from lamp_exp.results.schema import RunResult
from lamp_exp.sweeps import sweeper
from lamp_exp.sweeps.jobs import run_multirun_job
from lamp_exp.sweeps.status import read_status
from lamp_exp.wording import count_of

Overrides = str | Mapping[str, Any]
PathLike = str | os.PathLike[str]
GO_ON = "interrupted: the same call goes on from here"
SEVERAL_OPTIONS = re.compile(r"^[^'\"]*\s([+~]?[\w./@]+=)")  # outside of quotes


class Run:
    """A finished run.

    `Run(folder)` opens one that is on disk; `run` and `sweep` return the ones they made.
    """

    def __init__(self, folder: PathLike) -> None:
        path = Path(folder).expanduser().absolute()
        if not (path / RESULT).is_file():
            raise InputError(f"{path} has no finished run: give the folder of one")
        self.record = one_run(str(path), [])

    @property
    def folder(self) -> Path:
        """The run's folder, with all its files."""
        return self.record.folder

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def result(self) -> RunResult:
        """The content of `result.json`: choices, settings, counts, seconds, versions and more."""
        return self.record.result

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics, the main one first; empty if no targets are known."""
        metrics, main = dict(self.record.metrics), self.record.main_metric
        return {name: metrics[name] for name in sorted(metrics, key=lambda name: name != main)}

    @property
    def remarks(self) -> list[str]:
        """What a reader of the numbers must know: notes, and what was cut, lost or unreadable."""
        stale = [f"stale: {self.result.stale}"] if self.result.stale else []
        return [*stale, *remarks(self.result)]

    @cached_property
    def baseline(self) -> Run | None:
        """The same run without a profile; None if it is not finished, or this is such a run.

        It is looked for in the folder that has this run's folder.
        """
        wanted = self.record.baseline, self.record.seed
        if wanted[0] is None:
            return None
        others = find([self.folder.parent], stale=True).records
        found = [one.folder for one in others if (one.configuration, one.seed) == wanted]
        return Run(found[0]) if found else None

    def examples(self) -> pd.DataFrame:
        """One row for each question: id, user, target, prediction, scores, items shown and more.

        Raises InputError where no model answered, or if the file is damaged.
        """
        path = self.folder / "examples.parquet"
        if not path.is_file():
            raise InputError(f"{self.folder} has no examples: no model answered")
        try:
            return self._marked(pd.read_parquet(path))
        except pa.ArrowException as error:
            raise InputError(f"{path} is damaged: rerun=true makes it") from error

    def prompts(self) -> pd.DataFrame:
        """One row for each question: its id, and its prompt as a list of passages.

        With `augmentation=ipa` there is one passage. Raises InputError where no prompts were made.
        """
        prompts = self.record.prompts()
        if not prompts:
            raise InputError(f"{self.folder} has no prompts")
        return self._marked(pd.DataFrame({"id": list(prompts), "passages": list(prompts.values())}))

    def _marked(self, frame: pd.DataFrame) -> pd.DataFrame:
        licence = self.result.licence
        frame.attrs.update(run=self.name, made_up=self.result.made_up_data)
        frame.attrs["licences"] = [licence] if licence else []
        return frame

    def __repr__(self) -> str:
        data = "made-up sample, " if self.result.made_up_data else ""
        questions = count_of(self.record.questions, "question")
        lines = [f"{self.name} ({data}{questions})"]
        others = self.baseline.metrics if self.baseline else {}
        for name, value in self.metrics.items():
            beside = f" (without profile {others[name]:.4f})" if name in others else ""
            lines.append(f"  {name} {value:.4f}{beside}")
        return "\n".join([*lines, *(f"  {line}" for line in self.remarks)])


# --- running -----------------------------------------------------------------------------------


def run(
    *overrides: Overrides,
    baseline: bool = False,
    config_dir: PathLike | None = None,
    **options: Any,
) -> Run:
    """Runs one experiment, unless it is finished already, as `python -m lamp_exp` does.

    `overrides` are words of the command line (`"task=lamp4"`, `"training.lr=1e-4"`), or mappings of
    options to values (`{"training.lr": 1e-4}`); `options` are the same for plain names (`k=4`).
    With `baseline`, the same run without a profile is made, too, unless it is finished.
    `config_dir` is a folder of YAMLs of one's own, as `--config-dir`.

    Raises InputError for what cannot be run. An interrupt raises KeyboardInterrupt; the same call
    then goes on from where the run was.
    """
    words = _words(overrides, options)
    with _application():
        words = [*words, *_search_path(config_dir)]
        cfg = composition.compose_config(words, return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.mode = RunMode.RUN
        HydraConfig.instance().set_config(cfg)
        config_checks.check_launcher(HydraConfig.get())
        if cfg.dry_run:
            raise InputError("dry_run shows what a command would do: python -m lamp_exp dry_run=…")
        composition.draw_seed(cfg)
        finished = config.run_composed(cfg, HydraConfig.get(), with_baseline=baseline)
        return Run(finished.folder.path)


def sweep(*overrides: Overrides, config_dir: PathLike | None = None, **options: Any) -> list[Run]:
    """Runs every combination of the given values, as `python -m lamp_exp -m` does.

    As in `run`, but where a mapping or keyword has a list, each of its values is run:
    `sweep("experiment=first", {"retriever": ["bm25", "random"]}, k=[0, 4])`. Combinations that add
    nothing are left out; the digest is printed at the end. A named sweep is `"+sweep=table2"`.
    Returns the runs in the order of the jobs.

    Raises JobsFailed at the end if a job failed; the digest names it, and the finished runs are in
    the sweep's folder (`load_results(error.folder)`).
    """
    words = _words(overrides, options, several=True)
    if any(word.startswith("hydra/sweeper=") for word in words):
        raise InputError("hydra/sweeper= is for the command line: sweep runs all combinations")
    with _application():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None, "_application has initialized it"
        words = [*words, *_search_path(config_dir)]
        folder = hydra.multirun("config", _run_job, words, with_log_configuration=False)
        if folder is None:
            return []  # dry_run has shown the jobs
        jobs = sorted((path for path in folder.glob("[0-9]*")), key=lambda path: int(path.name))
        statuses = [read_status(job) for job in jobs]
        return [Run(status.run) for status in statuses if status and status.run]


def _run_job(cfg: Any) -> float | None:
    """A job of a sweep, in this process or in a launcher's."""
    os.chdir(HydraConfig.get().runtime.cwd)
    with _messages():
        return run_multirun_job(cfg)


def _words(
    overrides: Sequence[Overrides], options: Mapping[str, Any], several: bool = False
) -> list[str]:
    """Overrides as the command line has them; with `several`, a list is one value after another."""
    words: list[str] = []
    for one in (*overrides, options):
        if isinstance(one, str):
            if found := SEVERAL_OPTIONS.search(one):
                raise InputError(f"{one!r} has several options: give {found[1]}… in its own string")
            words.append(one)
        elif isinstance(one, Mapping):
            words += [_word(name, value, several) for name, value in one.items()]
        else:
            raise InputError(f"{one!r} names no option: give 'k=4', {{'k': 4}} or k=4")
    return words


def _word(name: str, value: Any, several: bool) -> str:
    if isinstance(value, range):
        value = list(value)
    is_list = isinstance(value, list | tuple)
    if is_list and not several and name in OPTIONS and OPTIONS[name].kind is not list:
        raise InputError(f"{name}={value} is several values: lamp_exp.sweep runs each of them")
    if is_list and several:
        if not value:
            raise InputError(f"{name}={value} has no value to run")
        return f"{name}={','.join(value_text(_plain(one)) for one in value)}"
    return override(name, _plain(value))


def _plain(value: Any) -> Any:
    """A value as YAML may have it: paths as text, numpy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value


def _search_path(folder: PathLike | None) -> list[str]:
    return [] if folder is None else [composition.search_path(Path(folder).expanduser())]


# --- the process -------------------------------------------------------------------------------


@contextmanager
def _application() -> Iterator[None]:
    """Within it, Hydra has the project's configuration; afterwards the process is as it was.

    Raises InputError for mistakes that Hydra finds, and KeyboardInterrupt where Lightning turned
    one into a SystemExit.
    """
    if ddp.process_index():
        raise InputError("one of several processes that Slurm started: use python -m lamp_exp")
    with ExitStack() as stack:
        stack.enter_context(hydra_messages.explained())
        for keeper in (_hydra, _messages, _random_states, _interrupts):
            stack.enter_context(keeper())
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as error:
            if not is_interrupt(error):
                raise
            raise KeyboardInterrupt(GO_ON) from error


@contextmanager
def _hydra() -> Iterator[None]:
    hydra, outer, version = GlobalHydra.instance(), HydraConfig.instance(), VersionBase.instance()
    before = hydra.hydra, outer.cfg, version.version_base
    hydra.clear()
    sweeper.register()
    composition.forget_defaults()  # a YAML may have changed since the last call
    try:
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            composition.register()
            yield
    finally:
        GlobalHydra.instance().hydra, outer.cfg, version.version_base = before


@contextmanager
def _messages() -> Iterator[None]:
    """Within it, messages and warnings go to stderr, unless logging is set up already."""
    own, root = logging.getLogger("lamp_exp"), logging.getLogger()
    level, show = own.level, warnings.showwarning
    handler = None if root.handlers else logging.StreamHandler()
    own.setLevel(min(level or logging.INFO, logging.INFO))
    if handler:
        root.addHandler(handler)
    logging.captureWarnings(True)
    captured = warnings.showwarning is not show
    try:
        with warnings.catch_warnings():
            ignore_known_warnings()
            yield
    finally:
        if captured:
            logging.captureWarnings(False)
        if handler:
            root.removeHandler(handler)
        own.setLevel(level)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Restores what an interrupt does: Lightning ignores all after the first."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def _random_states() -> Iterator[None]:
    """Restores random states of Python, numpy and torch, and what Lightning sets for workers."""
    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    variables = {name: os.environ.get(name) for name in names}
    generators: list[tuple[Callable[[Any], None], Any]] = []
    if torch is not None:
        generators.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            generators.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for restore, state in generators:
            restore(state)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


# --- results -----------------------------------------------------------------------------------


def load_results(
    *places: PathLike, where: Mapping[str, Any] | None = None, intervals: bool = True
) -> pd.DataFrame:
    """The results of all runs in `places`, one row for each run and metric.

    A run without metrics, such as one of `mode=rank`, has one row without a metric.

    `places` are folders of runs (by default `outputs`), sweeps or single runs. `where` chooses rows
    by columns: `{"task": "lamp4", "k": [1, 4]}`. Without `intervals`, the 95% intervals (`low`,
    `high`), which need the runs' examples, are left out.

    See `lamp_exp.results.frame.results_frame` for the columns. Stale runs and those of another
    version are there, marked in `state`. `attrs["licences"]` is not empty if texts of these runs
    may not be passed on; `attrs["unusable"]` names the folders without a usable record.

    Raises InputError for a place that is no folder, or a column that no run has.
    """
    if where is not None and not isinstance(where, Mapping):
        raise InputError(f"where={where!r} must be a mapping, such as {{'task': 'lamp4'}}")
    for place in places:
        if not isinstance(place, str | os.PathLike):
            raise InputError(f"{place!r} is no folder: give its path")
    folders = [Path(place).expanduser().absolute() for place in places or ("outputs",)]
    estimate = _interval if intervals else lambda run, metric: None
    return results_frame(folders, where or {}, estimate)


def _interval(record: Record, metric: str) -> statistics.Interval | None:
    found = sample(record, metric)
    return None if found is None else statistics.interval(found)


def compare(
    a: Run | PathLike | Sequence[Run | PathLike], b: Run | PathLike | Sequence[Run | PathLike]
) -> pd.DataFrame:
    """Compares run `b` with run `a` on the same questions, by the tests of the report.

    Each is a run, a run's folder, or a list of runs that differ in nothing but the seed, which are
    compared over the seeds that both have.

    One row for each metric: `a`, `b`, `difference` (b - a) with its 95% interval (`low`, `high`),
    `verdict` on b (`better`, `worse`, `inconclusive`, `equal`) by `test` with its `p`, `detectable`
    (the smallest difference that this test would find with 80% power), `questions` and `users`.
    `attrs["differ_in"]` lists the choices in which they differ: of more than one, none is known as
    the cause of a difference.

    Raises InputError for runs of other tasks or questions.
    """
    one, other = _group(a), _group(b)
    refuse_other_questions(one.first, other.first)
    one_each = len(one.records) == len(other.records) == 1
    if not one_each:
        seeds = common_seeds([one, other])
        one, other = _with_seeds(one, seeds), _with_seeds(other, seeds)
    rows = []
    for metric in (name for name in one.first.metrics if name in other.first.metrics):
        samples = (
            pair_of_runs(one.first, other.first, metric) if one_each else pair(one, other, metric)
        )
        if samples is not None:
            means = {"metric": metric, "a": one.mean(metric), "b": other.mean(metric)}
            rows.append(means | _compared(statistics.compare(*samples)))
    if not rows:
        raise InputError(f"{one.first.name} and {other.first.name} have no scores in common")
    frame = pd.DataFrame(rows)
    licences = {record.result.licence for group in (one, other) for record in group.records}
    frame.attrs.update(licences=sorted(licences - {""}), differ_in=choices_apart(one, other))
    return frame


def _compared(found: statistics.Comparison) -> dict[str, Any]:
    return {
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        "verdict": found.verdict,
        "test": found.decisive.name,
        "p": found.decisive.p,
        "detectable": found.detectable,
        "questions": found.n,
        "users": found.clusters,
    }


def _with_seeds(group: Group, seeds: set[int]) -> Group:
    if not seeds:
        raise InputError("these runs have no seed in common: compare two of them")
    return Group(tuple(record for record in group.records if record.seed in seeds))


def _group(runs: Run | PathLike | Sequence[Run | PathLike]) -> Group:
    listed = [runs] if isinstance(runs, Run | str | os.PathLike) else runs
    if not (isinstance(listed, Sequence) and listed):
        raise InputError(f"{runs!r} is no run: give a Run, its folder, or a list of them")
    records = [(one if isinstance(one, Run) else Run(one)).record for one in listed]
    if len({record.configuration for record in records}) != 1:
        raise InputError(f"{len(records)} runs that do not differ in the seed alone")
    return Group(tuple(sorted(records, key=lambda record: record.seed)))
