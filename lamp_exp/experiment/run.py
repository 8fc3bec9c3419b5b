"""Runs an experiment that has not been run yet, and records it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any

from lamp_exp.contracts import RunLogger
from lamp_exp.experiment import ddp, stages
from lamp_exp.experiment.adapting import AskedProfiles
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import NO_PROFILE, Configuration, Experiment
from lamp_exp.experiment.feedback import Feedback
from lamp_exp.experiment.identity import identity_options, run_name
from lamp_exp.experiment.learning import PartSource, learn, learned_facts
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.stages import StageResults, load_parts
from lamp_exp.experiment.summaries import Summaries
from lamp_exp.experiment.train_questions import TrainQuestions
from lamp_exp.options import (
    FEEDBACK,
    PERSONAL_GROUPS,
    SUMMARIES,
    TUNE,
    Usage,
    changes_numbers,
    value_at,
)
from lamp_exp.results.folder import RunFolder, training_settings
from lamp_exp.results.provenance import commit, peak_memory_mb, versions
from lamp_exp.results.run_options import usage_of
from lamp_exp.results.schema import CodeVersion, MetricFacts, PartFacts, RunResult
from lamp_exp.values import RunInfo

IN_PROMPTS = tuple(group for group in PERSONAL_GROUPS if group != "adapter")
MAX_FLAGGED = 20  # questions that are named in the record
log = logging.getLogger("lamp_exp.run")
_failure_log = logging.getLogger("lamp_exp.failure")  # to a run's log only
_failure_log.propagate = False

OnStart = Callable[[RunFolder, RunFolder | None], None]  # given the run's folder and its baseline's


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run: `done` now or `there` before; and its baseline, if that is finished."""

    folder: RunFolder
    state: str
    baseline: RunResult | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a run's numbers besides its identity: the code and the libraries."""

    code: str
    versions: Mapping[str, str]


def run(
    experiment: Experiment,
    configuration: Configuration,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
) -> FinishedRun:
    """Runs what is not finished; with `rerun`, also what is (`stale`: only what is stale).

    Of two processes that want the same run, one runs it and the other waits. `sweep` is the name
    of the sweep that the run belongs to. `on_start` is called before the run starts.
    """
    parts = load_parts(experiment)
    folder, identity = own_folder(experiment, configuration, parts, output_dir)
    baseline = baseline_folder(experiment, configuration, parts, output_dir)
    on_start(folder, baseline)
    provenance, state = provenance_of(experiment), "there"

    def execute(into: RunFolder) -> None:
        _execute(experiment, configuration, parts, into, provenance, identity, sweep)

    if not is_up_to_date(folder, configuration, provenance, rerun):
        with folder.lock():
            if not folder.finished:
                execute(folder)
                state = "done"
            elif not is_up_to_date(folder, configuration, provenance, rerun):
                replacement = folder.replacement()
                execute(replacement)
                replacement.replace(folder)
                state = "done"
    if state == "done":
        _mark_superseded(folder)
    return FinishedRun(folder, state, baseline.finished_result() if baseline else None)


# --- identity and freshness --------------------------------------------------------------------


