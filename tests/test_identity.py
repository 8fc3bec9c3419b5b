"""The identity of a run: options that change its numbers, without defaults, places and speed."""

from __future__ import annotations

import pytest

from lamp_exp.experiment.identity import identity_options
from tests.conftest import TINY, build, name_of

SMALL = ["task=lamp4", "model=tiny", "mode=finetune"]


def identity(*overrides: str) -> dict[str, object]:
    experiment, configuration = build(*overrides)
    return identity_options(configuration, experiment.usage, experiment.retrieval.used_k)


def test_defaults_are_left_out_and_components_enter_by_name():
    assert identity(*SMALL) == {
        "task": "lamp4", "split": "user", "part": "dev", "mode": "finetune", "seed": 0,
        "retriever": "bm25", "k": 4, "augmentation": "ipa", "model": "tiny",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("retriever.k1=1.2", "retriever.k1", 1.2),
        ("training.lr=1e-3", "training.lr", 1e-3),
        ("trainer=debug", "trainer.max_epochs", 1),
        ("profile.max_items=3", "profile.max_items", 3),
        ("+model.generation.min_length=2", "model.generation.min_length", 2),
        ("model.decoding=labels", "model.decoding", "labels"),
    ],
)
def test_what_differs_from_the_default_is_part_of_it(override, name, value):
    assert identity(*SMALL, override)[name] == value


@pytest.mark.parametrize(
    "same",
    [
        "trainer=cpu", "trainer=ddp", "trainer.devices=3", "+trainer.num_nodes=2", "logger=wandb",
        "output_dir=elsewhere", "predict_batch_size=3", "rank_processes=2", "retriever.k1=1.5",
        "training.lr=3e-3", "trainer.log_every_n_steps=9", "trainer.enable_progress_bar=false",
    ],
)  # fmt: skip
def test_places_devices_and_speed_are_no_part_of_it(same):
    assert identity(*SMALL, same) == identity(*SMALL)


@pytest.mark.parametrize("bare", ["k=0", "retriever=none"])
def test_without_a_profile_all_that_concerns_it_is_left_out(bare):
    others = ["retriever.k1=1", "skip=2", "profile.control=shuffled_user", "document_dates=true"]
    others = others if bare == "k=0" else others[1:]
    assert identity(*SMALL, bare, *others) == identity(*SMALL, bare)


def test_options_of_training_count_in_training_only():
    zero = ["task=lamp4", "model=tiny", "mode=zeroshot"]
    assert identity(*zero, "training.lr=1", "selection=holdout", "trainer.max_epochs=3") == (
        identity(*zero)
    )
    assert identity(*zero, "trainer.precision=bf16-true") != identity(*zero)


def test_a_folder_of_weights_stands_for_its_content(tmp_path):
    here = identity(*SMALL, f"model.name={TINY}")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in TINY.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    names = {str(here["model.name"])}
    assert all(name.startswith("folder:") for name in names)
    (copy / "more").write_text("other content")
    assert identity(*SMALL, f"model.name={copy}") != here


def test_the_name_holds_the_choices_and_a_hash():
    name = name_of(*SMALL, "k=2", "skip=1", "limit=3")
    assert name.startswith("lamp4-user-dev-finetune-bm25-k2-skip1-ipa-tiny-s0-")
    assert name_of(*SMALL, "k=0", "limit=3").startswith("lamp4-user-dev-finetune-none-k0-tiny-s0-")
