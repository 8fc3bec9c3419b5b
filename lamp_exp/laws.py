"""`python -m lamp_exp.laws retriever=NAME --config-dir my/conf`: checks a component of one's own.

A law is what every component of a kind must keep, such as: a ranking holds each document once. The
laws work on made-up data, without a network. The project's tests apply them to all of `conf/`.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import inspect
import math
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import hydra_messages
from lamp_exp.artefacts import (
    Adapter,
    Artefact,
    Cost,
    FitSource,
    LearnedRetriever,
    Router,
    RouterSource,
    TrainSource,
)
from lamp_exp.composition import compose_config
from lamp_exp.composition import config_dir as use_config_dir
from lamp_exp.config import ExperimentBuilder
from lamp_exp.contracts import (
    Augmentation,
    Component,
    DenseRetriever,
    Model,
    Retriever,
    Summary,
    Task,
    TokenCounter,
    WrittenSummary,
)
from lamp_exp.data import load
from lamp_exp.environment import run_command
from lamp_exp.errors import InputError
from lamp_exp.experiment.adapting import AskedProfiles, Histories
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.prompting import make_prompt
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.storage.feedback import read_feedback, rewards_by_question, write_feedback
from lamp_exp.summaries.none import NoSummary
from lamp_exp.tasks import all_tasks
from lamp_exp.values import (
    Choice,
    Document,
    Example,
    History,
    Hit,
    ProfileItem,
    Prompt,
    Query,
    RewardedList,
    RoutedQuestion,
    TrainQuestion,
)

PROFILES: tuple[tuple[str, ...], ...] = (  # texts of the documents that retrievers must rank
    (),
    ("only one",),
    ("", "  "),
    ("alpha beta", "beta gamma", "gamma", "", "alpha beta", "delta"),
    ("same",) * 20,
)
QUERIES = ("alpha beta", "", "nothing alike")
QUESTIONS = 12  # of the made-up sample, from which prompts are made
LENGTHS = (24, 100, 300)
SUMMARY = "the nurse meets the oven near the lakes"
TEXTS = ("", "one", "the nurse meets the oven, near 3.5% of the lakes", "naïve words")


class BrokenLaw(AssertionError):
    """A component does not keep a law; the message says in which case."""


@dataclass(frozen=True, slots=True)
class Law:
    """A law, and the component that it is checked on; `check` raises if it is broken."""

    component: object
    title: str
    check: Callable[[], None]


def laws_of(experiment: Experiment, group: str) -> list[Law]:
    """The laws for the experiment's component of a group.

    The groups are task, retriever, augmentation, model and adapter. For the last two, the
    experiment needs a mode that answers.
    """
    task, retriever = experiment.task, experiment.retrieval.retriever
    augmentation, model, trainer = experiment.augmentation, experiment.model, experiment.trainer
    if group == "task":
        return _laws(TASK_LAWS, task)
    if group == "retriever" and isinstance(retriever, LearnedRetriever):
        return _learned_retriever_laws(retriever)
    if group == "retriever":
        return _laws(RETRIEVER_LAWS, retriever)
    if group == "augmentation":
        assert augmentation, "the mode makes prompts"
        return _laws(AUGMENTATION_LAWS, augmentation, task)
    if group == "summary":
        return _laws(SUMMARY_LAWS, experiment.summary or NoSummary(), task)
    assert model and trainer, "the mode answers"
    if group == "adapter":
        assert experiment.adapter, "the mode answers"
        return _laws(ADAPTER_LAWS, experiment.adapter, experiment)
    return _laws(MODEL_LAWS, model, partial(trainer.build, logger=False))


def _laws(checks: Sequence[Callable[..., None]], component: object, *given: object) -> list[Law]:
    named = partial(has_a_docstring, component)
    laws = [Law(component, _title(has_a_docstring), named)]
    laws += [Law(component, _title(check), partial(check, component, *given)) for check in checks]
    return laws


def _title(check: Callable[..., None]) -> str:
    return (check.__doc__ or "").rstrip(".")


def _require(condition: bool, case: str) -> None:
    if not condition:
        raise BrokenLaw(case)


def has_a_docstring(component: object) -> None:
    """The class has a docstring, which says what the component does."""
    _require(bool(inspect.getdoc(type(component))), f"{type(component).__qualname__} has none")


# --- retrievers --------------------------------------------------------------------------------


def ranks_each_document_once(retriever: Retriever) -> None:
    """A ranking holds each document once, or none if `uses_profile` is False."""
    for query, documents in _questions():
        ids = sorted(hit.id for hit in retriever.rank(query, documents))
        expected = sorted(d.id for d in documents) if retriever.uses_profile else []
        _require(ids == expected, f"{_case(query, documents)} gave the ids {ids}")


def ranks_best_first(retriever: Retriever) -> None:
    """Scores do not rise along a ranking, except from a document to a blank one."""
    for query, documents in _questions():
        blank = {document.id for document in documents if not document.text.strip()}
        scores = [hit.score for hit in retriever.rank(query, documents) if hit.id not in blank]
        falling = all(first >= second for first, second in pairwise(scores))
        _require(falling, f"{_case(query, documents)} gave {scores}")


def ranks_alike_again(retriever: Retriever) -> None:
    """The same question has the same ranking when it is ranked again."""
    for query, documents in _questions():
        again = list(retriever.rank(query, documents)) == list(retriever.rank(query, documents))
        _require(again, f"{_case(query, documents)} gave two rankings")


def ranks_batches_as_single_questions(retriever: Retriever) -> None:
    """`rank_batch` ranks as `rank` does, whatever the order of the questions."""
    questions = _questions()
    single = [[hit.id for hit in retriever.rank(*question)] for question in questions]
    for step in (1, -1):
        batch = [[hit.id for hit in hits] for hits in retriever.rank_batch(questions[::step])]
        _require(batch == single[::step], f"rank_batch gave {batch}, rank {single[::step]}")


def encodes_each_text_alike(retriever: Retriever) -> None:
    """A dense retriever gives a text one vector, whatever else it encodes, in any order."""
    if not isinstance(retriever, DenseRetriever):
        return
    texts = [text for profile in PROFILES for text in profile]
    vectors = retriever.encode(texts)
    _require(vectors.shape[0] == len(texts), f"{len(texts)} texts have {vectors.shape[0]} vectors")
    backwards = retriever.encode(texts[::-1])[::-1]
    _require((vectors == backwards).all(), "the vectors of the texts in another order are others")


def _questions() -> list[tuple[Query, list[Document]]]:
    profiles = [
        [Document(str(n), text, datetime(2020, 1, 1 + n % 3)) for n, text in enumerate(texts)]
        for texts in PROFILES
    ]
    pairs = [(text, documents) for documents in profiles for text in QUERIES]
    return [(Query(f"q{n}", text), documents) for n, (text, documents) in enumerate(pairs)]


def _case(query: Query, documents: Sequence[Document]) -> str:
    return f"the query {query.text!r} with the documents {[d.text for d in documents]}"


RETRIEVER_LAWS = (
    ranks_each_document_once,
    ranks_best_first,
    ranks_alike_again,
    ranks_batches_as_single_questions,
    encodes_each_text_alike,
)


# --- retrievers that learn ---------------------------------------------------------------------


def _learned_retriever_laws(retriever: LearnedRetriever) -> list[Law]:
    """The laws of all retrievers, once it has learned from made-up rewards; and one of its own."""
    fitted = cache(partial(_fitted, retriever))
    laws = [Law(retriever, _title(has_a_docstring), partial(has_a_docstring, retriever))]
    laws += [
        Law(retriever, _title(check), lambda check=check: check(fitted()))  # type: ignore[misc]
        for check in RETRIEVER_LAWS
    ]
    again = partial(learns_alike_again, retriever)
    return [*laws, Law(retriever, _title(learns_alike_again), again)]


def learns_alike_again(retriever: LearnedRetriever) -> None:
    """A retriever that learns the same anew ranks alike."""
    first, second = (
        [list(hits) for hits in _fitted(retriever).rank_batch(_questions())] for _ in range(2)
    )
    _require(first == second, f"the rankings were {first}, then {second}")


def _fitted(retriever: LearnedRetriever) -> LearnedRetriever:
    """A copy that has learned from made-up rewards, in a folder of its own."""
    learner, folder = copy.deepcopy(retriever), tempfile.mkdtemp(prefix="lamp_exp-laws-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = ArtefactStore(Path(folder))
    learner.load([store.make(artefact) for artefact in learner.artefacts(MadeUpSource())])
    return learner


class MadeUpSource(FitSource):
    """The questions of the laws, with rewards that are drawn by question and item."""

    seed = 0
    options: Mapping[str, Any] = {}

    def code(self, component: Component) -> str:
        return type(component).__qualname__

    def feedback(self, base: Retriever) -> Artefact:
        return MadeUpFeedback(base)

    def rewarded_lists(self, feedback: Path) -> list[RewardedList]:
        """Every third question is of a user who is held out."""
        rewards, lists = rewards_by_question(read_feedback(feedback)), []
        for number, (query, documents) in enumerate(_questions()):
            items, texts = rewards.get(query.id, {}), {d.id: d.text for d in documents}
            shown = [texts[item] for item in items]
            values, held_out = list(items.values()), number % 3 == 0
            lists.append(
                RewardedList(query.id, f"user {number}", query.text, shown, values, held_out)
            )
        return lists


@dataclass(frozen=True)
class MadeUpFeedback(Artefact):
    """Drawn rewards for the items that a retriever ranks best."""

    kind = "feedback"
    base: Retriever

    def identity(self) -> dict[str, Any]:
        return {"base": type(self.base).__qualname__}

    def cost(self) -> Cost:
        return Cost(len(_questions()), "made-up question")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        rows = [
            (query.id, hit.id, rank, Random(f"{query.id}:{hit.id}").random())
            for query, documents in _questions()
            for rank, hit in enumerate(self.base.rank(query, documents)[:16])
        ]
        write_feedback(folder, rows)
        return {}


# --- tasks -------------------------------------------------------------------------------------


def follows_its_template(task: Task) -> None:
    """The questions of the made-up sample follow the task's template and have a query."""
    for example in _sample(task):
        follows = task.follows_template(example.input) and bool(task.query(example.input).strip())
        _require(follows, f"the input {example.input!r}")


