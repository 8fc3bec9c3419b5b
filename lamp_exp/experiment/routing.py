"""A router's run: each question is answered by one of several candidates.

Each candidate is an ordinary run on the asked part, and on train if the router learns: recorded as
such, made first if it is missing, and shared with every sweep. The routed run has a folder of its
own, with the answers of the chosen candidates.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Made, Router, RouterSource
from lamp_exp.contracts import RunLogger, Task
from lamp_exp.data.view import FOLDS, is_held_out
from lamp_exp.errors import InputError, WeightsError
from lamp_exp.experiment.builder import Builder, SingleRun, run_one
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration
from lamp_exp.experiment.identity import by_content, deciding_options, run_name
from lamp_exp.experiment.learning import learned_facts, store_of
from lamp_exp.experiment.run import (
    FinishedRun,
    OnStart,
    Provenance,
    is_up_to_date,
    logging_to,
    open_logger,
    own_folder,
    provenance_of,
)
from lamp_exp.experiment.stages import (
    Stopwatch,
    UndatedItems,
    answer_counts,
    read_parts,
    refuse_shared_users,
)
from lamp_exp.options import TUNE, Usage, changes_numbers
from lamp_exp.results.candidates import (
    CandidateAnswers,
    chosen_predictions,
    prompt_counts,
    write_chosen,
)
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.provenance import commit, peak_memory_mb
from lamp_exp.results.schema import CodeVersion, PartFacts, RoutedCandidate, Routing, RunResult
from lamp_exp.values import Choice, RoutedQuestion, Scores
from lamp_exp.wording import count_of

log = logging.getLogger("lamp_exp")
ALWAYS_NAMED = ("task", "router", "model")  # groups in the identity


@dataclass(frozen=True)
class Candidate:
    """A candidate with its runs; `on_train` is empty for routers that learn nothing."""

    name: str
    options: Mapping[str, Any]
    asked: SingleRun
    on_train: tuple[SingleRun, ...]

    @property
    def runs(self) -> tuple[SingleRun, ...]:
        return (*self.on_train, self.asked)


@dataclass(frozen=True)
class RoutedRun:
    """A routed run and its candidates, whether they are finished or not."""

    builder: Builder
    router: Router
    configuration: Configuration
    candidates: tuple[Candidate, ...]
    left_out: Mapping[str, str]
    folder: RunFolder
    identity: Mapping[str, Any]
    baseline: RunFolder

    @classmethod
    def of(cls, builder: Builder, output_dir: Path) -> RoutedRun:
        """The data are read, and nothing is run. Raises InputError for what cannot be routed."""
        router, configuration = builder.build_router(), builder.configuration
        usage = Usage(str(configuration.value("mode")), retrieves=False)
        if not usage.answers:
            raise InputError(
                f"a router chooses among answers, and mode={usage.mode} has none: use "
                "mode=finetune or mode=zeroshot"
            )
        candidates, left_out = _candidates(builder, router, output_dir)
        identity = _identity(router, configuration, candidates)
        used = replace(Usage.of(usage.mode, True, TUNE), routes=True)
        folder = RunFolder(output_dir / run_name(identity, used, configuration.choices))
        without = builder.build_baseline()
        baseline, _ = own_folder(*without, read_parts(without[0]), output_dir)
        given = (candidates, left_out, folder, identity, baseline)
        return cls(builder, router, configuration, *given)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.candidates]

    @property
    def task(self) -> Task:
        return self.candidates[0].asked.experiment.task

    @cached_property
    def provenance(self) -> Provenance:
        """The code behind the choices, and behind all candidates' answers."""
        each = [provenance_of(run.experiment) for one in self.candidates for run in one.runs]
        codes = [code_fingerprint(RoutedRun, CandidateAnswers, self.router)]
        codes += [one.code for one in each]
        digest = hashlib.sha256("\n".join(codes).encode()).hexdigest()[:16]
        return replace(each[0], code=digest)

    def is_up_to_date(self, rerun: bool | str) -> bool:
        """Whether the finished run may stay; a stale candidate makes it stale."""
        if not is_up_to_date(self.folder, self.configuration, self.provenance, rerun):
            return False
        for one in self.candidates:
            for run in one.runs:
                fresh = is_up_to_date(
                    run.folder, run.configuration, provenance_of(run.experiment), rerun
                )
                if run.folder.finished and not fresh:
                    return False
        return True

    def validate(self) -> None:
        """Raises InputError, before any long work, for what cannot be run or learned from."""
        self.router.validate(self.names)
        first = self.candidates[0]
        if self.router.is_bound and not first.asked.parts.asked.has_golds:
            raise InputError(
                f"router={self.configuration.choices['router']} reads golds, but "
                f"{first.asked.parts.asked.source} has no outputs file beside it"
            )
        for run in first.on_train:
            part = run.parts.asked
            if not part.has_golds:
                raise InputError(
                    f"a router learns from golds, but {part.source} has none beside it"
                )
            if run.experiment.data.split == "user":
                refuse_shared_users(part, first.asked.parts.asked)
        if first.on_train:
            _refuse_few_users(first)
        for one in self.candidates:
            with _naming(one.name):
                for run in one.runs:
                    run.validate()


