"""Two processes on one machine (gloo): the numbers of one process, every question once."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.values import Prediction, Prompt
from tests.conftest import recorded, trainer
from tests.sweeps import finished_here

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
@pytest.mark.parametrize("sampled", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_two_processes_predict_what_one_does(lamp_exp, tmp_path, sampled):
    words = ["mode=zeroshot", f"+model.generation.do_sample={sampled}"]
    one = RunFolder(finished_here(lamp_exp, command(tmp_path / "one", *words)))
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


@pytest.mark.launcher
def test_tokens_weigh_alike_however_a_step_is_divided(lamp_exp, tmp_path):
    train = ["trainer.max_epochs=1", "training.lr=0.01"]  # 25 questions: the last step has one
    large = [*train, "training.batch_size=6"]
    one = RunFolder(finished_here(lamp_exp, command(tmp_path / "one", *large)))
    small = [*train, "training.batch_size=3", "trainer.accumulate_grad_batches=2"]
    (two,) = ran(tmp_path / "two", *small, *TWO)
    first, second = recorded(one.path)["training"], recorded(two.path)["training"]
    assert first["optimizer_steps"] == second["optimizer_steps"] == 5
    losses = [record["epochs"][0]["train_loss"] for record in (first, second)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    weights = [load_file(run.path / "checkpoint" / "model.safetensors") for run in (one, two)]
    for name, weight in weights[0].items():
        assert torch.allclose(weights[1][name], weight, rtol=0, atol=1e-4), name


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
    two, begun = functools.partial(trainer, strategy="ddp", devices=2), time.monotonic()
    with (
        pytest.raises(RuntimeError, match="process 1 of the run failed: KeyError: 'settings'"),
        ddp.workers(two, {}, tmp_path) as build,
    ):
        build()
    assert time.monotonic() - begun < 300  # processes wait for each other half an hour


@pytest.fixture
def mute_worker(tmp_path, monkeypatch):
    """A worker that reports that it is ready, and then never meets the leader."""
    code = "import os, sys, time\nos.write(int(sys.argv[1]), b'r')\ntime.sleep(600)\n"
    (tmp_path / "mute.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ddp, "WORKER", "mute")


@pytest.mark.parametrize("end", ["killed", "interrupted"])
def test_a_worker_that_never_comes_is_not_waited_for(tmp_path, mute_worker, end):
    two = functools.partial(trainer, strategy="ddp", devices=2)
    acted = []

    def act() -> None:
        while not (found := workers_of(tmp_path)):
            time.sleep(0.1)
        time.sleep(1)
        acted.append(time.monotonic())
        process, signal_ = {
            "killed": (found[0], signal.SIGKILL),
            "interrupted": (os.getpid(), signal.SIGINT),
        }[end]
        os.kill(process, signal_)

    reason = "process 1 of the run failed: it was ended by SIGKILL"
    raised = {"killed": (RuntimeError, reason), "interrupted": (KeyboardInterrupt, None)}[end]
    threading.Thread(target=act, daemon=True).start()
    with pytest.raises(raised[0], match=raised[1]), ddp.workers(two, {}, tmp_path) as build:
        build()
    assert time.monotonic() - acted[0] < 10
    assert not workers_of(tmp_path)


@pytest.mark.launcher
@pytest.mark.parametrize("after", [*(pytest.param(n, marks=pytest.mark.slow) for n in (0, 6)), 4])
def test_a_worker_that_is_killed_at_any_time_ends_the_run_with_the_reason(tmp_path, after):
    words = command(tmp_path, *TRAIN, *TWO, "trainer.max_epochs=500")
    started = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not (found := workers_of(tmp_path)):
        assert started.poll() is None
        time.sleep(0.1)
    time.sleep(after)
    os.kill(found[0], signal.SIGKILL)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 2
    assert told.splitlines()[-1].startswith(
        "lamp_exp: RuntimeError: process 1 of the run failed: it was ended by SIGKILL"
    )


@pytest.mark.slow
@pytest.mark.parametrize("answered", [0, 1])
def test_fewer_questions_than_processes_are_answered_as_by_one(lamp_exp, tmp_path, answered):
    words = ["mode=zeroshot", "limit=2"]
    one = RunFolder(finished_here(lamp_exp, command(tmp_path / "one", *words)))
    content = recorded(one.path)
    begun = RunFolder(tmp_path / "three" / one.name)
    begun.start(content["settings"], {"code": content["code"]["fingerprint"],
                                      "versions": content["versions"]})  # fmt: skip
    rows = map(json.loads, (one.path / "prompts.jsonl").read_text().splitlines())
    prompts = [Prompt(row["id"], tuple(row["passages"])) for row in rows]
    golds = json.loads((one.path / "predictions.json").read_text())["golds"]
    AnswerJournal(begun.path, prompts).append(
        Prediction(gold["id"], "kept") for gold in golds[:answered]
    )
    (three,) = ran(tmp_path / "three", *words, "trainer=ddp", "trainer.devices=3")
    expected = [{**gold, "output": "kept"} for gold in golds[:answered]] + golds[answered:]
    assert json.loads((three.path / "predictions.json").read_text())["golds"] == expected


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