def scores_targets_as_perfect(task: Task) -> None:
    """Targets are valid outputs, and score best against themselves, in all metrics."""
    targets = [example.target or "" for example in _sample(task)]
    scores = task.score(targets, targets)
    names = [metric.name for metric in task.metrics]
    _require(list(scores.metrics) == names, f"score gave {list(scores.metrics)}, not {names}")
    best = float(task.main_metric.higher_is_better)
    value = scores.metrics[task.main_metric.name]
    _require(value == best, f"the main metric is {value}, not {best}")
    _require(not scores.invalid_outputs, f"{scores.invalid_outputs} targets count as invalid")
    lengths = {name: len(values) for name, values in scores.per_example.items()}
    _require(set(lengths.values()) == {len(targets)}, f"scores per example: {lengths}")


def shows_the_body_in_the_entry(task: Task) -> None:
    """An item's entry holds its body, and the prompt of the entries ends in no lost text."""
    for example in _sample(task):
        entries = [task.entry(item, task.body(item)) for item in example.profile]
        for item, entry in zip(example.profile, entries, strict=True):
            _require(task.body(item) in entry, f"the entry {entry!r}")
        prompt = task.join(example.input, entries)
        _require(all(entry in prompt for entry in entries), f"the prompt {prompt!r}")
        _require(task.join(example.input, []) == example.input, "a prompt without entries")


