"""Which jobs of a sweep are left out, and that no grid of the paper loses what it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lamp_exp.errors import InputError
from lamp_exp.sweeps.rules import Facts, sift, told, undated, unread_passages, untrained_fusion
from lamp_exp.sweeps.status import Job, given
from lamp_exp.sweeps.sweeper import Grid, facts
from tests.conftest import CONF, options

JOB = Facts(
    same="a", mode="finetune", split="user", k=4, retriever="bm25", augmentation="fid",
    model="flan_t5_base", uses_profile=True, needs_dates=False, many_passages=True,
    model_reads_passages=True, fine_tuned=False,
)  # fmt: skip


def test_recency_is_left_out_of_the_user_split_only():
    by_date = replace(JOB, needs_dates=True, retriever="recency")
    assert "retriever=recency needs dates" in undated(by_date)
    assert undated(replace(by_date, split="time")) is None
    assert undated(JOB) is None


def test_fusion_needs_a_model_that_learned_it():
    asked = replace(JOB, mode="zeroshot")
    assert "needs a fine-tuned model" in untrained_fusion(asked)
    assert untrained_fusion(JOB) is None
    for fine in ({"fine_tuned": True}, {"k": 0}, {"uses_profile": False}):
        assert untrained_fusion(replace(asked, **fine)) is None
    assert untrained_fusion(replace(asked, many_passages=False)) is None
    assert untrained_fusion(replace(asked, mode="prompts")) is None


def test_a_model_that_reads_one_passage_is_not_given_several():
    causal = replace(JOB, model_reads_passages=False, model="causal")
    assert "which model=causal cannot" in unread_passages(causal)
    assert unread_passages(replace(causal, mode="prompts")) is None
    assert unread_passages(replace(causal, many_passages=False)) is None
    assert unread_passages(JOB) is None


def test_of_jobs_that_are_one_run_the_first_stays():
    none = replace(JOB, uses_profile=False, retriever="none", same="bare")
    jobs = [replace(none, k=4), JOB, replace(none, k=16), replace(none, k="tune"),
            replace(JOB, k=0, same="bare"), replace(JOB, same="b")]  # fmt: skip
    kept, left = sift(jobs)
    assert kept == [0, 1, 5]
    assert told(left) == [
        "left out 2 jobs: retriever=none reads no profile: k=4 says it all",
        "left out 1 job: the same run as job 0",
    ]


def test_many_jobs_that_are_others_are_told_in_one_short_line():
    jobs = [replace(JOB, same=str(n)) for n in range(12)]
    (line,) = told(sift([*jobs, *jobs])[1])
    assert line == "left out 12 jobs: the same runs as jobs 0, 1, 2, 3, 4, 5, 6, 7, …"


def of(*overrides: str, place: int = 0) -> Facts:
    """The facts of a job as it is composed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return facts(hydra_compose("config", list(overrides), return_hydra_config=True), place)


def test_the_facts_come_from_the_components():
    recency = of("retriever=recency", "augmentation=fid", "model=tiny", "mode=zeroshot")
    assert (recency.needs_dates, recency.many_passages, recency.model_reads_passages) == (True,) * 3
    assert not of("retriever=none").uses_profile
    assert not of("augmentation=fid", "model=causal", "model.name=x").model_reads_passages
    assert not of("augmentation=fid", "mode=rank").many_passages


def test_without_items_retriever_augmentation_and_k_do_not_matter():
    bare = of("k=0").same
    ways = ["retriever=none", "retriever=none k=1", "k=0 augmentation=fid", "k=0 retriever=random"]
    assert {of(*way.split()).same for way in ways} == {bare}
    for change in ("seed=1", "task=lamp3", "model=tiny", "split=time", "mode=zeroshot"):
        assert of("k=0", change).same != bare
    assert of("mode=rank", "k=1").same == of("mode=rank", "k=2", "augmentation=fid").same
    assert of("mode=rank").same != of("mode=rank", "retriever=random").same


