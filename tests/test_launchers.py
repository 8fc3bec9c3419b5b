"""Sweeps through launchers other than Hydra's own, which runs one job after the other.

Slurm has a file of its own, tests/test_slurm.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from lamp_exp.sweeps.status import read_status
from tests.conftest import CONF
from tests.sweeps import SHORT, command, runs, sweep

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
# Ray reaches for addresses outside, so it is given a network that has none.
ALONE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-ec"]
RAY = """
ip link set lo up
if [ $1 = ray_cluster ]; then
  export RAY_ADDRESS=127.0.0.1:6379
  $2/ray start --head --block --node-ip-address=127.0.0.1 --num-cpus=2 --include-dashboard=false &
  trap "kill $!; wait $! || true" EXIT  # its exit code is not the sweep's
  until $2/ray status; do kill -0 $!; sleep 0.5; done
fi
"${@:3}"
"""
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


@pytest.fixture
def ray() -> Iterator[dict[str, str]]:
    """The environment of a command in which Ray is alone."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed: pip install 'lamp-exp[ray]'")
    if subprocess.run([*ALONE, "ip link set lo up"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here, and Ray is only tried in one")
    place = tempfile.mkdtemp(prefix="ray")  # pytest's is too long for sockets
    yield {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": place, "HOME": place}
    shutil.rmtree(place)


def through_ray(launcher: str, *grid: str) -> list[str]:
    words = [*ALONE, RAY, "bash", launcher, str(Path(sys.executable).parent)]
    return [*words, *command(f"hydra/launcher={launcher}", *grid)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray_local", "ray_cluster"])
def test_jobs_through_ray_give_the_numbers_of_those_without(launcher: str, ray, tmp_path: Path):
    grid = [*SHORT, "k=0", "seed=0,1"]
    assert sweep(tmp_path / "serial", *grid).returncode == 0
    (tmp_path / "ray").mkdir()
    told = subprocess.run(
        through_ray(launcher, *grid),
        cwd=tmp_path / "ray", env=ray, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(runs(tmp_path / "ray")) == 2
    assert runs(tmp_path / "ray") == runs(tmp_path / "serial")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray_local", "ray_cluster"])
def test_the_jobs_of_ray_end_with_a_sweep_that_is_interrupted(launcher: str, ray, tmp_path: Path):
    words = through_ray(launcher, *SHORT, "k=0", "seed=0,1,2,3", "trainer.max_epochs=500")
    pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        words, cwd=tmp_path, env=ray, text=True, start_new_session=True, **pipes
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("outputs/lamp3*/training/*.csv")):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "stopped lamp3-" in err and "interrupted, it ends with this command" in err
    statuses = [path.parent for path in tmp_path.glob("outputs/.sweeps/*/*/status.json")]
    (summary,) = tmp_path.glob("outputs/.sweeps/*/summary.json")
    assert json.loads(summary.read_text())["counts"]["stopped"] == 4
    pids = [status.pid for status in map(read_status, statuses) if status]
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


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