def run_routed(
    builder: Builder,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
) -> FinishedRun:
    """Runs the candidates that are not finished, then lets the router choose; as `run`."""
    plan = RoutedRun.of(builder, output_dir)
    on_start(plan.folder, plan.baseline)
    state = "there"
    if not plan.is_up_to_date(rerun):
        plan.validate()
        with plan.folder.lock():
            if not plan.is_up_to_date(rerun):
                state = "done"
                finished = plan.folder.finished
                into = plan.folder.replacement() if finished else plan.folder
                _execute(plan, into, output_dir, rerun, sweep)
                if finished:
                    into.replace(plan.folder)
    return FinishedRun(plan.folder, state, plan.baseline.finished_result())


# --- candidates --------------------------------------------------------------------------------


def _candidates(
    builder: Builder, router: Router, output_dir: Path
) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """The candidates that can run on these data, and those that cannot, with the reason."""
    found, left_out = [], {}
    for name, options in builder.candidates.items():
        with _naming(name, options):
            try:
                found.append(_candidate(name, options, builder, router, output_dir))
            except UndatedItems as error:
                left_out[name] = str(error)
                log.info("candidate %s is left out: %s", name, error)
    if len(found) < 2:
        names = ", ".join(repr(one.name) for one in found) or "nothing"
        raise InputError(
            f"a router needs two candidates or more, but router.candidates has {names} that can run"
        )
    return tuple(found), left_out


def _candidate(
    name: str, options: Mapping[str, Any], builder: Builder, router: Router, output_dir: Path
) -> Candidate:
    own = builder.candidate(name)
    asked = SingleRun.of(own, output_dir)
    if not asked.experiment.usage.answers:
        raise InputError(f"mode={asked.experiment.mode} has no answers to choose from")
    folds = range(FOLDS) if router.folds > 1 else [None]
    on_train = [SingleRun.of(own.on_train(fold), output_dir) for fold in folds if router.learns]
    return Candidate(name, options, asked, tuple(on_train))


@contextmanager
def _naming(candidate: str, options: Mapping[str, Any] = {}) -> Iterator[None]:
    """Says of which candidate an error of the block is.

    Where weights of its own `options` are missing, it says how to do without them.
    """
    try:
        yield
    except InputError as error:
        where = f"router.candidates.{candidate}"
        if isinstance(error, UndatedItems) or str(error).startswith(where):
            raise
        groups = {key.partition(".")[0] for key in options}
        hint = ""
        if isinstance(error, WeightsError) and error.option.partition(".")[0] in groups:
            hint = (
                f" (without this candidate: {where}=null; without any that needs weights of its "
                "own: router/candidates=fixed)"
            )
        raise InputError(f"{where}: {error}{hint}") from error


