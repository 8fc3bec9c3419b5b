"""Two processes on one machine (gloo): the numbers of one process, every question once."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.results.folder import RunFolder
from tests.conftest import recorded, trainer

QUICK = [
    "task=lamp4", "augmentation=fid", "model=tiny", "trainer.accelerator=cpu", "limit=25",
    "trainer.enable_progress_bar=false", "max_new_tokens=8", "predict_batch_size=4",
]  # fmt: skip
TWO = ["trainer=ddp", "trainer.devices=2"]
TRAIN = ["trainer.max_epochs=3", "training.batch_size=6", "training.lr=0.01"]


def command(place: Path, *words: str) -> list[str]:
    multirun = [word for word in words if word == "-m"]
    overrides = [word for word in words if word != "-m"]
    where = f"output_dir={place}"
    return [sys.executable, "-m", "lamp_exp", *multirun, *QUICK, *overrides, where]


def ran(place: Path, *words: str) -> list[RunFolder]:
    told = subprocess.run(command(place, *words), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return sorted((RunFolder(path) for path in place.glob("lamp4-*")), key=lambda run: run.name)


def same(one: RunFolder, two: RunFolder) -> None:
    name = "predictions.json"
    assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    ids = [gold["id"] for gold in json.loads((one.path / name).read_text())["golds"]]
    assert len(ids) == len(set(ids)) == 25
    assert recorded(one.path)["metrics"] == recorded(two.path)["metrics"]
    assert not list(two.path.glob("answers-*"))


@pytest.mark.launcher
@pytest.mark.parametrize("sampled", ["false", "true"])
def test_two_processes_predict_what_one_does(lamp_exp, tmp_path, sampled):
    words = ["mode=zeroshot", f"+model.generation.do_sample={sampled}"]
    assert lamp_exp(*command(tmp_path / "one", *words)[3:])[0] == 0
    (one,) = map(RunFolder, (tmp_path / "one").glob("lamp4-*"))
    (two,) = ran(tmp_path / "two", *words, *TWO)
    same(one, two)
    assert one.name == two.name  # the number of processes changes no answer


@pytest.mark.slow
def test_two_processes_train_as_one_does_also_in_a_sweep(tmp_path):
    ones = ran(tmp_path / "one", *TRAIN, "-m", "seed=1,2")
    twos = ran(tmp_path / "two", *TRAIN, *TWO, "-m", "seed=1,2")
    assert len(ones) == len(twos) == 2  # never four
    for one, two in zip(ones, twos, strict=True):
        same(one, two)
        taught, together = recorded(one.path)["training"], recorded(two.path)["training"]
        assert together["optimizer_steps"] == taught["optimizer_steps"]
        assert together["effective_batch_size"] == taught["effective_batch_size"] == 6
        assert (taught["processes"], together["processes"]) == (1, 2)
        for first, second in zip(taught["epochs"], together["epochs"], strict=True):
            assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("after", [6, 10, 14])
def test_workers_end_with_their_leader_and_the_run_is_resumed(tmp_path, after):
    (whole,) = ran(tmp_path / "whole", *TRAIN, *TWO)
    started = subprocess.Popen(command(tmp_path / "broken", *TRAIN, *TWO))
    time.sleep(after)
    started.kill()
    started.wait()
    time.sleep(2)
    assert not workers_of(tmp_path / "broken")
    (broken,) = ran(tmp_path / "broken", *TRAIN, *TWO)
    same(whole, broken)
    assert recorded(whole.path)["training"] == recorded(broken.path)["training"]


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_with_a_word_about_it(tmp_path):
    words = command(tmp_path, *TRAIN, *TWO, "trainer.max_epochs=500")
    started = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    for _ in range(300):
        if list(tmp_path.glob("*/weights/last.ckpt")):
            break
        time.sleep(0.2)
    (worker,) = workers_of(tmp_path)
    os.kill(worker, signal.SIGKILL)
    _, told = started.communicate(timeout=120)
    assert started.returncode == 2
    assert "process 1 of the run failed" in told


@pytest.mark.launcher
def test_a_worker_that_dies_before_the_model_s_work_is_not_waited_for(tmp_path):
    two = functools.partial(trainer, strategy="ddp", devices=2)
    with (
        pytest.raises(RuntimeError, match="process 1 of the run failed: KeyError: 'settings'"),
        ddp.workers(two, {}, tmp_path) as build,
    ):
        build()


def workers_of(place: Path) -> list[int]:
    """The processes that write a log of a worker below `place`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            written = entry.readlink()
        except OSError:
            continue  # it has just ended
        if written.name.startswith("process-") and place in written.parents:
            found.append(int(entry.parts[2]))
    return found


def test_the_work_of_a_slurm_job_is_assigned_in_order(tmp_path, monkeypatch):
    for name, value in {"JOB_ID": "7", "RESTART_COUNT": "1", "NTASKS": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for folder in ("a", "b"):
        ddp.assign(tmp_path, {"folder": folder})
    ddp.dismiss(tmp_path)
    assert [work["folder"] for work in ddp.assigned_work(tmp_path)] == ["a", "b"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    ddp.dismiss(tmp_path)
    assert list(ddp.assigned_work(tmp_path)) == []


def test_a_job_of_one_process_assigns_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    ddp.dismiss(tmp_path)
    assert not list(tmp_path.iterdir())


def test_torchrun_is_not_needed(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(InputError, match="without torchrun"):
        ddp.process_index()
