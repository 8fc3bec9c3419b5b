"""Sweeps through launchers other than Hydra's own, which runs one job after the other.

Slurm has a file of its own, tests/test_slurm.py.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONF, compose
from tests.sweeps import SHORT, command, runs, sweep

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
ALONE = ["unshare", "--net", "--map-root-user"]  # a namespace in which nothing is but the loopback
WITHOUT_PLUGINS = """
import sys, hydra_plugins
hydra_plugins.__path__ = []
from lamp_exp.__main__ import main
main()
"""


def test_jobs_at_the_same_time_give_the_numbers_of_one_after_the_other(tmp_path: Path):
    grid = [*SHORT, "k=0", "seed=0,1"]
    one_by_one = sweep(tmp_path / "serial", *grid)
    together = sweep(tmp_path / "joblib", *JOBLIB, *grid)
    assert one_by_one.returncode == together.returncode == 0, together.stderr
    expected = runs(tmp_path / "serial")
    assert len(expected) == 2
    assert runs(tmp_path / "joblib") == expected
    assert len({str(run["metrics"]) for run in expected.values()}) == 2


def test_a_job_that_cannot_be_does_not_stop_its_neighbour(tmp_path: Path):
    words = ["mode=rank", "task=lamp4", "limit=3", "retriever=recency,bm25"]
    told = sweep(tmp_path, *JOBLIB, *words)
    assert "has none: use split=time" in told.stderr
    assert "Traceback" not in told.stderr
    (done,) = tmp_path.glob("outputs/*/result.json")
    assert "bm25" in done.parent.name


@pytest.mark.parametrize(
    ("launcher", "plugin", "extra"),
    [
        ("joblib", "joblib", "joblib"),
        ("slurm", "submitit", "slurm"),
        ("submitit_local", "submitit", "slurm"),
        ("ray_local", "ray", "ray"),
        ("ray_cluster", "ray", "ray"),
    ],
)
def test_a_launcher_that_is_not_installed_says_what_to_install(launcher, plugin, extra):
    words = [sys.executable, "-c", WITHOUT_PLUGINS, "-m", f"hydra/launcher={launcher}"]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr == (
        f"lamp_exp: hydra/launcher={launcher} needs hydra-{plugin}-launcher: "
        f"pip install 'lamp-exp[{extra}]'\n"
    )


def test_a_launcher_without_a_sweep_is_refused(tmp_path: Path):
    words = [word for word in command("hydra/launcher=joblib", "mode=rank", "limit=3")]
    words.pop(3)  # the second -m, which makes it a sweep
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "hydra/launcher=joblib is for sweeps: add -m" in told.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_slurm_job_has_more_time_than_the_warning_before_its_end():
    cfg, choices = compose_launcher("slurm")
    assert choices["hydra/launcher"] == "slurm"
    assert cfg.timeout_min * 60 > cfg.signal_delay_s


def compose_launcher(name: str):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("config", [f"hydra/launcher={name}"], return_hydra_config=True)
    return cfg.hydra.launcher, cfg.hydra.runtime.choices
