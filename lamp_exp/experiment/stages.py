"""The stages of an experiment: load, rank, make prompts, fine-tune, answer, score.

Each stage is a function that takes what it needs and returns a value and its counts. `run_stages`
calls them in order and writes what each makes into the run's folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Made
from lamp_exp.contracts import Model, PredictionJournal, Task
from lamp_exp.data import Part, load
from lamp_exp.data.neighbours import Neighbours, NeighbourSource
from lamp_exp.data.view import POOL_DRAWS
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration, DataOptions, Experiment
from lamp_exp.experiment.learning import (
    learn,
    part_ranking,
    prompted_parts,
    validate_learning,
)
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.prompting import make_prompt, summarise
from lamp_exp.experiment.ranking import Rankings
from lamp_exp.experiment.summaries import validate_summary
from lamp_exp.progress import Report, progress
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.storage.feedback import read_feedback
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import Prediction, Prompt, Ranking, Scores, TrainingSet
from lamp_exp.wording import count_of


class UndatedItems(InputError):
    """A retriever that orders items by date was asked to rank items without one."""


Trainer = Callable[..., Any]
Ranker = Callable[[Part], Rankings | None]


# --- load --------------------------------------------------------------------------------------


def parts_read(mode: str, data: DataOptions, learns: bool) -> set[str]:
    """The names of the benchmark's parts that an experiment reads.

    `learns` says that a component other than the model learns from train.
    """
    if mode != "finetune":
        return {data.part, "train"} if learns else {data.part}
    return {data.part, "train", *([] if data.selection == "holdout" else ["dev"])}


def load_parts(experiment: Experiment) -> Parts:
    """Loads the data and validates data and components before any long work."""
    parts = read_parts(experiment)
    validate(experiment)
    validate_learning(experiment, parts.with_rewards)
    validate_summary(experiment, prompted_parts(experiment, parts))
    _refuse_lost_instruction(experiment, parts.asked)
    return parts


def read_parts(experiment: Experiment) -> Parts:
    """Loads and validates the data only: no component is loaded, so no network is needed."""
    data, trains = experiment.data, experiment.mode == "finetune"
    neighbours, profile = _neighbour_source(experiment), data.view.profile
    if profile.pool == "neighbours" and neighbours is None:  # no profile is read
        profile = replace(profile, pool="own")
    others = None if data.fold is None else f"not-fold{data.fold}"  # what is learned from

    def read(part: str, user_subset: str | None = None) -> Part:
        view = replace(data.view, profile=profile, user_subset=user_subset)
        where = (data.data_dir, experiment.task, data.split, part, data.limit, data.cache_dir)
        return load(*where, view, neighbours)

    _refuse_fold(data)
    asked = read(data.part, None if data.fold is None else f"fold{data.fold}")
    if not len(asked.examples):
        raise InputError(f"{asked.source} holds no questions")
    _refuse_undated(experiment, asked)
    learning = None
    if experiment.learns_from_train:
        learning = asked if data.part == "train" and data.fold is None else read("train", others)
        if data.split == "user":
            refuse_shared_users(learning, asked)
    if not trains:
        return Parts(asked, learning=learning)
    held_out = data.selection == "holdout"
    train = read("train", _subset(others, "rest" if held_out else None))
    if held_out:
        selection = read("train", _subset(others, "holdout"))
    else:
        selection = asked if data.part == "dev" else read("dev")
    for name, part in (("train", train), ("selection", selection)):
        _refuse_useless(name, part)
    if data.split == "user":
        refuse_shared_users(train, selection, asked)
    return Parts(asked, train, selection, learning)


def _neighbour_source(experiment: Experiment) -> NeighbourSource | None:
    encoder = experiment.neighbours_by
    if encoder is None:
        return None
    code = code_fingerprint(experiment.task, encoder, Neighbours)
    return NeighbourSource(encoder, code, experiment.data.cache_dir / "neighbours")


def validate(experiment: Experiment) -> None:
    """Raises InputError for components that do not go together, or that cannot be loaded."""
    retrieval, model = experiment.retrieval, experiment.model
    _refuse_pool(experiment)
    if experiment.usage.retrieves:
        retrieval.retriever.validate()
    if experiment.neighbours_by is not None:
        try:
            experiment.neighbours_by.validate()
        except InputError as error:
            raise InputError(f"profile.neighbours_by: {error}") from error
    if model is None:
        return
    trainer = experiment.trainer
    if trainer is None:
        model.validate(False, "")
    else:
        for metric in experiment.task.metrics:
            metric.load()
        assert experiment.adapter, "modes that answer have one"
        if "adapter" in experiment.usage.others:
            given = (experiment.mode, experiment.task, model, trainer.precision)
            experiment.adapter.validate(*given)
        model.validate(experiment.mode == "finetune", trainer.precision, trainer.build)


def _refuse_pool(experiment: Experiment) -> None:
    """Refuses pools where another component reads the profile, and, for retrievers that read items,
    those of all users: only a sample of them is drawn.
    """
    pool, retrieval = experiment.data.view.profile.pool, experiment.retrieval
    if pool == "own" or not experiment.usage.reads_profile:
        return
    for group in sorted(experiment.usage.others):
        raise InputError(f"profile.pool={pool} is for retrieval alone: use {group}=none")
    if pool != "all_users":
        return
    if not retrieval.retriever.at_random:
        raise InputError(f"profile.pool={pool} draws items at random: use retriever=random")
    if retrieval.skip + retrieval.used_k > POOL_DRAWS:
        raise InputError(f"profile.pool={pool} draws {POOL_DRAWS} items: lower k or skip")


def _refuse_lost_instruction(experiment: Experiment, part: Part) -> None:
    """Refuses a max_length that cuts off the instruction, so that no question can be understood."""
    if experiment.model is None:
        return
    task, counter = experiment.task, experiment.model.token_counter
    input = part.examples[0].input
    needed = counter.count(input[: task.instruction_end(input, input)])
    if needed > experiment.max_length:
        raise InputError(
            f"max_length={experiment.max_length} cuts off the instruction of {task.name}, which "
            f"has {needed} tokens: raise max_length"
        )


def _subset(*names: str | None) -> str | None:
    """The users who are in all of these subsets."""
    return "-".join(name for name in names if name) or None


def _refuse_fold(data: DataOptions) -> None:
    if data.fold is not None and data.part != "train":
        raise InputError(f"fold={data.fold} divides train: use it with part=train")


def _refuse_undated(experiment: Experiment, part: Part) -> None:
    if experiment.retrieval.retriever.needs_dates and part.first_undated:
        question, item = part.first_undated
        raise UndatedItems(
            f"this retriever orders items by date, but item {item!r} of question {question!r} in "
            f"{part.source} has none: use split=time, or another retriever"
        )


def _refuse_useless(name: str, part: Part) -> None:
    if not part.has_golds:
        instead = ", selection=holdout" if name == "selection" else ""
        raise InputError(
            f"mode=finetune needs golds for {name}, but {part.source} has no outputs file "
            f"beside it: use mode=zeroshot{instead}, or another data_dir"
        )
    if not len(part.examples):
        raise InputError(f"no questions are left for {name}: raise limit, or use selection=dev")


def refuse_shared_users(train: Part, *others: Part) -> None:
    """In the user split, nobody may be in train and in another part."""
    train_users = set(train.examples.column("user"))
    for other in others:
        if other.source == train.source:
            continue  # scored on train, or chosen on users held out of it
        questions = zip(other.examples.column("user"), other.examples.column("id"), strict=True)
        shared = {user: id for user, id in questions if user in train_users}
        if shared:
            user, id = next(iter(shared.items()))
            remedy = "is it split=time?"
            if user == id:
                remedy = (
                    "a question without `user_id` is taken for a user of its own, named by the "
                    f"question's id: add `user_id` to all questions, or {remedy}"
                )
            source = other.source
            users = count_of(len(shared), f"user of {source} is", f"users of {source} are")
            raise InputError(
                f"{users} in train, too (such as {user!r}), which the user split forbids: {remedy}"
            )


# --- rank --------------------------------------------------------------------------------------


def rank(
    experiment: Experiment, configuration: Configuration, cache: RankingCache, part: Part
) -> Rankings | None:
    """The ranking of each question's whole profile; None where no profile is read.

    All runs that need the same rankings share them in `cache`.
    """
    if not experiment.usage.retrieves:
        return None
    retriever = experiment.retrieval.retriever
    return part_ranking(experiment, configuration, cache, part, retriever, "retriever").rankings()


# --- prompts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PromptResults:
    """The prompts of a part, the best score of each ranking, and totals over the prompts."""

    prompts: Sequence[Prompt]
    top_scores: Sequence[float | None]
    counts: Mapping[str, int]


def make_prompts(
    experiment: Experiment,
    part: Part,
    rankings: Rankings | None,
    write: Callable[[Prompt], None] = lambda prompt: None,
    keep: bool = True,
) -> PromptResults:
    """Makes the prompt of each question and passes it to `write`.

    With `keep`, prompts and scores are also returned; without, only their counts.
    """
    retrieval, counts = experiment.retrieval, Counter(_prompt_counts(None))
    prompts: list[Prompt] = []
    top_scores: list[float | None] = []
    assert experiment.model, "prompts are made with a model's tokenizer"
    counter = experiment.model.token_counter
    shown = slice(retrieval.skip, retrieval.skip + retrieval.k)
    for row, example in enumerate(progress(part.examples, len(part.examples), "prompts")):
        ranking = [] if rankings is None else rankings.hits(row, example)
        prompt = make_prompt(experiment, example, ranking[shown])
        write(prompt)
        counts.update(_prompt_counts(prompt))
        counts.update(_summary_counts(prompt) if experiment.summary else {})
        counts["unknown_tokens"] += sum(map(counter.count_unknown, prompt.passages))
        if keep:
            prompts.append(prompt)
            top_scores.append(ranking[0].score if ranking else None)
    return PromptResults(prompts, top_scores, counts)


def _prompt_counts(prompt: Prompt | None) -> dict[str, int]:
    """What a prompt holds, and what was cut or did not fit; zeros without a prompt."""
    p = prompt or Prompt("", ())
    return {
        "passages": len(p.passages),
        "prompt_tokens": p.tokens,
        "items_shown": len(p.items),
        "items_lost": p.lost_items,
        "prompts_that_lost_items": int(p.lost_items > 0),
        "texts_cut": p.cut_texts,
        "passages_cut": p.cut_passages,
        "unknown_tokens": 0,
    }


def _summary_counts(prompt: Prompt) -> dict[str, int]:
    """Whether the prompt has a summary, and what was cut of it."""
    return {
        "summaries_shown": int(prompt.summary_tokens > 0),
        "summaries_lost": int(prompt.summary_lost),
        "summaries_empty": int(not prompt.summary_tokens and not prompt.summary_lost),
        "summaries_cut": int(prompt.summary_cut),
        "summary_tokens": prompt.summary_tokens,
    }


# --- fine-tune ---------------------------------------------------------------------------------


def training_set(
    experiment: Experiment,
    ranker: Ranker,
    parts: Parts,
    asked: PromptResults,
    folder: Path,
) -> tuple[TrainingSet, dict[str, dict[str, int]]]:
    """Train and selection as prompts with targets, and the counts of these prompts.

    `asked` are the prompts of the asked part, which may also be the one for selection.
    """
    assert parts.train and parts.selection and experiment.trainer, "load_parts loads both"
    counts = {}

    def pairs(name: str, part: Part) -> list[tuple[Prompt, str]]:
        made = asked
        if part is not parts.asked:
            made = make_prompts(experiment, part, ranker(part))
        counts[name] = dict(made.counts)
        return list(zip(made.prompts, part.examples.column("target"), strict=True))

    data = TrainingSet(
        train=pairs("train", parts.train),
        validation=pairs("selection", parts.selection),
        score=experiment.task.score,
        main_metric=experiment.task.main_metric,
        epochs=experiment.trainer.max_epochs or experiment.task.training_epochs,
        folder=folder,
    )
    return data, counts


def fit(model: Model, data: TrainingSet, trainer: Trainer) -> Mapping[str, Any]:
    """Fine-tunes the model; returns facts for the record."""
    with naming(model, "fit"):
        return model.fit(data, trainer)


# --- answer and score --------------------------------------------------------------------------


def answer(
    model: Model, prompts: Sequence[Prompt], trainer: Trainer, journal: PredictionJournal
) -> list[Prediction]:
    """One prediction per prompt, in order."""
    with naming(model, "predict"):
        predictions = list(model.predict(prompts, trainer, journal))
    expected = [prompt.id for prompt in prompts]
    assert [p.id for p in predictions] == expected, "a model must answer each prompt once, in order"
    return predictions


def score(task: Task, part: Part, predictions: Sequence[Prediction]) -> Scores | None:
    """The task's metrics; None where no targets are known."""
    if not part.has_golds:
        return None
    return task.score([p.output for p in predictions], part.examples.column("target"))