def _refuse_few_users(candidate: Candidate) -> None:
    users = {user for run in candidate.on_train for user in run.parts.asked.examples.column("user")}
    held_out = sum(map(is_held_out, users))
    if not 0 < held_out < len(users):
        source = candidate.on_train[0].parts.asked.source
        raise InputError(
            f"{source} has {count_of(len(users), 'user')}, too few to hold out a tenth of them, on "
            "whom a router is compared: raise limit"
        )


def _identity(
    router: Router, configuration: Configuration, candidates: Sequence[Candidate]
) -> dict[str, Any]:
    """The router with its options, and the identities of all candidates, data included."""
    usage = Usage(str(configuration.value("mode")), retrieves=False, routes=True)
    identity: dict[str, Any] = {name: configuration.choices[name] for name in ALWAYS_NAMED}
    identity |= {n: configuration.value(n) for n in ("split", "part", "mode", "seed")}
    for name, value in configuration.changed.items():
        own = name.startswith("router.") and not name.startswith("router.candidates")
        if own and changes_numbers(name, usage):
            identity[name] = by_content(name, value)
    if router.asks_a_model and configuration.value("router.model") is None:
        identity["router.asks"] = deciding_options("model", configuration.value("model"))
    identity["candidates"] = {one.name: dict(one.asked.identity) for one in candidates}
    if router.learns:
        identity["learned_from"] = {
            one.name: [dict(run.identity) for run in one.on_train] for one in candidates
        }
    return identity


# --- execution ---------------------------------------------------------------------------------


def _execute(
    plan: RoutedRun, folder: RunFolder, output_dir: Path, rerun: bool | str, sweep: str | None
) -> None:
    """Runs the candidates, lets the router learn and choose, and writes the record."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    provenance = {"code": plan.provenance.code, "versions": plan.provenance.versions}
    folder.start(plan.configuration.settings, provenance)
    watch, made = Stopwatch(), []
    with logging_to(folder):
        for one in plan.candidates:
            for run in one.runs:
                with _naming(one.name):
                    run_one(run.builder, output_dir, rerun, sweep)
        if plan.router.learns:
            with watch.measure("fit"):
                made = _learn(plan)
        answers = {one.name: _answers((one.asked,)) for one in plan.candidates}
        asked = _questions(plan, [(one.asked,) for one in plan.candidates], list(answers.values()))
        with watch.measure("route"):
            choices = plan.router.choose(
                plan.task, plan.names, asked if plan.router.is_bound else _without_rewards(asked)
            )
        column = plan.task.main_metric.column if asked[0].rewards is not None else None
        write_chosen(folder, plan.task.name, answers, choices, column)
        with _logger(plan, folder, sweep) as logger:
            folder.write_result(_record(plan, folder, choices, asked, made, watch.seconds, started))
            if logger:
                logger.log_result(folder.read().to_json())


def _logger(
    plan: RoutedRun, folder: RunFolder, sweep: str | None
) -> AbstractContextManager[RunLogger | None]:
    """The chosen logger, opened once the candidates' own are closed."""
    experiment, choices = plan.candidates[0].asked.experiment, plan.configuration.choices
    tags = (choices["task"], experiment.data.split, choices["router"], *plan.names)
    return open_logger(experiment, plan.configuration, folder, sweep, tags)


def _learn(plan: RoutedRun) -> list[Made]:
    """What the router needs, made from the candidates' answers to train, and loaded."""
    runs = [one.on_train for one in plan.candidates]
    questions = _questions(plan, runs, [_answers(one) for one in runs])
    settings = plan.configuration.value("router")
    options = deciding_options("router", settings)
    source = RouterSource(
        candidates=plan.names,
        questions=questions,
        options={n: v for n, v in options.items() if n not in ("candidates", "folds")},
        code=code_fingerprint(plan.router),
        seed=int(plan.configuration.value("seed")),
    )
    store = store_of(plan.candidates[0].asked.experiment)
    made = []
    for artefact in plan.router.artefacts(source):
        there = store.find(artefact) is not None
        made.append(replace(store.make(artefact), was_there=there))
    plan.router.load(source, made)
    return made


