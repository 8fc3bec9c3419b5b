"""Sweeps as jobs of a Ray cluster, by a made-up client; a real one is in test_launchers.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from lamp_exp.conf_files import conf_folder
from lamp_exp.errors import InputError
from lamp_exp.sweeps import ray_jobs
from lamp_exp.sweeps.ray_jobs import SubmittedSweep, cluster_address, words_of_command


class Status(Enum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    def is_terminal(self) -> bool:
        return self is not Status.RUNNING


class Client:
    """Has a log and a status for each time that it is asked; errors are raised."""

    def __init__(self, *answers: tuple[Any, Any], code: int | None = None) -> None:
        self.logs, self.states = map(list, zip(*answers, strict=True))
        self.code = code
        self.jobs: list[dict[str, str]] = []

    def get_address(self) -> str:
        return "http://head:8265"

    def submit_job(self, **job: str) -> None:
        self.jobs.append(job)

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        log = self.logs.pop(0)
        if isinstance(log, Exception):
            raise log
        for line in log:
            yield line

    def get_job_info(self, id: str) -> SimpleNamespace:
        state = self.states.pop(0)
        if isinstance(state, Exception):
            raise state
        return SimpleNamespace(status=state, driver_exit_code=self.code)


class RayError(Exception):
    pass


class ClientError(Exception):
    pass


@pytest.fixture(autouse=True)
def errors(monkeypatch) -> None:
    """The errors of Ray and of its client, whether they are installed or not."""
    ray, exceptions, aiohttp = map(ModuleType, ("ray", "ray.exceptions", "aiohttp"))
    exceptions.RayError = RayError  # type: ignore[attr-defined]
    aiohttp.ClientError = ClientError  # type: ignore[attr-defined]
    for module in (ray, exceptions, aiohttp):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(ray_jobs, "RECONNECT_SECONDS", 0)


@pytest.mark.parametrize(
    ("answers", "code", "failure", "printed"),
    [
        ([(["a\n", "b\n"], Status.SUCCEEDED)], 0, None, "a\nb\n"),
        ([(["a\n"], Status.FAILED)], 2, "id in Ray: failed, exit code 2", "a\n"),
        ([([], Status.STOPPED)], None, "id in Ray: stopped", ""),
        ([(["a\n"], Status.RUNNING), (["a\n", "b\n"], Status.SUCCEEDED)], 0, None, "a\na\nb\n"),
    ],
)
def test_a_submitted_sweep_is_followed_to_its_end(answers, code, failure, printed, capsys):
    assert SubmittedSweep(Client(*answers, code=code), "id").follow() == failure
    assert capsys.readouterr().out == printed


def test_it_can_be_followed_from_a_notebook():
    async def cell() -> str | None:
        return SubmittedSweep(Client((["a"], Status.SUCCEEDED)), "id").follow()

    assert asyncio.run(cell()) is None


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, RayError, ClientError])
@pytest.mark.parametrize("place", [0, 1])
def test_a_lost_connection_is_one_line_that_says_how_to_go_on(error: Callable, place: int):
    answer: list[Any] = [["a"], Status.SUCCEEDED]
    answer[place] = error("the head\nhas gone")
    with pytest.raises(InputError) as raised:
        SubmittedSweep(Client(tuple(answer)), "id").follow()
    expected = "id may go on in Ray (ray job status --address http://head:8265 id): the head"
    assert str(raised.value) == expected


def test_the_command_is_submitted_as_it_was_given(monkeypatch, tmp_path):
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    client = Client(([], Status.SUCCEEDED))
    SubmittedSweep(client, "id").submit(["k=0,4", "a='b c'"])
    (job,) = client.jobs
    command = f"{sys.executable} -m lamp_exp -m k=0,4 " + "'a='\"'\"'b c'\"'\"''"
    begin = f"cd '{tmp_path}/a folder' && LAMP_EXP_IN_RAY_JOB=1 exec "
    assert job == {"entrypoint": begin + command, "submission_id": "id"}


def hydra_config(**sources: str) -> Any:
    listed = [{"provider": name, "path": path} for name, path in sources.items()]
    return OmegaConf.create({
        "runtime": {"config_sources": [{"provider": "hydra", "path": "hydra.conf"}, *listed]},
        "job": {"config_name": "config"},
        "overrides": {"hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=ray_cluster"]},
        "launcher": {"ray": {"init": {"address": "auto"}}},
    })  # fmt: skip


def test_flags_are_submitted_with_the_words():
    hydra = hydra_config(main=conf_folder())
    assert words_of_command(hydra, ["k=0,4"]) == ["hydra/launcher=ray_cluster", "k=0,4"]
    hydra = hydra_config(main="/other", **{"command-line": "/my conf"})
    hydra.job.config_name = "mine"
    flags = ["--config-path=/other", "--config-dir=/my conf", "--config-name=mine"]
    assert words_of_command(hydra, []) == [*flags, "hydra/launcher=ray_cluster"]


def test_only_a_command_outside_of_a_cluster_is_submitted(monkeypatch):
    hydra = hydra_config()
    for name in ray_jobs.INSIDE:
        monkeypatch.delenv(name, raising=False)
    assert cluster_address(hydra) == "auto"
    for name in ray_jobs.INSIDE:
        with monkeypatch.context() as inside:
            inside.setenv(name, "1")
            assert cluster_address(hydra) is None
    hydra.launcher.ray.init.address = "local"
    assert cluster_address(hydra) is None
    assert cluster_address(OmegaConf.create({"launcher": {"_target_": "a.b"}})) is None