# --- all stages --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageResults:
    """What the stages found out; the files they made are in the run's folder."""

    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    rankings: Mapping[str, int]  # parts whose rankings were read from the cache, or made
    read_to_rank: Sequence[Mapping[str, Any]]  # a retriever's counts, for each part
    scores: Scores | None = None
    training: Mapping[str, Any] | None = None


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the seconds until the block ends."""
        start = time.perf_counter()
        with Report(stage):
            yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def run_stages(
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    folder: RunFolder,
    trainer: Trainer | None,
) -> StageResults:
    """Runs the stages that the experiment's mode asks for; each writes into `folder`."""
    watch, part, mode = Stopwatch(), parts.asked, experiment.mode
    cache = RankingCache(experiment.data.cache_dir / "rankings")
    ranker = partial(rank, experiment, configuration, cache)
    with watch.measure("rank"):
        counts: Counter[str] = Counter({**part.facts.counts(), "output_tokens": 0})
        rankings = ranker(part)
        if mode == "rank":
            folder.write_rankings(_ranking_rows(part, rankings))
            return StageResults(counts, watch.seconds, cache.report(), cache.all_counts())
    with watch.measure("prompts"), folder.prompts_file() as write:
        prompts = make_prompts(experiment, part, rankings, write, keep=trainer is not None)
    counts.update(prompts.counts)
    model = experiment.model
    if trainer is None or model is None:
        return StageResults(counts, watch.seconds, cache.report(), cache.all_counts())
    training = None
    if mode == "finetune":
        with watch.measure("prompts"):
            data, learned_from = training_set(experiment, ranker, parts, prompts, folder.path)
        with watch.measure("train"):
            training = {**fit(model, data, trainer), "learned_from": learned_from}
    with watch.measure("predict"):
        journal = AnswerJournal(folder.path, prompts.prompts)
        predictions = answer(model, prompts.prompts, trainer, journal)
    folder.write_predictions(
        experiment.task.name, [(part.original_id(p.id), p.output) for p in predictions]
    )
    with watch.measure("score"):
        scores = score(experiment.task, part, predictions)
    columns = {**question_columns(part), "top_similarity": prompts.top_scores}
    folder.write_examples(columns, prompts.prompts, predictions, scores)
    counts.update(answer_counts(experiment.task, predictions, scores))
    return StageResults(counts, watch.seconds, cache.report(), cache.all_counts(), scores, training)


