"""A plan, carried out and recorded: identity, folder, log, result."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lamp_exp.contracts import RunLogger
from lamp_exp.experiment import ddp as processes
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.identity import essence, identity
from lamp_exp.experiment.stages import Material, Mode, Outcome, Plan, execute, gather
from lamp_exp.results import folder as record
from lamp_exp.results.folder import RunFolder
from lamp_exp.values import RunInfo

_failure = logging.getLogger("lamp_exp.failure")  # to a run's log; the terminal has its own line
_failure.propagate = False


Placed = Callable[[RunFolder, RunFolder | None], None]  # told of a run's place, and its twin's


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run: `done` now, or `there` already; and its twin without a profile, if known."""

    folder: RunFolder
    state: str
    baseline: Mapping[str, Any] | None


def run_plan(
    plan: Plan,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    placed: Placed = lambda folder, twin: None,
) -> Ran:
    """Runs what is not there yet; with `rerun`, also what is (or, if `stale`, what is stale).

    Of two processes that want the same run, one runs and the other waits. `sweep` names the sweep
    that it is a job of; `placed` is told before the run begins where it lies, and where its twin
    without a profile would.
    """
    material = gather(plan)
    folder = RunFolder(output_dir / folder_name(plan, material))
    twin = twin_of(plan, material, output_dir)
    placed(folder, twin)
    maker, state = maker_of(plan), "there"
    if not suffices(folder, maker, rerun):
        with folder.lock():
            if not folder.finished:
                state = _run(plan, material, folder, maker, sweep)
            elif not suffices(folder, maker, rerun):
                anew = folder.anew()
                state = _run(plan, material, anew, maker, sweep)
                anew.replace(folder)
    if state == "done":
        _mark_superseded(folder)
    return Ran(folder, state, twin.result() if twin and twin.finished else None)


def maker_of(plan: Plan) -> dict[str, Any]:
    """What made a run's numbers, besides what it is: the code and the libraries."""
    components = [plan.task, plan.retriever, plan.augmentation, plan.model]
    code = code_fingerprint(Outcome, *(part for part in components if part is not None))
    return {"code": code, "versions": record.versions()}


def suffices(folder: RunFolder, maker: Mapping[str, Any], rerun: bool | str) -> bool:
    """Whether a run that is there may stay; it is marked if other code has made it."""
    if not folder.finished:
        return False
    other = folder.result()["code"]["fingerprint"] != maker["code"]
    folder.mark("made by other code than today's: rerun=stale makes it anew" if other else None)
    return not (rerun is True or (rerun == "stale" and other))


def _mark_superseded(folder: RunFolder) -> None:
    """Runs of the same choices on data that has changed since are stale."""
    mine = folder.result()["identity"]
    stem = folder.path.name.rpartition("-")[0]
    for path in folder.path.parent.glob(f"{glob.escape(stem)}-*"):
        other = RunFolder(path)
        if path == folder.path or not other.finished:
            continue
        its = other.result()["identity"]
        if its["data"] != mine["data"] and {**its, "data": 0} == {**mine, "data": 0}:
            other.mark(f"its data has changed since: {folder.name} is the run on that of now")


def _run(
    plan: Plan, material: Material, folder: RunFolder, maker: Mapping[str, Any], sweep: str | None
) -> str:
    started = datetime.now(UTC)
    folder.start(plan.settings, maker)
    with _logging_to(folder), _logger(plan, folder, sweep) as logger, _followed(plan, folder):
        trainer = plan.trainer and partial(plan.trainer, logger=logger and logger.lightning_loggers)
        outcome = execute(replace(plan, trainer=trainer), material, folder)
        if plan.mode is Mode.finetune:
            folder.write_training_settings(_what_is_read(plan))
        about = {"run": folder.name, "started": started.isoformat(timespec="seconds")}
        folder.write_result({**about, **_result(plan, material, outcome, maker)})
        if logger:
            logger.log_result(folder.result())
    return "done"


