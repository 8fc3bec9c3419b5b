"""Estimates of a dry run: by what is finished, and none where nothing tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamp_exp.artefacts import Artefact, Cost
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.sweeps.estimates import Estimate, Experience
from tests.records import make_run


class Fit(Artefact):
    """Ten units, which take a file of 50 bytes."""

    kind = "fit"

    def identity(self):
        return {"name": "fit"}

    def cost(self):
        return Cost(10, "epoch")

    def make(self, folder: Path, required):
        (folder / "weights").write_bytes(b"x" * 50)
        return {}


def test_runs_of_a_kind_tell_the_seconds_and_bytes_of_a_question(tmp_path):
    runs = [make_run(tmp_path, questions=20, k=k, seconds={"predict": 4.0}) for k in (0, 4)]
    make_run(tmp_path, questions=20, mode="zeroshot", seconds={"predict": 900.0})
    rate = Experience.of(tmp_path).runs["lamp4", "finetune", "flan_t5_base"]
    assert (rate.number, rate.seconds) == (2, pytest.approx(8 / 40))
    size = sum(file.stat().st_size for run in runs for file in run.rglob("*") if file.is_file())
    assert rate.bytes == pytest.approx(size / 40)
    assert str(rate.of(100)).startswith("about 20 s, ")


def test_artefacts_of_a_kind_tell_those_of_a_unit(tmp_path):
    made = ArtefactStore(tmp_path / ".cache" / "artefacts").make(Fit())
    content = json.loads((made.folder / "artefact.json").read_text())
    assert content["units"] == 10
    content["facts"]["seconds"] = 5.0
    (made.folder / "artefact.json").write_text(json.dumps(content))
    size = 50 + (made.folder / "artefact.json").stat().st_size
    estimate = Experience.of(tmp_path).of_artefact("fit", 30)
    assert (estimate.seconds, estimate.bytes) == (pytest.approx(15), pytest.approx(3 * size))
    assert str(Experience.of(tmp_path).of_artefact("other", 30)) == "no estimate"
    (made.folder / "weights").unlink()  # a damaged one tells nothing
    assert not Experience.of(tmp_path).artefacts


def test_what_is_not_known_is_left_out():
    assert str(Estimate()) == "no estimate"
    assert str(Estimate(seconds=90)) == "about 90 s"
    assert str(Estimate(bytes=1500)) == "1.50kB"