def write_feedback(parts: Parts, folder: RunFolder, feedback: Made) -> StageResults:
    """The only stage of mode=feedback, whose table has been made: writes it into `folder`."""
    examples = parts.asked.examples
    users = dict(zip(examples.column("id"), examples.column("user"), strict=True))
    folder.write_feedback(read_feedback(feedback.folder), users)
    seconds = {"feedback": feedback.facts["seconds"]}  # also if another run made it
    return StageResults(parts.asked.facts.counts(), seconds, {}, ())


def write_summaries(experiment: Experiment, parts: Parts, folder: RunFolder) -> StageResults:
    """The only stage of mode=summaries: writes the summary of each question's profile."""
    watch, part = Stopwatch(), parts.asked
    with watch.measure("summaries"):
        pairs = [
            (example, summarise(experiment, example))
            for example in progress(part.examples, len(part.examples), "summaries")
        ]
        folder.write_summaries((one.id, one.user, text) for one, text in pairs)
    empty = sum(not text for _, text in pairs)
    counts = {**part.facts.counts(), "summaries_empty": empty}
    return StageResults(counts, watch.seconds, {}, ())


def work_along(
    experiment: Experiment, configuration: Configuration, parts: Parts, folder: Path
) -> None:
    """The part of a run that another process of it does: the same calls of the model, no record.

    `folder` is the run's: weights and predictions are left there, as the leader's are.
    """
    assert experiment.model and experiment.trainer, "only the work of a model is shared"
    learn(experiment, configuration, parts)
    cache = RankingCache(experiment.data.cache_dir / "rankings")
    ranker = partial(rank, experiment, configuration, cache)
    made = make_prompts(experiment, parts.asked, ranker(parts.asked))
    trainer = partial(experiment.trainer.build, logger=False)
    if experiment.mode == "finetune":
        data, _ = training_set(experiment, ranker, parts, made, folder)
        fit(experiment.model, data, trainer)
    answer(experiment.model, made.prompts, trainer, AnswerJournal(folder, made.prompts))