def places_a_summary_beside_the_prompt(task: Task) -> None:
    """A prompt with a summary holds both whole, and the instruction ends where it did."""
    for example in _sample(task):
        entries = [task.entry(item, task.body(item)) for item in example.profile[:2]]
        prompt = task.join(example.input, entries)
        placed, end = task.place_summary(prompt, SUMMARY), task.instruction_end
        _require(SUMMARY in placed, f"the prompt {placed!r}")
        rest, after = prompt[end(prompt, example.input) :], placed[end(placed, example.input) :]
        _require(rest == after, f"after the instruction stands {after!r}, not {rest!r}")


TASK_LAWS = (
    follows_its_template,
    scores_targets_as_perfect,
    shows_the_body_in_the_entry,
    places_a_summary_beside_the_prompt,
)


@lru_cache
def _sample(task: Task) -> list[Example]:
    """Questions of the made-up sample."""
    with tempfile.TemporaryDirectory() as folder:
        return list(load(None, task, "user", "dev", QUESTIONS, Path(folder)).examples)


# --- augmentations -----------------------------------------------------------------------------


def shows_the_input_alone_without_items(augmentation: Augmentation, task: Task) -> None:
    """Without hits, the input is the only passage."""
    for example in _sample(task):
        passages = augmentation(task, example, [], _counter(), max(LENGTHS)).passages
        _require(passages == (example.input,), f"{passages} for the input {example.input!r}")


