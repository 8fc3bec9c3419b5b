"""The laws of components (`lamp_exp.laws`), applied to everything that conf/ lists."""

from __future__ import annotations

import functools

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from lamp_exp import laws
from lamp_exp.components import recipe
from lamp_exp.config import ExperimentBuilder
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.tasks import all_tasks
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Hit
from tests.conftest import compose, experiment, options
from tests.routers import small_options
from tests.test_dense import dense_folder, encoder  # noqa: F401  (a fixture)

COMPONENTS = [
    "task", "retriever", "augmentation", "summary", "model", "adapter", "router", "trainer",
    "logger",
]  # fmt: skip
GROUPS = [*COMPONENTS, "experiment", "sweep"]


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in GROUPS for option in options(group)]
)
def test_every_option_composes_and_its_target_takes_its_keys(group, option):
    cfg, _ = compose(f"{'+' if group == 'sweep' else ''}{group}={option}")
    if OmegaConf.is_missing(cfg.model, "name"):
        cfg.model.name = "a-name"
    for node in [group] if group in COMPONENTS else COMPONENTS:
        # The options of the model that a router asks are not the router's own.
        check_names = node != "router" or option != "llm"
        assert isinstance(recipe(cfg, node, check_names), functools.partial)


def check(group: str, *overrides: str) -> None:
    for law in laws.laws_of(experiment(*overrides), group):
        print(law.title)
        law.check()


@pytest.mark.parametrize("option", options("retriever"))
def test_retrievers_keep_their_laws(option, encoder):  # noqa: F811
    check("retriever", f"retriever={option}", "mode=rank", *dense_folder(option, encoder))


@pytest.mark.parametrize("option", options("task"))
def test_tasks_keep_their_laws(option):
    check("task", f"task={option}", "mode=rank")


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("option", options("augmentation"))
def test_augmentations_keep_their_laws(task, option):
    check("augmentation", f"augmentation={option}", f"task={task}", "model=tiny", "mode=prompts")


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("option", options("summary"))
def test_summaries_keep_their_laws(task, option):
    check("summary", f"summary={option}", f"task={task}", "model=tiny", "mode=prompts")


@pytest.mark.parametrize("option", options("model"))
def test_models_keep_their_laws(option):
    words = [f"model={option}", "trainer=cpu", "trainer.enable_progress_bar=false", "mode=zeroshot"]
    cfg, _ = compose(*words)
    if OmegaConf.is_missing(cfg.model, "name") or cfg.model.name is not None:
        pytest.skip("needs weights or a server")
    check("model", *words)


@pytest.mark.parametrize("option", options("adapter"))
def test_adapters_keep_their_laws(option, encoder):  # noqa: F811
    few = ["adapter.epochs=2", "adapter.lr=0.3"] if option != "none" else []
    cfg, _ = compose(f"adapter={option}")
    if OmegaConf.select(cfg, "adapter.encoder.name"):
        few.append(f"adapter.encoder.name={encoder}")
    words = ["model=tiny", "mode=zeroshot", "k=0", "max_new_tokens=8", "trainer=cpu"]
    quiet = "trainer.enable_progress_bar=false"
    check("adapter", f"adapter={option}", *few, *words, quiet)


@pytest.mark.parametrize("option", options("router"))
def test_routers_keep_their_laws(option):
    words = [f"router={option}", "task=lamp2", "mode=zeroshot", "model=tiny", "trainer=cpu"]
    words += ["trainer.enable_progress_bar=false", *small_options(option)]
    cfg, choices = compose(*words)
    for law in laws.router_laws(ExperimentBuilder(cfg, choices, {}, tuple(words))):
        print(law.title)
        law.check()


class Bad(BM25):
    """Leaves out a document, or ranks worst first, or by chance."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def rank(self, query, documents):
        return self.fault(list(super().rank(query, documents)))


@pytest.mark.parametrize(
    ("law", "fault"),
    [
        (laws.ranks_each_document_once, lambda hits: hits[:-1]),
        (laws.ranks_each_document_once, lambda hits: hits + hits[:1]),
        (laws.ranks_best_first, lambda hits: hits[::-1]),
        (laws.ranks_alike_again, lambda hits: [Hit(hit.id, float(id(hits))) for hit in hits]),
    ],
)
def test_a_retriever_that_breaks_a_law_is_noticed(law, fault):
    law(BM25())
    with pytest.raises(laws.BrokenLaw):
        law(Bad(fault))


def test_a_task_that_breaks_a_law_is_noticed(monkeypatch):
    task = Lamp4()
    monkeypatch.setattr(Lamp4, "entry_template", "{title}")
    with pytest.raises(laws.BrokenLaw, match="the entry"):
        laws.shows_the_body_in_the_entry(task)


def test_the_command(capsys, monkeypatch):
    assert laws.main(["retriever=bm25", "augmentation=ipa", "task=lamp3"]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    monkeypatch.setattr(BM25, "rank", lambda *_: 1 / 0)
    assert laws.main(["retriever=bm25"]) == 1
    printed = capsys.readouterr()
    assert "BROKEN  A ranking holds each document once" in printed.out
    assert "ZeroDivisionError" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["k=3"], "name a component, such as retriever=bm25"),
        (["retriever=nothing"], "retriever=nothing does not exist: choose one of bm25,"),
        (["retriever=bm25", "retriever.k2=1"], "retriever.k2"),
        (["retriever=bm25", "--config-dir", "nowhere"], "--config-dir nowhere is no folder"),
    ],
)
def test_mistakes_are_one_line(capsys, words, message):
    assert laws.main(words) == 2
    assert f"lamp_exp.laws: {message}" in capsys.readouterr().err


def test_the_sample_of_a_task_has_queries_from_its_inputs():
    for name, task in all_tasks().items():
        for example in laws._sample(task):
            assert task.query(example.input) in example.input or name == "lamp1"


def test_the_tiny_model_brings_its_own_learning_rate_and_the_command_line_wins():
    assert compose("model=flan_t5_base")[0].training.lr == 5e-5
    assert compose("model=tiny")[0].training.lr == 3e-3
    assert compose("model=tiny", "training.lr=0.5")[0].training.lr == 0.5
    assert compose("experiment=first")[0].trainer.max_epochs == 8


def test_the_tasks_of_the_package_are_those_of_the_configuration():
    modules = {name: type(task).__module__ for name, task in all_tasks().items()}
    targets = {name: compose(f"task={name}")[0].task._target_ for name in options("task")}
    assert modules == {name: target.rpartition(".")[0] for name, target in targets.items()}
    assert all(get_class(target).__doc__ for target in targets.values())
