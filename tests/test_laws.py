"""The laws that every option in conf/ keeps; a new component is tested by being listed there."""

from __future__ import annotations

import functools
import inspect
from itertools import pairwise

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from lamp_exp.config import recipe
from lamp_exp.data import load
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.retrievers.dense import Dense
from lamp_exp.tasks import all_tasks
from lamp_exp.values import Document, Example, Hit, ProfileItem, Query
from tests.conftest import TINY, compose, experiment, options
from tests.conftest import ranked as conftest_ranked
from tests.test_dense import encoder  # noqa: F401  (a fixture)

COMPONENTS = ["task", "retriever", "augmentation", "model", "trainer", "logger"]
GROUPS = [*COMPONENTS, "experiment", "sweep"]


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in GROUPS for option in options(group)]
)
def test_every_option_composes_and_its_target_takes_its_keys(group, option):
    cfg, _ = compose(f"{'+' if group == 'sweep' else ''}{group}={option}")
    if OmegaConf.is_missing(cfg.model, "name"):
        cfg.model.name = "a-name"
    for node in [group] if group in COMPONENTS else COMPONENTS:
        assert isinstance(recipe(cfg, node), functools.partial)


def dense_folder(name: str, encoder: str) -> list[str]:  # noqa: F811
    """Dense retrievers are built on the small random encoder."""
    target = get_class(compose(f"retriever={name}")[0].retriever._target_)
    return [f"retriever.name={encoder}"] if target is Dense else []


@pytest.fixture(params=options("retriever"))
def retriever(request: pytest.FixtureRequest, encoder):  # noqa: F811
    name = request.param
    return experiment(
        f"retriever={name}", "mode=rank", *dense_folder(name, encoder)
    ).retrieval.retriever


def dated(*texts: str) -> list[Document]:
    from datetime import datetime

    return [Document(str(n), text, datetime(2020, 1, 1 + n % 3)) for n, text in enumerate(texts)]


PROFILES = [
    [],
    ["only one"],
    ["", "  "],
    ["alpha beta", "beta gamma", "gamma", "", "alpha beta", "delta"],
    ["same"] * 20,
]


@pytest.mark.parametrize("texts", PROFILES)
@pytest.mark.parametrize("query", ["alpha beta", "", "nothing alike"])
def test_a_ranking_holds_each_document_once_best_first(retriever, texts, query):
    documents = dated(*texts)
    hits = retriever.rank(Query("q", query), documents)
    if not retriever.uses_profile:
        assert hits == []
        return
    assert sorted(hit.id for hit in hits) == sorted(document.id for document in documents)
    if texts != [""] and "" not in texts:  # blank documents come last, whatever they score
        assert all(first.score >= second.score for first, second in pairwise(hits))
    assert all(isinstance(hit, Hit) for hit in hits)
    assert retriever.rank(Query("q", query), documents) == hits


def test_ranking_many_questions_is_ranking_each(retriever):
    questions = [(Query(str(n), f"alpha {n}"), dated(*texts)) for n, texts in enumerate(PROFILES)]
    together = list(retriever.rank_batch(questions))
    assert [[h.id for h in hits] for hits in together] == [
        [h.id for h in retriever.rank(*question)] for question in questions
    ]
    backwards = list(retriever.rank_batch(questions[::-1]))[::-1]
    assert [[h.id for h in hits] for hits in backwards] == [
        [h.id for h in hits] for hits in together
    ]


@pytest.fixture(scope="module")
def tiny_tokens() -> TransformersTokenCounter:
    return TransformersTokenCounter(load_tokenizer(str(TINY)))


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("augmentation", options("augmentation"))
@pytest.mark.parametrize("length", [24, 100, 300])
def test_every_prompt_fits_and_none_of_nothing_is_the_bare_input(
    task, augmentation, length, tiny_tokens
):
    p = experiment(f"task={task}", f"augmentation={augmentation}", "model=tiny", "mode=prompts")
    for example, ranking in ranked(task):
        bare = p.augmentation(p.task, example, [], tiny_tokens, length)
        assert bare.passages == (example.input,)
        for k in (1, 4, 16):
            made = p.augmentation(p.task, example, ranking[:k], tiny_tokens, length)
            assert made.id == example.id
            assert len(made.items) + made.lost_items == min(k, len(ranking))
            assert made.items == tuple(hit for hit in ranking if hit in made.items)
            for text in made.passages:
                whole = tiny_tokens.count(text) <= length
                assert whole or made.cut_passages
                assert whole or keeps_instruction(p.task, text, example.input, tiny_tokens, length)


@functools.cache
def ranked(task: str) -> list[tuple[Example, list[Hit]]]:
    """Some questions of the sample with their rankings."""
    return conftest_ranked(f"task={task}", "mode=rank", "limit=12")


def keeps_instruction(task, text, input, tokens, length):
    """Only a bare input may be cut before its instruction ends."""
    return text == input or tokens.count(text[: task.instruction_end(text, input)]) <= length


@pytest.mark.parametrize("task", options("task"))
def test_a_task_reads_what_it_makes_and_scores_the_gold_as_perfect(task):
    chosen = experiment(f"task={task}", "mode=rank").task
    part = load(None, chosen, "user", "dev", limit=30)
    golds = [example.target for example in part.examples]
    scores = chosen.score(golds, golds)
    main = chosen.main_metric
    assert list(scores.metrics) == [metric.name for metric in chosen.metrics]
    assert scores.metrics[main.name] == (1 if main.higher_is_better else 0)
    assert scores.invalid_outputs == 0
    assert all(len(values) == len(golds) for values in scores.per_example.values())
    for example in part.examples:
        query = chosen.query(example.input)
        assert (query and query in example.input) or chosen.name == "LaMP_1"
        for item in example.profile:
            assert isinstance(item, ProfileItem)
            assert chosen.body(item) in chosen.entry(item, chosen.body(item))


@pytest.mark.parametrize("group", ["task", "retriever", "augmentation", "model"])
def test_what_a_component_is_says_its_docstring(group):
    for option in options(group):
        target = get_class(compose(f"{group}={option}")[0][group]._target_)
        assert inspect.getdoc(target), option


def test_the_tiny_model_brings_its_own_learning_rate_and_the_command_line_wins():
    assert compose("model=flan_t5_base")[0].training.lr == 5e-5
    assert compose("model=tiny")[0].training.lr == 3e-3
    assert compose("model=tiny", "training.lr=0.5")[0].training.lr == 0.5
    assert compose("experiment=first")[0].trainer.max_epochs == 8


def test_the_tasks_of_the_package_are_those_of_the_configuration():
    named = {name: type(task).__module__ for name, task in all_tasks().items()}
    targets = {name: compose(f"task={name}")[0].task._target_ for name in options("task")}
    assert named == {name: target.rpartition(".")[0] for name, target in targets.items()}
