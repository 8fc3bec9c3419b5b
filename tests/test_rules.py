"""Which jobs of a sweep are skipped, and that no grid of the paper loses what it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from lamp_exp.errors import InputError
from lamp_exp.sweeps.component_options import keep_own_options
from lamp_exp.sweeps.plan import JobConfig, Planner, job_facts
from lamp_exp.sweeps.rows import sweep_rows
from lamp_exp.sweeps.rules import (
    JobFacts,
    describe,
    needs_chance,
    needs_dates,
    select,
    unsupported_passages,
    untrained_fusion,
)
from lamp_exp.sweeps.status import Job
from tests.conftest import CONF, options

JOB = JobFacts(
    identity="a", mode="finetune", split="user", k=4, retriever="bm25", augmentation="fid",
    model="flan_t5_base", uses_profile=True, needs_dates=False, at_random=False, pool="own",
    multiple_passages=True, model_takes_passages=True, fine_tuned=False,
)  # fmt: skip


def test_recency_is_left_out_of_the_user_split_only():
    by_date = replace(JOB, needs_dates=True, retriever="recency")
    assert "retriever=recency needs dates" in needs_dates(by_date)
    assert needs_dates(replace(by_date, split="time")) is None
    assert needs_dates(JOB) is None


def test_items_of_all_users_are_only_drawn():
    drawn = replace(JOB, pool="all_users", retriever="random", at_random=True)
    assert needs_chance(drawn) is None
    ranked = replace(drawn, retriever="bm25", at_random=False)
    assert "is for retriever=random, and not for bm25" in needs_chance(ranked)
    assert needs_chance(replace(ranked, k=0)) is None
    assert needs_chance(replace(ranked, pool="neighbours")) is None


def test_fusion_needs_a_model_that_learned_it():
    asked = replace(JOB, mode="zeroshot")
    assert "needs a fine-tuned model" in untrained_fusion(asked)
    assert untrained_fusion(JOB) is None
    for fine in ({"fine_tuned": True}, {"k": 0}, {"uses_profile": False}):
        assert untrained_fusion(replace(asked, **fine)) is None
    assert untrained_fusion(replace(asked, multiple_passages=False)) is None
    assert untrained_fusion(replace(asked, mode="prompts")) is None


def test_a_model_that_reads_one_passage_is_not_given_several():
    causal = replace(JOB, model_takes_passages=False, model="causal")
    assert "which model=causal cannot" in unsupported_passages(causal)
    assert unsupported_passages(replace(causal, mode="prompts")) is None
    assert unsupported_passages(replace(causal, multiple_passages=False)) is None
    assert unsupported_passages(JOB) is None


def test_of_jobs_that_are_one_run_the_first_stays():
    none = replace(JOB, uses_profile=False, retriever="none", identity="bare")
    jobs = [replace(none, k=4), JOB, replace(none, k=16), replace(none, k="tune"),
            replace(JOB, k=0, identity="bare"), replace(JOB, identity="b")]  # fmt: skip
    kept, excluded = select(jobs)
    assert kept == [0, 1, 5]
    assert describe(excluded) == [
        "skipped 2 jobs: retriever=none reads no profile: k=4 says it all",
        "skipped 1 job: the same run as job 0",
    ]


def test_many_jobs_that_are_others_are_told_in_one_short_line():
    jobs = [replace(JOB, identity=str(n)) for n in range(12)]
    (line,) = describe(select([*jobs, *jobs])[1])
    assert line == "skipped 12 jobs: the same runs as jobs 0, 1, 2, 3, 4, 5, 6, 7, …"


def of(*overrides: str, place: int = 0) -> JobFacts:
    """The facts of a job as it is composed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra_compose("config", list(overrides), return_hydra_config=True)
        return job_facts(JobConfig.split(composed), place)


def test_the_facts_come_from_the_components():
    recency = of("retriever=recency", "augmentation=fid", "model=tiny", "mode=zeroshot")
    assert recency.needs_dates and recency.multiple_passages and recency.model_takes_passages
    assert not of("retriever=none").uses_profile
    assert not of("augmentation=fid", "model=causal", "model.name=x").model_takes_passages
    assert not of("augmentation=fid", "mode=rank").multiple_passages


def test_without_items_retriever_augmentation_and_k_do_not_matter():
    bare = of("k=0").identity
    ways = ["retriever=none", "retriever=none k=1", "k=0 augmentation=fid", "k=0 retriever=random"]
    assert {of(*way.split()).identity for way in ways} == {bare}
    for change in ("seed=1", "task=lamp3", "model=tiny", "split=time", "mode=zeroshot"):
        assert of("k=0", change).identity != bare
    assert of("mode=rank", "k=1").identity == of("mode=rank", "k=2", "augmentation=fid").identity
    assert of("mode=rank").identity != of("mode=rank", "retriever=random").identity


def test_seeds_that_are_drawn_are_never_the_same():
    assert of("seed=null", place=0).identity != of("seed=null", place=1).identity