def test_seeds_that_are_drawn_are_never_the_same():
    assert of("seed=null", place=0).same != of("seed=null", place=1).same


@contextmanager
def grid(name: str) -> Iterator[Grid]:
    """The sweeper as a named grid sets it up; it launches nothing."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        cfg = hydra.compose_config("config", [f"+sweep={name}"], RunMode.MULTIRUN)
        HydraConfig.instance().set_config(cfg)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        options = {key: cfg.hydra.sweeper[key] for key in ("params", "rows")}
        made = Grid(**OmegaConf.to_container(OmegaConf.create(options)))
        made.setup(hydra_context=context, task_function=lambda cfg: None, config=cfg)
        yield made


def takes_tune(made: Grid) -> bool:
    try:
        made.hydra_context.config_loader.load_sweep_config(made.config, ["k=tune"])
    except (HydraException, OmegaConfBaseException):
        return False
    return True


EXPANDED = {
    "table2": 56,
    "table3": 77,
    "table4": 98,
    "figure_k": 224,
    "ablation": 1120,
    "oracle": 119,
}
UNDATED = "retriever=recency needs dates, which the user split does not have"
# Of one task: the jobs that are run, and the lines that tell what is left out.
KEPT = {
    "table2": (8, []),
    "table3": (11, []),
    "table4": (12, [f"left out 2 jobs: {UNDATED}"]),
    "figure_k": (27, [f"left out 5 jobs: {UNDATED}"]),
    "oracle": (17, []),
    "ablation": (
        112,
        [
            "left out 2 jobs: the same runs as jobs 0, 51",
            "left out 16 jobs: retriever=none reads no profile: k=1 says it all",
            f"left out 10 jobs: {UNDATED}",
        ],
    ),
}


@pytest.mark.parametrize("name", options("sweep"))
def test_each_named_grid_expands_to_what_the_paper_has(name):
    with grid(name) as made:
        jobs = made.expanded([f"+sweep={name}"])
    assert len(jobs) == EXPANDED[name]
    asked = [given(Job(n, tuple(words), "")) for n, words in enumerate(jobs)]
    assert len({values["task"] for values in asked}) == (8 if name == "ablation" else 7)
    assert len({tuple(sorted(values.items())) for values in asked}) == len(jobs)


@pytest.mark.parametrize("name", options("sweep"))
def test_each_named_grid_composes_and_runs_what_means_something(name):
    with grid(name) as made:
        if any("k=tune" in words for words in made.expanded([])) and not takes_tune(made):
            pytest.skip("k=tune is not there yet")
        jobs, configs, left = made.planned([f"+sweep={name}", "task=lamp4"])
        loader = made.hydra_context.config_loader
        whole = loader.load_sweep_config(made.config, list(jobs[-1].overrides))
    assert {**configs[-1], "hydra": None} == {**whole, "hydra": None}
    kept, lines = KEPT[name]
    assert len(jobs) == len(configs) == kept
    assert told(left) == lines


def test_the_tables_ask_for_what_the_paper_compares():
    with grid("table2") as made:
        asked = [given(Job(0, tuple(w), "")) for w in made.expanded(["task=lamp4"])]
    rows = {(v["retriever"], v["k"], v["augmentation"]) for v in asked}
    assert {("none", "0", "ipa"), ("random", "1", "ipa"), ("bm25", "16", "fid")} < rows
    assert len(rows) == 8


def test_the_command_line_wins_over_params_and_rows():
    with grid("table2") as made:
        jobs, _, left = made.planned(["task=lamp4", "k=2", "augmentation=ipa", "seed=0,1"])
    assert Counter(given(job)["k"] for job in jobs) == {"2": 8}
    assert Counter(given(job)["retriever"] for job in jobs) == {
        "none": 2, "random": 2, "bm25": 2, "contriever": 2,
    }  # fmt: skip
    assert len(left) == 8


def test_two_named_grids_at_once_are_refused():
    with grid("table2") as made, pytest.raises(InputError, match="one named sweep at a time"):
        made.expanded(["+sweep=table2,table3"])