def accounts_for_every_item(augmentation: Augmentation, task: Task) -> None:
    """Each hit is in `items`, in the order of the ranking, or counted in `lost_items`."""
    for example, hits, length in _prompt_cases(task):
        prompt = augmentation(task, example, hits, _counter(), length)
        case = f"{len(hits)} hits within {length} tokens: {prompt}"
        _require(prompt.id == example.id, case)
        _require(len(prompt.items) + prompt.lost_items == len(hits), case)
        _require(prompt.items == tuple(hit for hit in hits if hit in prompt.items), case)


def keeps_within_the_length(augmentation: Augmentation, task: Task) -> None:
    """A passage fits, or is counted in `cut_passages` and keeps its instruction when it is cut."""
    counter = _counter()
    for example, hits, length in _prompt_cases(task):
        prompt = augmentation(task, example, hits, counter, length)
        for text in prompt.passages:
            if counter.count(text) > length:
                start = text[: task.instruction_end(text, example.input)]
                case = f"{len(hits)} hits within {length} tokens: {text!r}"
                _require(prompt.cut_passages > 0, case)
                _require(text == example.input or counter.count(start) <= length, case)


def shows_the_summary_in_each_passage(augmentation: Augmentation, task: Task) -> None:
    """Each passage shows the summary, or it is counted as cut or lost; its tokens are counted."""
    counter = _counter()
    for example, hits, length in _prompt_cases(task):
        prompt = augmentation(task, example, hits, counter, length, summary=SUMMARY)
        case = f"{len(hits)} hits within {length} tokens: {prompt}"
        whole = all(SUMMARY in text for text in prompt.passages)
        _require(whole != (prompt.summary_cut or prompt.summary_lost), case)
        _require(prompt.summary_tokens > 0 or prompt.summary_lost, case)
        for text in prompt.passages:
            start = text[: task.instruction_end(text, example.input)]
            kept = prompt.summary_lost or counter.count(start) <= length
            _require(kept, f"no instruction among {case}")


def _prompt_cases(task: Task) -> Iterator[tuple[Example, list[Hit], int]]:
    for example in _sample(task):
        ranking = [Hit(item.id, -float(n)) for n, item in enumerate(example.profile)]
        for k in (1, 4, 16):
            for length in LENGTHS:
                yield example, ranking[:k], length


@lru_cache
def _counter() -> TokenCounter:
    from lamp_exp.models.seq2seq import SAMPLE_TOKENIZER
    from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer

    return TransformersTokenCounter(load_tokenizer(str(SAMPLE_TOKENIZER)))


AUGMENTATION_LAWS = (
    shows_the_input_alone_without_items,
    accounts_for_every_item,
    keeps_within_the_length,
    shows_the_summary_in_each_passage,
)


# --- summaries ---------------------------------------------------------------------------------


def says_the_same_of_equal_profiles(summary: Summary, task: Task) -> None:
    """Profiles of equal content have equal summaries, whatever was summarised before."""
    profiles = [example.profile for example in _sample(task)]
    texts = [_summary_text(summary, task, profile) for profile in profiles]
    renamed = [[item._replace(id=f"new{item.id}") for item in one] for one in profiles]
    again = [_summary_text(summary, task, profile) for profile in reversed(renamed)]
    _require(again[::-1] == texts, f"{again[::-1]} and {texts}")


def says_nothing_of_an_empty_profile(summary: Summary, task: Task) -> None:
    """An empty profile has no summary; others have one, unless `uses_profile` is False."""
    _require(_summary_text(summary, task, ()) == "", "an empty profile has a summary")
    for example in _sample(task):
        text = _summary_text(summary, task, example.profile)
        needed = summary.uses_profile and len(example.profile) > 1
        _require(bool(text.strip()) == needed or len(example.profile) == 1, f"{text!r}")


