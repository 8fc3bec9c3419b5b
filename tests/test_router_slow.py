"""Routers truly learn: of two retrievers that are blind to half of the topics, the right one."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lamp_exp.experiment import routing
from lamp_exp.results.folder import RunFolder
from tests.blind_pool import BLIND, LEARNING, SAME, write_pool
from tests.test_cli import folder_of

ROUTERS = ("rspg_pre", "rspg_post")
pytestmark = pytest.mark.slow


@pytest.fixture
def pool(tmp_path: Path, monkeypatch):
    write_pool(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "pool"]:
        del sys.modules[name]


def used_headroom(folder: Path) -> float:
    """The share of what choosing can gain over the best single candidate."""
    result = RunFolder(folder).read()
    routing = result.routing
    best = max(candidate.value for candidate in routing.candidates)
    share = (result.main_value - best) / (routing.oracle - best)
    values = ", ".join(f"{one.name} {one.value:.4f}" for one in routing.candidates)
    facts = result.learned[0]
    print(
        f"{folder.name}: {values}, oracle {routing.oracle:.4f}, routed {result.main_value:.4f}: "
        f"{share:.3f} of the headroom, success {routing.success_rate:.3f}, epoch "
        f"{facts['chosen_epoch']}, {facts['seconds']} s"
    )
    return share


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("router", ROUTERS)
def test_a_router_uses_most_of_what_choosing_can_gain(pool, lamp_exp, router, seed):
    code, out, err = lamp_exp(*BLIND, *LEARNING, f"router={router}", f"seed={seed}")
    assert code == 0, err
    assert used_headroom(folder_of(out)) >= 0.8


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("router", ROUTERS)
def test_permuted_targets_teach_nothing(pool, lamp_exp, monkeypatch, router, seed):
    real = routing._questions

    def permuted(plan, runs, answers):
        questions = real(plan, runs, answers)
        if runs[0][0].experiment.data.part != "train":
            return questions
        rewards = [one.rewards for one in questions]
        random.Random(seed).shuffle(rewards)
        return [replace(q, rewards=r) for q, r in zip(questions, rewards, strict=True)]

    monkeypatch.setattr(routing, "_questions", permuted)
    code, out, err = lamp_exp(*BLIND, *LEARNING, f"router={router}", f"seed={seed}")
    assert code == 0, err
    assert used_headroom(folder_of(out)) <= 0.1


@pytest.mark.parametrize("router", ROUTERS)
def test_identical_candidates_change_nothing(pool, lamp_exp, router):
    code, out, err = lamp_exp(*SAME, *LEARNING, f"router={router}")
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    single = RunFolder(folder_of(out).parent / result.routing.candidates[0].run)
    assert result.metrics == single.read().metrics
    for name in ("predictions.json", "prompts.jsonl"):
        assert (folder_of(out) / name).read_bytes() == (single.path / name).read_bytes()
    assert result.learned[0]["questions_learned_from"] == 0
    assert result.routing.success_rate == 1.0
