"""Sweeps on a real Slurm of two nodes, which these tests start and stop: `pytest -m slurm`.

Where Slurm is not installed they are skipped, unless LAMP_EXP_SLURM=1 says that it must be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import slurm_cluster
from tests.sweeps import SHORT, command, runs, sweep, written

pytestmark = pytest.mark.slurm
SLURM = ("hydra/launcher=slurm", "hydra.launcher.partition=debug")
LONG = (*SHORT, "limit=null", "trainer.max_epochs=4", "k=0")  # ten seconds and more


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The folder of a Slurm whose two nodes are idle."""
    missing = slurm_cluster.missing()
    if missing and os.environ.get("LAMP_EXP_SLURM") != "1":
        pytest.skip(f"Slurm is not installed: {', '.join(missing)} (see tests/slurm_cluster.py)")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # pytest's own has too long a path for a socket
    slurm_cluster.start(folder)
    yield folder
    slurm_cluster.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def in_reach(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands find the cluster, also those that a sweep gives."""
    for name, value in slurm_cluster.environment(cluster).items():
        monkeypatch.setenv(name, value)


def slurm(*words: str) -> str:
    """What a command of Slurm's prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def wait(until: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"not reached within {seconds} seconds"
        time.sleep(0.1)


class Started:
    """A sweep in the background, and its jobs as Slurm knows them."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command(*SLURM, *words), cwd=folder, stdout=subprocess.DEVNULL, stderr=errors
            )

    def began(self, seed: int) -> bool:
        """Whether a job has made its run's folder, and so is well under way."""
        return any(self.folder.glob(f"outputs/*-s{seed}-*/config.yaml"))

    def job(self, number: int) -> str:
        """Slurm's name of a job, such as `12_3`."""
        (script,) = self.folder.glob("outputs/.sweeps/*/.submitit/*/*_submission.sh")
        return f"{script.parent.name}_{number}"

    def summary(self) -> dict[str, Any]:
        """The digest that the sweep wrote last."""
        (path,) = self.folder.glob("outputs/.sweeps/*/summary.json")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def ended(self) -> int:
        """The exit code, when it has one."""
        return self.process.wait(timeout=600)


def node_of(job: str) -> str:
    return slurm("squeue", "--noheader", f"--job={job}", "--format=%N")


def test_a_sweep_through_slurm_gives_the_numbers_of_one_without(tmp_path: Path):
    grid = [*SHORT, "k=2", "seed=0,1"]
    one_by_one = sweep(tmp_path / "serial", *grid)
    through_slurm = sweep(tmp_path / "slurm", *SLURM, *grid)
    assert one_by_one.returncode == through_slurm.returncode == 0, through_slurm.stderr
    expected = runs(tmp_path / "serial")
    assert len(expected) == 2
    assert runs(tmp_path / "slurm") == expected
    assert len({str(run["metrics"]) for run in expected.values()}) > 1


@pytest.mark.slow
def test_a_router_starts_when_its_candidates_have_ended(tmp_path: Path):
    candidates = "{retriever:'bm25,recency,none'}"
    rows = f"hydra.sweeper.rows=[{{router:vote,router/candidates:fixed}},{candidates}]"
    words = ["task=lamp4", "split=time", "mode=zeroshot", "model=tiny", "limit=6", "k=1"]
    ended = sweep(tmp_path, *SLURM, *words, "max_new_tokens=2", "trainer=cpu", rows)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("wave ")]
    assert lines == ["wave 1: 3 jobs", "wave 2: 1 job"]
    assert len(runs(tmp_path)) == 4


@pytest.mark.slow
def test_after_a_cancelled_job_the_same_command_runs_only_what_is_missing(tmp_path: Path):
    grid = [*LONG, "limit=null,20"]
    first = Started(tmp_path, *grid, "hydra.launcher.array_parallelism=1")
    wait(lambda: first.began(0))
    assert slurm("squeue", "--noheader", f"--job={first.job(0)}", "--format=%T") == "RUNNING"
    slurm("scancel", first.job(0))  # the other is still in the queue, and must be waited for
    assert first.ended() == 2
    assert [failure["name"] for failure in first.summary()["failures"]] == ["limit=null"]
    done = runs(tmp_path)
    assert len(done) == 1
    before = {path: when for path, when in written(tmp_path).items() if path.parts[-2] in done}

    again = sweep(tmp_path, *SLURM, *grid)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before lamp3") == 1
    assert before.items() <= written(tmp_path).items()
    assert done.items() <= runs(tmp_path).items()
    assert len(runs(tmp_path)) == 2