def _answers(runs: Sequence[SingleRun]) -> CandidateAnswers:
    """The answers of a run, or of one on each fold."""
    ids = [id for run in runs for id in run.parts.asked.examples.column("id")]
    return CandidateAnswers(tuple(run.folder for run in runs), ids)


def _questions(
    plan: RoutedRun, runs: Sequence[Sequence[SingleRun]], answers: Sequence[CandidateAnswers]
) -> list[RoutedQuestion]:
    """What each candidate made of the questions, with rewards where golds are known."""
    parts = [run.parts.asked for run in runs[0]]
    users = [user for part in parts for user in part.examples.column("user")]
    inputs = [input for part in parts for input in part.examples.inputs()]
    outputs = list(zip(*(one.column("prediction") for one in answers), strict=True))
    prompts = [["\n".join(prompt["passages"]) for prompt in one.prompts] for one in answers]
    rewards: Sequence[tuple[float, ...] | None] = [None] * len(users)
    if all(part.has_golds for part in parts):
        targets = [target for part in parts for target in part.examples.column("target")]
        each = [plan.task.rewards(one.column("prediction"), targets) for one in answers]
        rewards = list(zip(*each, strict=True))
    return [
        RoutedQuestion(id, user, input, prompt, output, reward, is_held_out(user))
        for id, user, input, prompt, output, reward in zip(
            answers[0].ids, users, inputs, zip(*prompts, strict=True), outputs, rewards, strict=True
        )
    ]


def _without_rewards(questions: Sequence[RoutedQuestion]) -> list[RoutedQuestion]:
    """What a router may see of the asked part."""
    return [replace(one, rewards=None) for one in questions]


# --- the record --------------------------------------------------------------------------------


def _record(
    plan: RoutedRun,
    folder: RunFolder,
    choices: Sequence[Choice],
    asked: Sequence[RoutedQuestion],
    made: Sequence[Made],
    seconds: Mapping[str, float],
    started: str,
) -> RunResult:
    """The record of the first candidate, but for all that the router decides."""
    results = {one.name: one.asked.folder.read() for one in plan.candidates}
    first, configuration = results[plan.names[0]], plan.configuration
    scores = _scores(plan, [choice.candidate for choice in choices], asked)
    return replace(
        first,
        run=folder.name,
        started=started,
        choices=configuration.choices,
        mode=str(configuration.value("mode")),
        k=None,
        metrics=None if scores is None else dict(scores.metrics),
        notes=tuple(_notes(plan, results)),
        profile=configuration.settings["profile"],
        bound=plan.router.is_bound or any(result.bound for result in results.values()),
        data={**_data(first), **_learned_from(plan)},
        counts={**_counts(plan, folder, scores), **_choice_counts(choices, asked)},
        seconds=_all_seconds(results.values(), seconds),
        peak_memory_mb=round(peak_memory_mb()),
        retrieval={},
        training=None,
        settings=configuration.settings,
        identity=plan.identity,
        versions=plan.provenance.versions,
        code=CodeVersion(plan.provenance.code, **commit()),
        tuned=None,
        routing=_routing(plan, choices, asked, results),
        learned=tuple(learned_facts({"router": made})),
        stale=None,
    )


def _counts(plan: RoutedRun, folder: RunFolder, scores: Scores | None) -> dict[str, int]:
    """Counts of the profiles, the chosen prompts and the chosen answers."""
    part = plan.candidates[0].asked.parts.asked
    answers = answer_counts(plan.task, chosen_predictions(folder), scores)
    return {**part.facts.counts(), **prompt_counts(folder), **answers}


def _scores(
    plan: RoutedRun, numbers: Sequence[int], asked: Sequence[RoutedQuestion]
) -> Scores | None:
    """The task's metrics of these candidates' answers; None without golds."""
    part = plan.candidates[0].asked.parts.asked
    if not part.has_golds:
        return None
    outputs = [one.outputs[number] for one, number in zip(asked, numbers, strict=True)]
    return plan.task.score(outputs, part.examples.column("target"))