def run_identity(
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> dict[str, Any]:
    """The identity of the run: the options that matter, and the data's fingerprints."""
    return _with_data(
        identity_options(configuration, experiment.usage, experiment.retrieval.used_k), parts
    )


def own_folder(
    experiment: Experiment, configuration: Configuration, parts: Parts, output_dir: Path
) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of the run, and its identity."""
    identity = run_identity(experiment, configuration, parts)
    name = run_name(identity, experiment.usage, configuration.choices)
    return RunFolder(output_dir / name), identity


def tuned_identity(
    experiment: Experiment, configuration: Configuration, parts: Parts, tuned_on: str
) -> dict[str, Any]:
    """The identity of a run whose k is chosen on the dev part of that fingerprint."""
    identity = _with_data(identity_options(configuration, experiment.usage, TUNE), parts)
    return {**identity, "data.tuned_on": tuned_on}


def _with_data(options: Mapping[str, Any], parts: Parts, personal: bool = True) -> dict[str, Any]:
    """The options and the fingerprints of the data; only personal parts learn from `learning`."""
    data = {f"data.{name}": part.fingerprint for name, part in parts.by_name.items()}
    if not personal:
        data.pop("data.learning", None)
    return {**options, **data}


def baseline_folder(
    experiment: Experiment, configuration: Configuration, parts: Parts, output_dir: Path
) -> RunFolder | None:
    """Where the same run without any personal part is or would be; None for such a run itself."""
    if not experiment.usage.personal or experiment.trainer is None:
        return None
    usage = Usage.baseline(experiment.mode)
    identity = _with_data(identity_options(configuration, usage, NO_PROFILE), parts, False)
    return RunFolder(output_dir / run_name(identity, usage, configuration.choices))


def provenance_of(experiment: Experiment) -> Provenance:
    """The fingerprint of the code behind an experiment's numbers, and the libraries' versions."""
    components: list[object] = [
        experiment.task,
        # Without items, runs of all retrievers are the same one.
        experiment.retrieval.retriever if experiment.usage.retrieves else None,
        experiment.neighbours_by,
        experiment.augmentation,
        experiment.model,
    ]
    if experiment.summary is not None:
        components.append(experiment.summary)
    if writer := experiment.writer:
        components += [Summaries, writer.model]
    if reader := experiment.reader:
        components += [PartSource, Feedback, reader.augmentation, reader.model]
    if "adapter" in experiment.usage.others:
        components += [AskedProfiles, experiment.adapter]
    if "adapter" in experiment.learners:
        components.append(TrainQuestions)
    code = code_fingerprint(StageResults, *(part for part in components if part is not None))
    return Provenance(code, versions())


def is_up_to_date(
    folder: RunFolder, configuration: Configuration, provenance: Provenance, rerun: bool | str
) -> bool:
    """Whether a finished run may stay; it is marked as stale if it would be made otherwise now."""
    result = folder.finished_result()
    if result is None:
        return False
    stale = _why_stale(result, configuration, provenance)
    folder.mark_stale(stale and f"{stale}: rerun=stale makes it anew")
    return not (rerun is True or (rerun == "stale" and stale))


def _why_stale(
    result: RunResult, configuration: Configuration, provenance: Provenance
) -> str | None:
    if result.code.fingerprint != provenance.code:
        return "made by other code than today's"
    usage = usage_of(result)
    for name, value in configuration.component_values.items():
        if changes_numbers(name, usage) and not name.endswith("_target_"):
            recorded = value_at(result.settings, name, missing=value)
            if recorded != value:
                return f"made with {name}={recorded}, which its YAML now sets to {value}"
    return None


def _mark_superseded(folder: RunFolder) -> None:
    """Marks runs of the same options as stale if one of their files now has other content."""
    new = folder.read()
    for other, old in folder.others_of_its_name():
        if _options_of(old) == _options_of(new) and _changed_file(old, new):
            other.mark_stale(f"its data has changed since: {folder.name} is the run on that of now")


def _options_of(result: RunResult) -> dict[str, Any]:
    return {n: v for n, v in result.identity.items() if not n.startswith("data")}


def _changed_file(old: RunResult, new: RunResult) -> bool:
    """Whether a part was read from the same file with other content."""
    return any(
        Path(old.data[name].source).absolute() == Path(part.source).absolute()
        and old.data[name].fingerprint != part.fingerprint
        for name, part in new.data.items()
        if name in old.data
    )


# --- execution and record ----------------------------------------------------------------------


def _execute(
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    folder: RunFolder,
    provenance: Provenance,
    identity: Mapping[str, Any],
    sweep: str | None,
) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    folder.start(configuration.settings, {"code": provenance.code, "versions": provenance.versions})
    with logging_to(folder):
        made = learn(experiment, configuration, parts)
        tags = _tags(experiment, configuration)
        with (
            open_logger(experiment, configuration, folder, sweep, tags) as logger,
            _workers(experiment, configuration, folder) as build_trainer,
        ):
            trainer = None
            if build_trainer is not None and logger is not None:
                trainer = partial(build_trainer, logger=logger.lightning_loggers)
            if experiment.mode == FEEDBACK:
                results = stages.write_feedback(parts, folder, made["retriever"][-1])
            elif experiment.mode == SUMMARIES:
                results = stages.write_summaries(experiment, parts, folder)
            else:
                results = stages.run_stages(experiment, configuration, parts, folder, trainer)
            if experiment.mode == "finetune":
                folder.write_training_settings(_reading_options(experiment, configuration))
            result = _result(
                experiment, configuration, parts, results, provenance, identity, folder, started
            )
            adapter = _adapter_facts(experiment)
            learned = tuple(learned_facts(made))
            folder.write_result(replace(result, learned=learned, adapter=adapter))
            if logger:
                logger.log_result(folder.read().to_json())


def _workers(
    experiment: Experiment, configuration: Configuration, folder: RunFolder
) -> AbstractContextManager[Callable[..., Any] | None]:
    """Starts the other processes of the run, if its trainer wants several; yields the trainer."""
    if experiment.trainer is None:
        return nullcontext()
    if experiment.model is None or not experiment.model.distributed:
        return nullcontext(experiment.trainer.build)
    work = {
        "settings": configuration.settings,
        "choices": configuration.choices,
        "folder": str(folder.path),
    }
    return ddp.workers(experiment.trainer.build, work, folder.path)


def open_logger(
    experiment: Experiment,
    configuration: Configuration,
    folder: RunFolder,
    sweep: str | None,
    tags: tuple[str, ...],
) -> AbstractContextManager[RunLogger | None]:
    """The chosen logger; none where no model runs."""
    if experiment.logger is None:
        return nullcontext()
    mode, settings = str(configuration.value("mode")), configuration.settings
    info = RunInfo(folder.name, folder.path, sweep, mode, tags, settings)
    opened: AbstractContextManager[RunLogger] = experiment.logger(info)
    return opened


def _tags(experiment: Experiment, configuration: Configuration) -> tuple[str, ...]:
    choices, retrieval = configuration.choices, experiment.retrieval
    used = [choices["retriever"], choices["augmentation"]] if retrieval.used_k else []
    used += [choices[group] for group in sorted(experiment.usage.others)]
    skip = [f"skip{retrieval.used_skip}"] if retrieval.used_skip else []
    return (choices["task"], experiment.data.split, *used, f"k{retrieval.used_k}", *skip)


def _result(
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    results: StageResults,
    provenance: Provenance,
    identity: Mapping[str, Any],
    folder: RunFolder,
    started: str,
) -> RunResult:
    task, data, trains = experiment.task, experiment.data, experiment.mode == "finetune"
    return RunResult(
        run=folder.name,
        started=started,
        task=task.name,
        choices=configuration.choices,
        split=data.split,
        part=data.part,
        mode=experiment.mode,
        k=experiment.retrieval.used_k,
        seed=int(configuration.value("seed")),
        main_metric=task.main_metric.name,
        metrics=None if results.scores is None else dict(results.scores.metrics),
        metric_facts=metric_facts(task),
        notes=(*notes(experiment), *checkpoint_mismatch(experiment, configuration)),
        fixes=data.view.fixes,
        selection=data.selection if trains else None,
        profile=configuration.settings["profile"],
        bound=experiment.usage.retrieves and experiment.retrieval.retriever.is_bound,
        made_up_data=parts.asked.made_up,
        licence="" if parts.asked.made_up else task.licence,
        data={name: part_facts(part) for name, part in parts.by_name.items()},
        counts=dict(results.counts),
        seconds={stage: round(value, 3) for stage, value in results.seconds.items()},
        peak_memory_mb=round(peak_memory_mb()),
        retrieval=_retrieval_facts(experiment, parts, results),
        model=_model_facts(experiment),
        training=results.training,
        settings=configuration.settings,
        identity=identity,
        versions=provenance.versions,
        code=CodeVersion(provenance.code, **commit()),
        flagged_questions=flagged_questions(parts.asked),
    )


def _retrieval_facts(experiment: Experiment, parts: Parts, results: StageResults) -> dict[str, Any]:
    """The retriever's own facts, and those of the encoder that found neighbours.

    Counts of what they read are the same in all runs, whichever run it was that had to read it.
    """
    own = dict(experiment.retrieval.retriever.facts())
    facts = reduce(with_counts, results.read_to_rank, own) | {"ranking_cache": results.rankings}
    encoder = experiment.neighbours_by
    if encoder is None:
        return facts
    of_parts = (part.examples.view.neighbours for part in parts.by_name.values())
    tables = {one.table.fingerprint: one.table for one in of_parts if one and one.is_loaded}
    neighbours = (table.counts for table in tables.values())
    return {**facts, "neighbours_by": reduce(with_counts, neighbours, dict(encoder.facts()))}


def with_counts(facts: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a component and of those that it is built of, with counts added to them."""
    joined = dict(facts)
    for name, value in counts.items():
        known = joined.get(name)
        if isinstance(value, Mapping):
            joined[name] = with_counts(known or {}, value)
        else:
            joined[name] = value + (known or 0)
    return joined


def _adapter_facts(experiment: Experiment) -> dict[str, Any]:
    """The adapter's own facts; those of one that reads no profile say so."""
    adapter = experiment.adapter
    if adapter is None or "adapter" not in experiment.usage.others:
        return {}
    return {**({} if adapter.uses_profile else {"uses_profile": False}), **adapter.facts()}


def _model_facts(experiment: Experiment) -> dict[str, Any]:
    """The model's own facts; `fine_tuned` says that its weights are a checkpoint's."""
    if experiment.model is None:
        return {}
    return {**experiment.model.facts(), "fine_tuned": experiment.from_checkpoint}


def flagged_questions(part: Any) -> dict[str, tuple[str, ...]]:
    """The first questions whose profile holds the question itself, by the name of the count."""
    ids = part.examples.column("id")
    leaks = [id for id, own in zip(ids, part.facts.own_items, strict=True) if own]
    if not leaks:
        return {}
    shown = tuple(leaks[:MAX_FLAGGED])
    more = f" and {len(leaks) - len(shown)} more" if len(leaks) > len(shown) else ""
    log.info("the profile holds the question itself: %s%s", ", ".join(shown), more)
    return {"profiles_that_hold_the_question": shown}


def metric_facts(task: Any) -> dict[str, MetricFacts]:
    """What reports must know of the task's metrics."""
    return {metric.name: MetricFacts.of(metric) for metric in task.metrics}


def part_facts(part: Any) -> PartFacts:
    """Where a part comes from, for the record."""
    golds, questions = part.has_golds, len(part.examples)
    return PartFacts(part.source, part.fingerprint, questions, golds, dict(part.counts))


def notes(experiment: Experiment) -> list[str]:
    """What a reader of the results should know of the experiment's choices."""
    retrieval, data, mode = experiment.retrieval, experiment.data, experiment.mode
    found = []
    if retrieval.retriever.is_bound and experiment.usage.retrieves:
        found.append("a bound, and no system: it reads the golds of the questions that it answers")
    if experiment.usage.reads_profile and data.view.profile.control != "none":
        found.append(f"a control: profile.control={data.view.profile.control}")
    passages = experiment.augmentation is not None and experiment.augmentation.multiple_passages
    untrained = mode == "zeroshot" and not experiment.from_checkpoint
    if untrained and passages and retrieval.used_k > 1:
        found.append("fid without fine-tuning: no model has learned to fuse passages")
    if experiment.trainer is not None and experiment.from_checkpoint:
        found.append("the weights were fine-tuned before: a checkpoint of this project")
    trainer = experiment.trainer
    if mode == "finetune" and trainer and trainer.train_batches is not None:
        found.append(f"each epoch is cut: trainer.limit_train_batches={trainer.train_batches}")
    if data.fold is not None:
        found.append("of train, half of the users: what learned has learned from the other half")
    elif mode == "finetune" and data.part == "train":
        found.append("scored on the part that it was trained on")
    if mode == "finetune" and data.part == "dev" and data.selection == "dev":
        found.append("the best epoch was chosen on dev, the part that is scored")
    if "retriever" in experiment.learners and data.part == "train":
        found.append("the retriever has learned from the questions that it ranks for")
    if "adapter" in experiment.learners:
        found.append("the adapter has learned from the golds of train")
        if data.part == "train" and data.fold is None:
            found.append("the adapter has learned from the questions that are answered")
    if retrieval.used_skip and mode != "rank":
        found.append("the best items of each profile were passed over (skip)")
    return found


def _reading_options(experiment: Experiment, configuration: Configuration) -> dict[str, Any]:
    """How the prompts of a fine-tuned model were made: it should be asked in the same way."""
    used = experiment.retrieval.used_k > 0
    others = {
        group: configuration.choices[group]
        for group in IN_PROMPTS
        if group in experiment.usage.others
    }
    return {
        **others,
        "task": configuration.choices["task"],
        "split": experiment.data.split,
        "retriever": configuration.choices["retriever"] if used else "none",
        "augmentation": configuration.choices["augmentation"] if used else "none",
        "k": experiment.retrieval.used_k,
        "skip": experiment.retrieval.used_skip,
        "max_length": experiment.max_length,
    }


def checkpoint_mismatch(experiment: Experiment, configuration: Configuration) -> list[str]:
    """How a fine-tuned checkpoint is asked otherwise than it was trained: allowed, but noted."""
    answers = experiment.mode not in ("rank", SUMMARIES)
    name = configuration.value("model.name") if answers else None
    trained = training_settings(str(name))
    if not trained:
        return []
    unused = dict.fromkeys(IN_PROMPTS, "none")
    trained = {"skip": 0, **unused, **trained}  # older checkpoints do not say
    now = unused | _reading_options(experiment, configuration)
    changed = [key for key in now if trained.get(key) != now[key]]
    if not changed:
        return []
    before = " ".join(f"{key}={trained.get(key)}" for key in changed)
    after = " ".join(f"{key}={now[key]}" for key in changed)
    return [f"the checkpoint was trained with {before}, and is asked with {after}"]


@contextmanager
def logging_to(folder: RunFolder) -> Iterator[None]:
    """Everything logged meanwhile also goes to a file, which ends up in the run's folder."""
    path = folder.path.parent / ".locks" / f"{folder.path.name}.log"
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(), _failure_log]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except Exception:
        _failure_log.exception("failed")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
        if folder.path.is_dir():
            path.replace(folder.path / "run.log")