@contextmanager
def grid(name: str) -> Iterator[Planner]:
    """The planner of a named grid."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        cfg = hydra.compose_config("config", [f"+sweep={name}"], RunMode.MULTIRUN)
        HydraConfig.instance().set_config(cfg)
        chosen = OmegaConf.to_container(cfg.hydra.sweeper)
        rows = sweep_rows(chosen["rows"], chosen["changed_rows"])
        given = (hydra.config_loader, cfg, chosen["params"] or {}, rows, chosen["reader"])
        yield Planner(*given)


EXPANDED = {
    "table2": 63,
    "table3": 84,
    "table4": 98,
    "figure_k": 224,
    "ablation": len(options("task")) * 140,
    "best_item": 119,
    "oracle": 119,
    "retrievers": 11,
    "internal_external": 36,
    "methods": 18,
}
UNDATED = "retriever=recency needs dates, which the user split does not have"
# Of one task: the jobs that are run, and the lines that tell what is skipped.
KEPT = {
    "table2": (9, []),
    "table3": (12, []),
    "table4": (12, [f"skipped 2 jobs: {UNDATED}"]),
    "figure_k": (27, [f"skipped 5 jobs: {UNDATED}"]),
    "best_item": (17, []),
    "oracle": (17, []),
    "retrievers": (11, []),
    "internal_external": (35, ["skipped 1 job: the same run as job 0"]),
    "methods": (18, []),
    "ablation": (
        112,
        [
            "skipped 2 jobs: the same runs as jobs 0, 51",
            "skipped 16 jobs: retriever=none reads no profile: k=1 says it all",
            f"skipped 10 jobs: {UNDATED}",
        ],
    ),
}


@pytest.mark.parametrize("name", options("sweep"))
def test_each_named_grid_expands_to_what_the_paper_has(name):
    with grid(name) as made:
        jobs = made.expand([f"+sweep={name}"])
    assert len(jobs) == EXPANDED[name]
    asked = [Job(n, tuple(words), "").values for n, words in enumerate(jobs)]
    every = len(options("task"))
    # The user gives the task of the last three.
    tasks = {"ablation": every, "retrievers": 1, "internal_external": 1, "methods": 1}
    assert len({values.get("task") for values in asked}) == tasks.get(name, 7)
    assert len({tuple(sorted(values.items())) for values in asked}) == len(jobs)


LARGE = {"ablation", "internal_external"}  # which take several seconds


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in options("sweep")],
)
def test_each_named_grid_composes_and_runs_what_means_something(name):
    with grid(name) as made:
        plan = made.plan([f"+sweep={name}", "task=lamp4"])
        whole = made.loader.load_sweep_config(made.master, list(plan.jobs[-1].overrides))
    assert plan.configs[-1].cfg == JobConfig.split(whole).cfg
    kept, lines = KEPT[name]
    assert len(plan.jobs) == len(plan.configs) == kept
    assert describe(plan.excluded) == lines


def test_the_tables_ask_for_what_the_paper_compares():
    with grid("table2") as made:
        asked = [Job(0, tuple(w), "").values for w in made.expand(["task=lamp4"])]
    names = ("retriever", "k", "augmentation", "profile.pool")
    rows = {tuple(map(values.get, names)) for values in asked}
    assert {
        ("none", "0", "ipa", None), ("random", "1", "ipa", None),
        ("random", "1", "ipa", "all_users"), ("bm25", "16", "fid", None),
    } < rows  # fmt: skip
    assert len(rows) == 9


def test_the_command_line_wins_over_params_and_rows():
    with grid("table2") as made:
        plan = made.plan(["task=lamp4", "k=2", "augmentation=ipa", "seed=0,1"])
    assert Counter(job.values["k"] for job in plan.jobs) == {"2": 10}
    assert Counter(job.values["retriever"] for job in plan.jobs) == {
        "none": 2, "random": 4, "bm25": 2, "contriever": 2,
    }  # fmt: skip
    assert len(plan.excluded) == 8


def test_two_named_grids_at_once_are_refused():
    with grid("table2") as made, pytest.raises(InputError, match="one named sweep at a time"):
        made.expand(["+sweep=table2,table3"])


HAS = {"lora": {"lr", "rank"}, "vector": {"lr", "tokens"}, "none": set(), "bm25": {"k1"}}


def kept(*jobs: str) -> list[str]:
    found = keep_own_options(
        [job.split() for job in jobs],
        {"adapter": "none", "retriever": "bm25"},
        lambda group, name, option: option in HAS[name],
    )
    return [" ".join(words) for words in found]


def test_an_option_reaches_the_jobs_whose_component_has_it():
    options = "adapter.lr=1 adapter.rank=2 adapter.tokens=3 k=4"
    assert kept(
        f"adapter=none {options}", f"adapter=lora {options}", f"adapter=vector {options}"
    ) == [
        "adapter=none k=4",
        "adapter=lora adapter.lr=1 adapter.rank=2 k=4",
        "adapter=vector adapter.lr=1 adapter.tokens=3 k=4",
    ]
    assert kept("k=1 adapter.lr=1", "adapter=lora adapter.lr=1") == [
        "k=1",
        "adapter=lora adapter.lr=1",
    ]


def test_an_option_that_no_component_has_stays_and_is_refused():
    jobs = ["adapter=none adapter.lrr=1", "adapter=lora adapter.lrr=1"]
    assert kept(*jobs) == jobs


def test_options_of_a_component_that_all_jobs_choose_are_not_looked_at():
    jobs = ["adapter=lora adapter.lrr=1", "adapter=lora adapter.lr=1 retriever.k1=2"]
    assert kept(*jobs) == jobs


@pytest.mark.long
def test_options_of_components_in_the_grid_of_both():
    with grid("internal_external") as made:
        plan = made.plan([
            "task=lamp4", "adapter=none,user_lora", "adapter.rank=2", "summary=none,llm",
            "summary.max_items=5",
        ])  # fmt: skip
    assert len(plan.jobs) == 15
    for job in plan.jobs:
        assert ("adapter.rank" in job.values) == (job.values["adapter"] == "user_lora")
        assert ("summary.max_items" in job.values) == (job.values["summary"] == "llm")
    for composed in plan.configs:
        if composed.choices["adapter"] == "user_lora":
            assert composed.cfg.adapter.rank == 2