def asks_a_writer_within_its_length(summary: Summary, task: Task) -> None:
    """What a writer reads is no longer than `input_tokens`."""
    if isinstance(summary, WrittenSummary):
        for example in _sample(task):
            request = summary.request(task, example.profile, _counter())
            if request is not None:
                length = _counter().count(request.text)
                _require(length <= summary.input_tokens, f"{length} tokens: {request.text!r}")


def _summary_text(summary: Summary, task: Task, profile: Sequence[ProfileItem]) -> str:
    """The text; of a written one, what the writer reads."""
    if isinstance(summary, WrittenSummary):
        summary.load(lambda request: request, _counter())
    return summary.text(task, profile)


SUMMARY_LAWS = (
    says_the_same_of_equal_profiles,
    says_nothing_of_an_empty_profile,
    asks_a_writer_within_its_length,
)


# --- models ------------------------------------------------------------------------------------


def cuts_text_within_the_limit(model: Model, trainer: Callable[..., object]) -> None:
    """The token counter cuts a text to the limit, and leaves one that fits uncut."""
    counter = model.token_counter
    for text in TEXTS:
        length = counter.count(text)
        for limit in range(2, length + 2):
            _, tokens = counter.truncate(text, limit)
            case = f"{text!r}, {length} tokens, cut to {limit}, has {tokens}"
            _require(tokens == min(limit, length), case)


def answers_each_prompt_once(model: Model, trainer: Callable[..., object]) -> None:
    """Each prompt has one prediction, in the order of the prompts."""
    prompts = [Prompt(f"q{n}", (text,)) for n, text in enumerate(TEXTS) if text]
    if model.multiple_passages:
        prompts.append(Prompt("several", TEXTS[1:]))
    ids = [prediction.id for prediction in model.predict(prompts, trainer)]
    _require(ids == [prompt.id for prompt in prompts], f"predictions of {ids}")


MODEL_LAWS = (cuts_text_within_the_limit, answers_each_prompt_once)


# --- adapters ----------------------------------------------------------------------------------

ADAPTED = 3  # questions that an adapter learns for
LEARNED = 8  # questions that one learns from


def makes_a_pair_of_an_item_by_its_content_alone(adapter: Adapter, experiment: Experiment) -> None:
    """The task's pairs depend on seed and content of an item, not on its id or place."""
    for example in _sample(experiment.task):
        for item in example.profile:
            pairs = [experiment.task.item_pair(item._replace(id=id), 0) for id in ("1", item.id)]
            _require(pairs[0] == pairs[1], f"the item {item} has {pairs}")


def adapts_to_one_user_whoever_else_is_asked(adapter: Adapter, experiment: Experiment) -> None:
    """A question has the same answer alone, and after others whose adapters were learned first."""
    examples = _sample(experiment.task)[:ADAPTED]
    together = _adapted_answers(adapter, experiment, examples)
    _require_equal_vectors(adapter, experiment, [example.id for example in examples])
    for one in reversed(examples):
        alone = _adapted_answers(adapter, experiment, [one])
        _require(alone == {one.id: together[one.id]}, f"{alone}, with others {together}")


def leaves_the_models_own_weights_alone(adapter: Adapter, experiment: Experiment) -> None:
    """Learning and answering change no weight that the model had before, unless it is to learn."""
    if adapter.trains_model:
        return
    model = experiment.model
    configure = getattr(model, "configure_model", lambda: None)
    configure()
    before = {id(w): (w, w.detach().clone()) for w in getattr(model, "parameters", tuple)()}
    _adapted_answers(adapter, experiment, _sample(experiment.task)[:ADAPTED])
    changed = sum(not bool((now == then).all()) for now, then in before.values())
    _require(not changed, f"{changed} of {len(before)} weights have changed")


def _require_equal_vectors(adapter: Adapter, experiment: Experiment, ids: Sequence[str]) -> None:
    """What stands before a prompt is the same, bit for bit, alone and among others."""
    assert experiment.model, "the mode answers"
    together = adapter.soft_tokens(experiment.model, ids)
    for id, vectors in zip(ids, () if together is None else together, strict=together is not None):
        (alone,) = adapter.soft_tokens(experiment.model, [id])
        _require(bool((alone == vectors).all()), f"other vectors of question {id} alone")