def question_columns(part: Part) -> dict[str, Sequence[Any]]:
    """The columns of `examples.parquet` that the questions decide."""
    facts = part.facts
    return {
        **{name: part.examples.column(name) for name in ("id", "user", "target")},
        "profile_size": facts.profile_size,
        "newest_item_days": facts.newest_item_days,
        "profile_days": facts.profile_days,
    }


def answer_counts(
    task: Task, predictions: Sequence[Prediction], scores: Scores | None
) -> dict[str, int]:
    """What the record says about outputs."""
    counts = {
        "outputs_at_the_token_limit": sum(prediction.capped for prediction in predictions),
        "output_tokens": sum(prediction.tokens for prediction in predictions),
    }
    marked = {
        "outputs_without_their_reasoning": sum(p.raw is not None for p in predictions),
        "outputs_with_reasoning": sum("</think>" in p.output for p in predictions),
        "outputs_refused": sum(p.withheld == "refused" for p in predictions),
        "outputs_filtered": sum(p.withheld == "filtered" for p in predictions),
    }
    counts |= {name: count for name, count in marked.items() if count}
    counts |= task.output_counts([prediction.output for prediction in predictions])
    return counts if scores is None else {**counts, **scores.notes}


def _ranking_rows(part: Part, rankings: Rankings | None) -> Iterable[tuple[str, Ranking]]:
    ids = part.examples.column("id")
    if rankings is None:
        return ((id, Ranking((), (), ())) for id in ids)
    return zip(ids, rankings.all_hits(), strict=True)