def _choice_counts(choices: Sequence[Choice], asked: Sequence[RoutedQuestion]) -> dict[str, int]:
    counts = Counter({"choices_by_fallback": sum(not choice.by_rule for choice in choices)})
    counts["questions_with_equal_answers"] = sum(len(set(one.outputs)) == 1 for one in asked)
    rewards = [one.rewards for one in asked if one.rewards is not None]
    if rewards:
        counts["questions_with_equal_candidates"] = sum(min(r) == max(r) for r in rewards)
    return dict(counts)


def _routing(
    plan: RoutedRun,
    choices: Sequence[Choice],
    asked: Sequence[RoutedQuestion],
    results: Mapping[str, RunResult],
) -> Routing:
    chosen = Counter(choice.candidate for choice in choices)
    candidates = tuple(
        RoutedCandidate(
            name=one.name,
            options=dict(one.options),
            run=one.asked.folder.name,
            chosen=chosen[number],
            value=results[one.name].main_value,
            learned_from=tuple(run.folder.name for run in one.on_train),
        )
        for number, one in enumerate(plan.candidates)
    )
    facts = dict(plan.router.facts())
    rewards = [one.rewards for one in asked if one.rewards is not None]
    if not rewards:
        return Routing(candidates, plan.left_out, facts)
    pairs = list(zip(rewards, choices, strict=True))
    metric = plan.task.main_metric
    best, worst = (
        _scores(plan, [reward.index(choose(reward)) for reward in rewards], asked)
        for choose in (max, min)
    )
    assert best and worst, "there are golds"
    return Routing(
        candidates=candidates,
        left_out=plan.left_out,
        facts=facts,
        success_rate=sum(r[c.candidate] == max(r) for r, c in pairs) / len(pairs),
        best_single=_best_single(plan.task, results),
        oracle=best.metrics[metric.name],
        worst=worst.metrics[metric.name],
    )


def _best_single(task: Task, results: Mapping[str, RunResult]) -> str:
    """The candidate with the best main metric; of equal ones, the first."""
    sign = 1 if task.main_metric.higher_is_better else -1
    values = {name: sign * (result.main_value or 0.0) for name, result in results.items()}
    return max(values, key=values.__getitem__)


def _data(first: RunResult) -> dict[str, PartFacts]:
    return {name: part for name, part in first.data.items() if name != "learning"}


def _learned_from(plan: RoutedRun) -> dict[str, PartFacts]:
    """The part that the router learned from, if it did."""
    parts = [run.parts.asked for run in plan.candidates[0].on_train]
    if not parts:
        return {}
    one, questions = parts[0], sum(len(part.examples) for part in parts)
    counts = dict(one.counts)
    return {"learning": PartFacts(one.source, one.fingerprint, questions, one.has_golds, counts)}


def _all_seconds(results: Iterator[RunResult] | Any, own: Mapping[str, float]) -> dict[str, float]:
    """The seconds of all candidates on the asked part, and the router's own, by stage."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.seconds)
    total.update(own)
    return {stage: round(value, 3) for stage, value in total.items()}


def _notes(plan: RoutedRun, results: Mapping[str, RunResult]) -> Iterator[str]:
    """What a reader of the results should know."""
    if plan.router.is_bound:
        yield "a bound, and no system: the router reads the golds of the questions it chooses for"
    for name, reason in plan.left_out.items():
        yield f"candidate {name} is left out: {reason}"
    if plan.router.learns and plan.router.folds == 1:
        trained = [one.name for one in plan.candidates if one.asked.experiment.mode == "finetune"]
        if trained:
            yield (
                f"the router learned from answers of models that had seen the golds of train "
                f"({', '.join(trained)}): router.folds=2 crosses them by user"
            )
        learned = [one.name for one in plan.candidates if _learns(one)]
        if learned:
            yield (
                f"the router learned from candidates that are optimistic on train, since they "
                f"learned from it themselves ({', '.join(learned)}): router.folds=2 crosses them"
            )
    for name, result in results.items():
        for note in result.notes:
            yield f"candidate {name}: {note}"


def _learns(candidate: Candidate) -> bool:
    return any(run.experiment.learns_from_train for run in candidate.on_train)