@pytest.mark.slow
def test_a_job_whose_node_fails_is_run_again_by_slurm(tmp_path: Path):
    sweeping = Started(tmp_path, *LONG, "seed=0,1")
    wait(lambda: sweeping.began(1))
    slurm("scontrol", "update", f"nodename={node_of(sweeping.job(1))}", "state=down", "reason=test")
    assert sweeping.ended() == 0, sweeping.errors.read_text()
    assert len(runs(tmp_path)) == 2
    (told,) = tmp_path.glob("outputs/.sweeps/*/.submitit/*_1/*_log.err")
    assert "NODE FAILURE" in told.read_text()


TWO_NODES = (
    "hydra.launcher.nodes=2", "trainer.num_nodes=2", "trainer.devices=1", "trainer=ddp",
    "trainer.accelerator=cpu",
)  # fmt: skip


def process_of(folder: Path, number: int) -> int | None:
    """The process of that number of the only job below `folder`, if it is known to its leader."""
    if not any(folder.glob(f"outputs/.locks/slurm-*/process-{number}.began")):
        return None
    for place in Path("/proc").glob("[0-9]*"):
        try:
            names = (place / "environ").read_bytes().split(b"\0")
            words = (place / "cmdline").read_bytes()
            where = (place / "cwd").resolve()
        except OSError:
            continue  # it has ended, or is another user's
        ours = f"SLURM_PROCID={number}".encode() in names and b"submitit" in words
        if ours and where == folder.resolve():
            return int(place.name)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("until", ["begin", "train"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_killed_ends_its_run_and_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, until: str
):
    """The leader or its worker, before they have met or while they train."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    sweeping = Started(tmp_path, *SHORT, *TWO_NODES, "k=0", "trainer.max_epochs=500")
    wait(lambda: process_of(tmp_path, number))
    if until == "train":
        wait(lambda: any(tmp_path.glob("outputs/lamp3*/training/metrics.csv")))
    process = process_of(tmp_path, number)
    assert process is not None, "the process ended before it could be killed"
    os.kill(process, signal.SIGKILL)
    killed = time.monotonic()
    assert sweeping.ended() == 2
    assert time.monotonic() - killed < 300  # processes wait for each other half an hour
    (failure,) = sweeping.summary()["failures"]
    if number:
        assert "process 1 of the run failed: it ended without a word" in failure["error"]
    wait(lambda: not slurm("squeue", "--noheader"), 30)  # no process waits for one that is gone


def test_a_process_that_fails_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only the second process cannot write its share of the answers."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    code = (
        "import os\n"
        "if os.environ.get('SLURM_PROCID') == '1':\n"
        "    from lamp_exp.results.journal import AnswerJournal\n"
        "    def append(self, predictions): raise OSError('no room')\n"
        "    AnswerJournal.append = append\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    told = sweep(tmp_path, *SLURM, *SHORT, *TWO_NODES, "mode=zeroshot", "k=0")
    assert told.returncode == 2
    assert "process 1 of the run failed: ComponentError" in told.stdout
    assert "no room" in told.stdout


def test_one_run_on_two_nodes_answers_as_on_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # these nodes' names are known to Slurm alone
    run = [*SHORT, "mode=zeroshot", "augmentation=ipa", "k=2"]
    alone = sweep(tmp_path / "serial", *run)
    together = sweep(tmp_path / "slurm", *SLURM, *run, *TWO_NODES)
    assert alone.returncode == together.returncode == 0, together.stderr
    assert len(runs(tmp_path / "serial")) == 1
    assert runs(tmp_path / "slurm") == runs(tmp_path / "serial")
    logs = tmp_path.glob("slurm/outputs/.sweeps/*/.submitit/*/*_log.out")
    assert ["Job completed successfully" in log.read_text() for log in logs] == [True, True]