def _adapted_answers(
    adapter: Adapter, experiment: Experiment, examples: Sequence[Example]
) -> dict[str, str]:
    """The answers to questions, whose golds are not there, with all that is needed made anew."""
    model, trainer, augmentation = experiment.model, experiment.trainer, experiment.augmentation
    assert model and trainer and augmentation, "the mode answers"
    train = _SampleTrain(experiment) if adapter.learns_from_train else None
    asked = [replace(example, target=None) for example in examples]
    source = _SampleProfiles(experiment, asked, train)
    counter, length = model.token_counter, experiment.max_length
    prompts = [augmentation(experiment.task, e, [], counter, length) for e in examples]
    with tempfile.TemporaryDirectory() as folder:
        store = ArtefactStore(Path(folder))
        adapter.load([store.make(artefact) for artefact in adapter.artefacts(source)], source)
        model.use_adapter(adapter)
        answers = model.predict(prompts, partial(trainer.build, logger=False))
    return {answer.id: answer.output for answer in answers}


class _SampleProfiles(AskedProfiles):
    """The profiles of some questions of the made-up sample, for an experiment without a run."""

    def __init__(
        self, experiment: Experiment, examples: Sequence[Example], train: TrainSource | None
    ) -> None:
        configuration = Configuration({}, {"seed": 0, "adapter": {}}, {}, {})
        super().__init__(experiment, configuration, examples, train)

    @property
    def reading(self) -> dict[str, Any]:  # type: ignore[override]
        return {"model": {}}


class _SampleTrain(TrainSource):
    """Questions of the made-up sample to learn from, every fourth of which is held out."""

    def __init__(self, experiment: Experiment) -> None:
        self.identity, self.requires = {}, ()
        self.experiment, self.task = experiment, experiment.task
        self.examples = _sample(self.task)[:LEARNED]
        self.histories = Histories(self.task, self.examples)

    def questions(self) -> list[TrainQuestion]:
        prompts = [make_prompt(self.experiment, example, ()) for example in self.examples]
        return [
            TrainQuestion(example.id, prompt, example.target or "", number % 4 == 0)
            for number, (example, prompt) in enumerate(zip(self.examples, prompts, strict=True))
        ]

    def history(self, question: str) -> History:
        return self.histories.of(question)


ADAPTER_LAWS = (
    leaves_the_models_own_weights_alone,  # first: later, the model may hold weights of the adapter
    makes_a_pair_of_an_item_by_its_content_alone,
    adapts_to_one_user_whoever_else_is_asked,
)


# --- routers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoutedCase:
    """A router with made-up questions, and what its candidates are said to have made of them."""

    router: Router
    task: Task
    candidates: Sequence[str]
    questions: Sequence[RoutedQuestion]

    def choices(self, questions: Sequence[RoutedQuestion]) -> Sequence[Choice]:
        """As a run asks for them: rewards are for bounds only."""
        bound = self.router.is_bound
        shown = [one if bound else replace(one, rewards=None) for one in questions]
        return self.router.choose(self.task, self.candidates, shown)


def router_laws(builder: ExperimentBuilder) -> list[Law]:
    """The laws for a configuration's router; one that learns first learns from made-up results."""
    task = builder.build()[0].task
    names = tuple(builder.candidates)[:3] if builder.routed else ("first", "second", "third")
    router, questions = builder.build_router(), _routed_questions(task, len(names))
    case = RoutedCase(router, task, names, questions)
    if router.learns:
        source = RouterSource(names, questions, {}, "", 0)
        with tempfile.TemporaryDirectory() as folder:
            store = ArtefactStore(Path(folder))
            router.load(source, [store.make(artefact) for artefact in router.artefacts(source)])
            case.choices(questions[:1])  # reads what was made
    return _laws(ROUTER_LAWS, router, case)


def chooses_a_candidate_for_each_question(router: Router, case: RoutedCase) -> None:
    """Each question has one choice, which is a candidate; probabilities add up to 1."""
    choices = case.choices(case.questions)
    _require(len(choices) == len(case.questions), f"{len(choices)} choices")
    for one in choices:
        _require(0 <= one.candidate < len(case.candidates), f"the candidate {one.candidate}")
        total = sum(one.probabilities or [1.0])
        _require(math.isclose(total, 1.0, abs_tol=1e-6), f"probabilities that add up to {total}")