def _followed(plan: Plan, folder: RunFolder) -> AbstractContextManager[None]:
    """The other processes of the run, if its trainer wants several."""
    if plan.trainer is None or plan.model is None or not plan.model.distributed:
        return nullcontext()
    told = {"settings": plan.settings, "choices": plan.choices, "folder": str(folder.path)}
    return processes.followed(plan.trainer, told, folder.path)


def _logger(
    plan: Plan, folder: RunFolder, sweep: str | None
) -> AbstractContextManager[RunLogger | None]:
    """The chosen logger; none where no model runs."""
    if plan.logger is None:
        return nullcontext()
    about = RunInfo(folder.name, folder.path, sweep, plan.mode.value, _tags(plan), plan.settings)
    opened: AbstractContextManager[RunLogger] = plan.logger(about)
    return opened


def _tags(plan: Plan) -> tuple[str, ...]:
    """By what runs are picked and compared."""
    used = [plan.choices["retriever"], plan.choices["augmentation"]] if plan.used_k else []
    skip = [f"skip{plan.used_skip}"] if plan.used_skip else []
    return (plan.choices["task"], plan.split, *used, f"k{plan.used_k}", *skip)


def _result(
    plan: Plan, material: Material, outcome: Outcome, maker: Mapping[str, Any]
) -> dict[str, Any]:
    scores = outcome.scores
    return {
        "task": plan.task.name,
        "choices": dict(plan.choices),
        "split": plan.split,
        "part": plan.part,
        "mode": plan.mode.value,
        "k": plan.used_k,
        "seed": plan.settings["seed"],
        "monitor": [plan.task.main_metric.name, plan.task.main_metric.direction],
        "metrics": None if scores is None else dict(scores.metrics),
        "notes": [*plan.notes(), *_mismatch(plan)],
        "fixes": plan.settings["fixes"],
        "selection": plan.selection if plan.mode is Mode.finetune else None,
        "profile": dict(plan.settings["profile"]),
        "made_up_data": material.asked.made_up,
        "data": {name: _origin(part) for name, part in material.parts.items()},
        "counts": {
            **outcome.counts,
            **(
                {}
                if scores is None
                else {"outputs_unreadable": scores.invalid_outputs, **scores.notes}
            ),
            "output_tokens": sum(p.tokens for p in outcome.predictions),
        },
        "seconds": {stage: round(value, 3) for stage, value in outcome.seconds.items()},
        "peak_memory_mb": round(record.peak_memory_mb()),
        "retrieval": {**plan.retriever.facts(), "ranking_cache": plan.rankings.report()},
        "model": {} if plan.model is None else dict(plan.model.facts()),
        "training": outcome.training and {**outcome.training, "learned_from": outcome.learned_from},
        "settings": dict(plan.settings),
        "identity": what_it_is(plan, material),
        "versions": maker["versions"],
        "code": {**record.commit(), "fingerprint": maker["code"]},
    }


def _origin(part: Any) -> dict[str, Any]:
    return {
        "source": part.source,
        "fingerprint": part.fingerprint,
        "questions": len(part.examples),
        "golds": part.has_golds,
        "odd": dict(part.counts),
    }


def folder_name(plan: Plan, material: Material) -> str:
    """The choices, readable, and the identity."""
    return _name(plan, f"k{plan.used_k}", what_it_is(plan, material))


def tuned_name(plan: Plan, material: Material, dev: str, values: Sequence[int]) -> str:
    """The same where k is chosen from `values` on the dev part of that fingerprint."""
    what = what_it_is(plan, material)
    return _name(plan, "ktune", {**what, "k": list(values), "tuned_on": dev})


