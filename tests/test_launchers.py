"""Sweeps through launchers other than Hydra's own, which runs one job after the other.

Slurm has a file of its own, tests/test_slurm.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from lamp_exp.sweeps.status import read_status
from tests.conftest import CONF
from tests.sweeps import SHORT, command, runs, sweep

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
# Ray reaches for addresses outside, so it is given a network that has none.
AS_ROOT = os.geteuid() == 0
ALONE = ["unshare", "--net", *([] if AS_ROOT else ["--map-root-user"]), "bash", "-ec"]
BESIDE = [
    "nsenter",
    "--net",
    *([] if AS_ROOT else ["--user", "--preserve-credentials"]),
    "--target",
]
PIPES: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
WITHOUT_PLUGINS = """
import sys, hydra_plugins, lamp_exp
hydra_plugins.__path__ = [f"{lamp_exp.__path__[0]}/sweeps/plugins/hydra_plugins"]
from lamp_exp.__main__ import main
for choice in sys.argv[1:]:
    sys.argv = ["lamp_exp", "-m", f"hydra/{choice}"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2
"""


@pytest.mark.launcher
def test_jobs_at_the_same_time_give_the_numbers_of_one_after_the_other(lamp_exp, tmp_path: Path):
    grid = [*SHORT, "limit=24", "trainer.max_epochs=1", "k=0", "seed=0,1"]
    one_by_one, _, _ = lamp_exp("-m", *grid, "output_dir=serial/outputs")
    together = sweep(tmp_path / "joblib", *JOBLIB, *grid)
    assert one_by_one == together.returncode == 0, together.stderr
    expected = runs(tmp_path / "serial")
    assert len(expected) == 2
    assert runs(tmp_path / "joblib") == expected
    assert len({str(run["epochs"]) for run in expected.values()}) == 2  # a loss for each seed


@pytest.mark.long
def test_a_job_that_cannot_be_does_not_stop_its_neighbour(tmp_path: Path):
    told = sweep(tmp_path, *JOBLIB, "mode=rank", "limit=3", "data_dir=nowhere,null")
    assert told.returncode == 2
    assert "FAILED data_dir=nowhere: no questions at nowhere" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
    assert len(list(tmp_path.glob("outputs/*/result.json"))) == 1


class Ray:
    """Starts commands in a network of their own, and a Ray cluster there."""

    def __init__(self, place: str, target: int) -> None:
        self.prefix = [*BESIDE, str(target)]
        self.environment = {
            **os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": place, "HOME": place,
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.prefix, *words], env=self.environment, text=True, start_new_session=True,
            **PIPES, **options,
        )  # fmt: skip

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        with self.popen(*words, **options) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs Ray's own command."""
        return self.run(str(Path(sys.executable).with_name("ray")), *words)

    @contextmanager
    def cluster(self, *options: str) -> Iterator[None]:
        self.environment["RAY_ADDRESS"] = "127.0.0.1:6379"
        words = ["start", "--head", "--node-ip-address=127.0.0.1", "--num-cpus=2", *options]
        started = self.tool(*words)
        assert started.returncode == 0, started.stdout + started.stderr
        try:
            yield
        finally:
            self.tool("stop", "--force")


@pytest.fixture
def ray() -> Iterator[Ray]:
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed: pip install 'lamp-exp[ray]'")
    place = tempfile.mkdtemp(prefix="ray")  # pytest's is too long for sockets
    up = [*ALONE, "ip link set lo up; echo up; exec sleep infinity"]
    with subprocess.Popen(up, text=True, **PIPES) as network:
        if not network.stdout or network.stdout.readline() != "up\n":
            pytest.skip("no network namespace can be made here, and Ray is only tried in one")
        yield Ray(place, network.pid)
        network.kill()
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray_local", "ray_cluster"])
def test_jobs_through_ray_give_the_numbers_of_those_without(
    launcher: str, ray: Ray, tmp_path: Path
):
    grid = [*SHORT, "k=0", "seed=0,1"]
    assert sweep(tmp_path / "serial", *grid).returncode == 0
    (tmp_path / "ray").mkdir()
    with ray.cluster("--dashboard-host=127.0.0.1") if launcher == "ray_cluster" else nullcontext():
        told = ray.run(*command(f"hydra/launcher={launcher}", *grid), cwd=tmp_path / "ray")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "2 jobs" in told.stdout + told.stderr
    assert len(runs(tmp_path / "ray")) == 2
    assert runs(tmp_path / "ray") == runs(tmp_path / "serial")


LONG_JOBS = (*SHORT, "k=0", "seed=0,1,2,3", "trainer.max_epochs=500")


def interrupted(process: subprocess.Popen[str], folder: Path) -> tuple[str, str]:
    """Sends Ctrl-C, as a terminal does, when a job trains; what the command has printed."""
    while process.poll() is None and not list(folder.glob("outputs/lamp3*/training/*.csv")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=120)


def living(folder: Path) -> list[bool]:
    """Whether the process of each job that has started is there."""
    statuses = [read_status(path.parent) for path in folder.glob("outputs/.sweeps/*/*/status.json")]
    return [Path(f"/proc/{status.pid}").exists() for status in statuses if status]


@pytest.mark.slow
def test_the_jobs_of_ray_on_this_machine_end_with_a_sweep_that_is_interrupted(
    ray: Ray, tmp_path: Path
):
    with ray.popen(*command("hydra/launcher=ray_local", *LONG_JOBS), cwd=tmp_path) as process:
        out, err = interrupted(process, tmp_path)
    assert process.returncode == 130, out + err
    assert "stopped lamp3-" in err and "interrupted, it ends with this command" in err
    (summary,) = tmp_path.glob("outputs/.sweeps/*/summary.json")
    assert json.loads(summary.read_text())["counts"]["stopped"] == 4
    assert living(tmp_path) and not any(living(tmp_path))


@pytest.mark.slow
def test_a_sweep_in_a_ray_cluster_goes_on_when_its_command_is_interrupted(ray: Ray, tmp_path: Path):
    with ray.cluster("--dashboard-host=127.0.0.1"):
        with ray.popen(*command("hydra/launcher=ray_cluster", *LONG_JOBS), cwd=tmp_path) as process:
            out, err = interrupted(process, tmp_path)
        assert process.returncode == 130, out + err
        (stop,) = set(re.findall(r"To cancel it: ray (job stop [^;]+);", err))
        assert f"submitted to Ray as {stop.split()[-1]}; to cancel it: ray {stop}" in err
        time.sleep(5)
        assert any(living(tmp_path))
        assert "RUNNING" in ray.tool("job", "status", stop.split()[-1]).stdout
        assert ray.tool(*stop.split()).returncode == 0
        until = time.monotonic() + 60
        while any(living(tmp_path)) and time.monotonic() < until:
            time.sleep(0.2)
        assert not any(living(tmp_path))


IN_A_NOTEBOOK = """
import asyncio, sys
import lamp_exp

async def cell():  # a notebook runs cells in an event loop
    for run in lamp_exp.sweep(*sys.argv[1:]):
        print("finished", run.name)

asyncio.run(cell())
"""


@pytest.mark.slow
def test_a_sweep_from_python_in_a_ray_cluster_returns_its_runs(ray: Ray, tmp_path: Path):
    words = ["hydra/launcher=ray_cluster", *SHORT, "mode=rank", "seed=0,1"]
    with ray.cluster("--dashboard-host=127.0.0.1"):
        told = ray.run(sys.executable, "-c", IN_A_NOTEBOOK, *words, cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("finished lamp3-") == 2


@pytest.mark.slow
def test_what_keeps_a_sweep_from_a_ray_cluster_is_said_in_a_line(ray: Ray, tmp_path: Path):
    words = command("hydra/launcher=ray_cluster", *SHORT, "k=0", "limit=3")
    ray.environment["RAY_ADDRESS"] = "127.0.0.1:6379"
    told = ray.run(*words, cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith(
        "lamp_exp: no Ray cluster at 127.0.0.1:6379 takes jobs: "
    )
    assert "Traceback" not in told.stderr
    with ray.cluster("--include-dashboard=false"):
        told = ray.run(*words, cwd=tmp_path)
        assert told.returncode == 2
        assert "A cluster takes jobs where its head" in told.stderr.splitlines()[-1]
        assert not list(tmp_path.glob("outputs/.sweeps/*"))
        assert "Traceback" not in told.stderr
    with ray.cluster("--dashboard-host=127.0.0.1"):
        told = ray.run(*words, "data_dir=nowhere,null", cwd=tmp_path)
        assert told.returncode == 2
        assert "FAILED data_dir=nowhere: no questions at nowhere" in told.stdout
        assert told.stderr.splitlines()[-1].endswith(" in Ray: failed, exit code 2")
        assert "Traceback" not in told.stderr + told.stdout


def test_a_launcher_that_is_not_installed_says_what_to_install():
    needs = {
        "launcher=joblib": ("joblib-launcher", "joblib"),
        "launcher=slurm": ("submitit-launcher", "slurm"),
        "launcher=submitit_local": ("submitit-launcher", "slurm"),
        "launcher=ray_local": ("ray-launcher", "ray"),
        "launcher=ray_cluster": ("ray-launcher", "ray"),
        "sweeper=optuna": ("optuna-sweeper", "optuna"),
    }
    words = [sys.executable, "-c", WITHOUT_PLUGINS, *needs]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stderr.splitlines() == [
        f"lamp_exp: hydra/{choice} needs hydra-{plugin}: pip install 'lamp-exp[{extra}]'"
        for choice, (plugin, extra) in needs.items()
    ]


def test_a_sweeper_that_would_hide_failures_is_refused(lamp_exp, tmp_path: Path):
    code, _, err = lamp_exp("-m", "hydra/sweeper=basic", "mode=rank", "data_dir=nowhere,null")
    assert code == 2
    assert "hydra/sweeper=basic would not show which jobs failed: use grid, or optuna" in err
    assert not list(tmp_path.glob("outputs/lamp4*"))


OPTUNA = [
    "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", *SHORT, "k=0",
    "training.lr=tag(log,interval(1e-5,1e-3))", "limit=24", "trainer.max_epochs=1",
]  # fmt: skip


@pytest.mark.process
def test_optuna_searches_by_the_main_metric_on_dev(tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna")
    told = sweep(tmp_path, *OPTUNA, "hydra.sweeper.direction=minimize")
    assert told.returncode == 0, told.stderr
    (best,) = tmp_path.glob("outputs/.sweeps/*/optimization_results.yaml")
    values = [run["metrics"]["mae"] for run in runs(tmp_path).values()]
    assert len(values) == 2
    assert yaml.safe_load(best.read_text())["best_value"] == pytest.approx(min(values))
    line, run, folder = told.stdout.splitlines()[-3:]
    (rate,) = yaml.safe_load(best.read_text())["best_params"].values()
    words = f"on dev with training.lr={rate}"
    assert line == f"best of 2 trials: mae {min(values):.4f} {words}"
    assert json.loads((tmp_path / run / "result.json").read_text())["metrics"]["mae"] == min(values)
    assert tmp_path / folder == best.parent
    for words, line in (
        (["hydra.sweeper.direction=maximize"], "mae needs hydra.sweeper.direction=minimize"),
        (["part=test"], "part=test: optuna chooses by its results, which is for dev"),
        (["data_dir=nowhere"], "no questions at nowhere"),
    ):
        told = sweep(tmp_path, *OPTUNA, *words)
        assert told.returncode == 2
        assert line in told.stderr.splitlines()[-1]
        assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["hydra.launcher.nodes=2"],
        ["hydra.launcher.nodes=2", "trainer=ddp"],
        ["trainer=ddp", "trainer.num_nodes=2"],
    ],
)
def test_nodes_that_would_be_idle_or_missing_are_refused(lamp_exp, tmp_path: Path, words):
    code, _, err = lamp_exp("-m", "hydra/launcher=slurm", "mode=zeroshot", "model=tiny", *words)
    assert code == 2
    assert "must be the same: a run on several nodes needs trainer=ddp and both" in err
    assert not (tmp_path / "outputs").exists()


def test_a_launcher_without_a_sweep_is_refused(tmp_path: Path):
    words = [sys.executable, "-m", "lamp_exp", "hydra/launcher=joblib", "mode=rank", "limit=3"]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "hydra/launcher=joblib is for sweeps: add -m" in told.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_slurm_job_has_more_time_than_the_warning_before_its_end():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("config", ["hydra/launcher=slurm"], return_hydra_config=True)
    assert cfg.hydra.launcher.timeout_min * 60 > 10 * cfg.hydra.launcher.signal_delay_s