def chooses_alike_in_any_order(router: Router, case: RoutedCase) -> None:
    """A choice depends on its question alone."""
    together = [one.candidate for one in case.choices(case.questions)]
    backwards = [one.candidate for one in case.choices(case.questions[::-1])][::-1]
    alone = [case.choices([one])[0].candidate for one in case.questions]
    _require(together == backwards == alone, f"{together}, backwards {backwards}, alone {alone}")


def takes_the_first_of_equal_candidates(router: Router, case: RoutedCase) -> None:
    """Where a rule decides between candidates that are equal, it is the first."""
    if router.asks_a_model:  # which is not shown what the candidates made
        return
    number = len(case.candidates)
    equal = [
        replace(
            one,
            prompts=one.prompts[:1] * number,
            outputs=one.outputs[:1] * number,
            rewards=(one.rewards or ())[:1] * number,
        )
        for one in case.questions
    ]
    found = {one.candidate for one in case.choices(equal) if one.by_rule}
    _require(found <= {0}, f"the candidates {sorted(found)}")


@lru_cache
def _routed_questions(task: Task, candidates: int) -> list[RoutedQuestion]:
    """Questions of the made-up sample; each candidate answers with the gold of another one."""
    examples, found = _sample(task), []
    golds = [example.target or "" for example in examples]
    for number, example in enumerate(examples):
        outputs = tuple(golds[(number + shift) % len(golds)] for shift in range(candidates))
        rewards = tuple(task.rewards(outputs, [golds[number]] * candidates))
        prompts = tuple(f"{example.input} {output}" for output in outputs)
        given = (example.id, example.user, example.input, prompts, outputs, rewards)
        found.append(RoutedQuestion(*given, held_out=number % 4 == 0))
    return found


ROUTER_LAWS = (
    chooses_a_candidate_for_each_question,
    chooses_alike_in_any_order,
    takes_the_first_of_equal_candidates,
)


# --- the command -------------------------------------------------------------------------------

MODES = {
    "task": "rank",
    "retriever": "rank",
    "augmentation": "prompts",
    "summary": "prompts",
    "model": "zeroshot",
    "adapter": "zeroshot",
    "router": "zeroshot",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 1 if a law is broken, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.laws", description=__doc__)
    parser.add_argument("--config-dir", type=Path, help="a folder with YAMLs of one's own")
    parser.add_argument("words", nargs="+", metavar="retriever=NAME or option=VALUE")
    options = parser.parse_intermixed_args(arguments)
    broken = 0
    try:
        with use_config_dir(options.config_dir):
            for group, builder in _builders(options.words):
                broken += _check(group, builder)
    except InputError as error:
        print(f"lamp_exp.laws: {error}", file=sys.stderr)
        return 2
    return 1 if broken else 0


def _builders(words: Sequence[str]) -> Iterator[tuple[str, ExperimentBuilder]]:
    """Each component group that is named, with the builder of an experiment that uses it."""
    names = [word.partition("=")[0] for word in words]
    groups = [name for name in names if name in MODES]
    if not groups:
        raise InputError("name a component, such as retriever=bm25")
    for group in groups:
        given = [*words, f"mode={MODES[group]}"]
        given += [] if "model" in names else ["model=tiny"]
        if group in ("augmentation", "summary") and "task" not in names:
            for task in all_tasks():
                yield group, _builder([*given, f"task={task}"])
        else:
            yield group, _builder(given)


def _builder(words: Sequence[str]) -> ExperimentBuilder:
    try:
        cfg = compose_config(list(words), return_hydra_config=True)
        return ExperimentBuilder(cfg, dict(cfg.hydra.runtime.choices), {}, tuple(words))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(hydra_messages.explain(error)) from error


def _check(group: str, builder: ExperimentBuilder) -> int:
    """Prints whether each law holds; returns the number of those that do not."""
    experiment, _ = builder.build()
    laws = router_laws(builder) if group == "router" else laws_of(experiment, group)
    broken = 0
    print(f"{group} {type(laws[0].component).__qualname__}, task {experiment.task.name}:")
    for law in laws:
        result = "holds "
        try:
            law.check()
        except BrokenLaw as error:
            result = "BROKEN"
            print(f"  {error}")
        except Exception:  # noqa: BLE001  (of the component that is checked)
            result = "BROKEN"
            traceback.print_exc()
        broken += result == "BROKEN"
        print(f"  {result}  {law.title}")
    return broken


if __name__ == "__main__":
    run_command(main)