def _name(plan: Plan, k: str, what: Mapping[str, Any]) -> str:
    names, used = plan.choices, plan.used_k
    words = [names["task"], plan.split, plan.part, plan.mode.value]
    words += [names["retriever"]] if used or plan.mode is Mode.rank else ["none"]
    if plan.mode is not Mode.rank:
        skip = [f"skip{plan.used_skip}"] if plan.used_skip else []
        words += [k, *skip, *([names["augmentation"]] if used else []), names["model"]]
    words += [f"s{plan.settings['seed']}", identity(what)]
    return "-".join(words)


def what_it_is(plan: Plan, material: Material) -> dict[str, Any]:
    """All that changes a run's numbers, and nothing else: no path, no device, no logger.

    Without items, retriever and augmentation do not matter: such runs are one and the same.
    """
    settings, groups = plan.settings, ["task"]
    used = plan.used_k > 0 or (plan.mode is Mode.rank and plan.retriever.uses_profile)
    groups += ["retriever"] if used else []
    if plan.mode is not Mode.rank:
        groups += ["model", *(["augmentation"] if used else [])]
    what: dict[str, Any] = {group: essence(group, settings[group]) for group in groups}
    what |= {"split": plan.split, "part": plan.part, "mode": plan.mode.value}
    what |= {"seed": settings["seed"], "limit": plan.limit, "fixes": settings["fixes"]}
    names = ("profile", "document_dates")
    what |= {name: settings[name] for name in names} if used else {}
    what["data"] = {name: part.fingerprint for name, part in material.parts.items()}
    if plan.mode is not Mode.rank:
        what |= {"k": plan.used_k, "max_length": plan.max_length}
        what |= {"skip": plan.used_skip} if plan.used_skip else {}  # as before there was one
    if plan.mode in (Mode.finetune, Mode.zeroshot):
        what |= {"max_new_tokens": settings["max_new_tokens"]}
        what["precision"] = settings["trainer"].get("precision")
    if plan.mode is Mode.finetune:
        what |= {"training": settings["training"], "selection": plan.selection}
        what["trainer"] = essence("trainer", settings["trainer"])
    return what


def _what_is_read(plan: Plan) -> dict[str, Any]:
    """What a model learned to read: it should be asked in the same way."""
    used = plan.used_k > 0
    return {
        "task": plan.choices["task"],
        "split": plan.split,
        "retriever": plan.choices["retriever"] if used else "none",
        "augmentation": plan.choices["augmentation"] if used else "none",
        "k": plan.used_k,
        "skip": plan.used_skip,
        "max_length": plan.max_length,
    }


def _mismatch(plan: Plan) -> list[str]:
    """How a fine-tuned checkpoint is asked otherwise than it was trained: allowed, but told."""
    name = plan.settings["model"].get("name") if plan.mode is not Mode.rank else None
    trained = record.training_settings(str(name))
    trained = {"skip": 0, **trained} if trained else {}  # older checkpoints do not tell
    asked = _what_is_read(plan)
    changed = [key for key in asked if trained and trained.get(key) != asked[key]]
    if not changed:
        return []
    then = " ".join(f"{key}={trained.get(key)}" for key in changed)
    now = " ".join(f"{key}={asked[key]}" for key in changed)
    return [f"the checkpoint was trained with {then}, and is asked with {now}"]


def twin_of(plan: Plan, material: Material, output_dir: Path) -> RunFolder | None:
    """Where the same run without a profile lies, if it has been done."""
    if plan.used_k == 0 or plan.mode in (Mode.rank, Mode.prompts):
        return None
    return RunFolder(output_dir / folder_name(replace(plan, k=0), material))


@contextmanager
def _logging_to(folder: RunFolder) -> Iterator[None]:
    """Everything logged meanwhile also goes to a file, which ends up in the run's folder."""
    path = folder.path.parent / ".locks" / f"{folder.path.name}.log"
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(), _failure]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except Exception:
        _failure.exception("failed")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
        if folder.path.is_dir():
            path.replace(folder.path / "run.log")
