"""The table of options: checks, when an option matters, and values compared as values."""

from __future__ import annotations

import pytest

from lamp_exp.errors import InputError
from lamp_exp.options import (
    GROUPS,
    OPTIONS,
    Usage,
    changes_numbers,
    check_value,
    parse_value,
    same_value,
)
from tests.conftest import compose

TRAIN, ZERO, RANK = (Usage.full(mode) for mode in ("finetune", "zeroshot", "rank"))
BASELINE = Usage.baseline("finetune")
LEARNS, REWARDS = (Usage.of(mode, True, 4, learns=True) for mode in ("rank", "feedback"))


def test_the_configuration_has_exactly_the_options_of_the_table():
    cfg, _ = compose("model=flan_t5_base")
    for name, option in OPTIONS.items():
        value = cfg
        for part in name.split("."):
            value = value[part]
        assert value == (list(option.default) if option.kind is list else option.default), name
    assert {str(key) for key in cfg} == {*GROUPS, *(name.partition(".")[0] for name in OPTIONS)}


def test_every_default_is_allowed_and_every_option_has_a_meaning():
    for name, option in OPTIONS.items():
        check_value(name, option.default)
        assert option.help


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("k", -1, "k=-1 must be at least 0"),
        ("k", "four", "must be a number of profile items, or tune"),
        ("k", True, "must be a number of profile items, or tune"),
        ("k_values", [1, 1], "must be different numbers from 1 on"),
        ("training.lr", 0.0, "training.lr=0.0 must be above 0"),
        ("training.lr", float("nan"), "training.lr=nan must be a finite number"),
        ("training.warmup", 500.0, "training.warmup=500.0 must be at most 1"),
        ("training.lora_dropout", 1.5, "training.lora_dropout=1.5 must be at most 1"),
        ("rerun", "maybe", "rerun=maybe must be one of false, true, stale"),
        ("profile.keep", "oldest", "profile.keep=oldest must be one of newest, first"),
    ],
)
def test_values_that_are_not_allowed_are_refused(name, value, words):
    with pytest.raises(InputError, match=words):
        check_value(name, value)


@pytest.mark.parametrize(
    ("name", "usages"),
    [
        ("training.lr", [TRAIN, BASELINE]),
        ("max_new_tokens", [TRAIN, ZERO, BASELINE]),
        ("retriever.k1", [TRAIN, ZERO, RANK]),
        ("augmentation", [TRAIN, ZERO]),
        ("profile.control", [TRAIN, ZERO, RANK]),
        ("trainer.precision", [TRAIN, ZERO, BASELINE]),
        ("trainer.max_epochs", [TRAIN, BASELINE]),
        ("trainer.devices", []),
        ("predict_batch_size", []),
        ("retriever.device", []),
        ("retriever.of.dense.device", []),
        ("logger.project", []),
        ("limit", [TRAIN, ZERO, RANK, BASELINE]),
        ("feedback.items", []),
        ("reader.name", []),
    ],
)
def test_when_an_option_changes_numbers(name, usages):
    assert [u for u in (TRAIN, ZERO, RANK, BASELINE) if changes_numbers(name, u)] == usages


@pytest.mark.parametrize(
    ("name", "usages"),
    [
        ("feedback.items", [LEARNS, REWARDS]),
        ("reader.model", [LEARNS, REWARDS]),
        ("model.generation.num_beams", [LEARNS, REWARDS]),
        ("max_new_tokens", [LEARNS, REWARDS]),
        ("trainer.precision", [LEARNS, REWARDS]),
        ("training.lr", [LEARNS, REWARDS]),  # of the readers of folds
        ("k", []),
        ("skip", []),
    ],
)
def test_when_an_option_changes_what_a_reader_rewards(name, usages):
    assert [u for u in (LEARNS, REWARDS) if changes_numbers(name, u)] == usages


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001), ("4", 4), ("none", None), ("null", None), ("false", False),
        ("bm25", "bm25"), ("True", True), ("0.50", 0.5),
    ],
)  # fmt: skip
def test_texts_of_conditions_are_compared_as_values(text, value):
    assert same_value(parse_value(text), value)


def test_different_values_differ():
    assert not same_value(True, 1)
    assert not same_value("bm25", "bm25_okapi")
    assert not same_value(None, 0)
    assert same_value("none", None)
