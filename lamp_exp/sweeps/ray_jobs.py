"""Submits a sweep to a Ray cluster, where it goes on when the command that submitted it has ended.

Ray ends what a process started in a cluster as soon as that process ends. So the whole command is
submitted as a job of the cluster, which starts the sweep's jobs from there.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lamp_exp.errors import InputError, first_line

INSIDE = "LAMP_EXP_IN_RAY_JOB"  # set for the command that runs as a job
START_WITH_DASHBOARD = "start its head with the dashboard (--include-dashboard=true)"


def cluster_address(hydra: DictConfig) -> str | None:
    """The Ray cluster that a sweep is to be submitted to.

    None for other launchers, for Ray on this machine, and in the submitted command itself.
    """
    address = OmegaConf.select(hydra, "launcher.ray.init.address")
    return None if address == "local" or os.environ.get(INSIDE) else address


@dataclass(frozen=True)
class SubmittedSweep:
    """A sweep that runs as a job of a Ray cluster. `id` is the job's, as `ray job` takes it."""

    client: Any
    id: str
    address: str

    @classmethod
    def submit(cls, address: str, words: Sequence[str]) -> SubmittedSweep:
        """Submits `python -m lamp_exp -m` with these words, in this folder and by this Python.

        Raises InputError if there is no such cluster, or it takes no jobs.
        """
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        command = [sys.executable, "-m", "lamp_exp", "-m", *words]
        entrypoint = f"cd {shlex.quote(os.getcwd())} && {INSIDE}=1 exec {shlex.join(command)}"
        try:
            client = JobSubmissionClient(None if address == "auto" else address)
            return cls(client, client.submit_job(entrypoint=entrypoint), address)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise InputError(
                f"the sweep cannot be submitted to Ray at {_place(address)} "
                f"({first_line(error)}): start the cluster, or {START_WITH_DASHBOARD}"
            ) from error

    def command(self, verb: str) -> str:
        """The command that does something with the job: `ray job stop ID`."""
        place = "" if self.address == "auto" else f" --address {shlex.quote(self.address)}"
        return f"ray job {verb}{place} {self.id}"

    def follow(self) -> None:
        """Prints what the sweep prints, until it ends."""

        async def show() -> None:
            async for text in self.client.tail_job_logs(self.id):
                print(text, end="", flush=True)

        try:
            asyncio.run(show())
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"the connection to Ray was lost ({first_line(error)}); the sweep may go on: "
                f"{self.command('status')}"
            ) from error

    def failure(self) -> str | None:
        """How the ended sweep failed, in a line; None if it did not."""
        job = self.client.get_job_info(self.id)
        if job.status == "SUCCEEDED":
            return None
        code = "" if job.driver_exit_code is None else f", exit code {job.driver_exit_code}"
        return f"{self.id} in Ray: {job.status.value.lower()}{code}"


def _place(address: str) -> str:
    return os.environ.get("RAY_ADDRESS", "this machine") if address == "auto" else address


def words_of_command(hydra: DictConfig, arguments: Sequence[str]) -> list[str]:
    """The words of a sweep's command: its flags, those for Hydra, and `arguments`."""
    given = [word for word in hydra.overrides.hydra if not word.startswith("hydra.mode=")]
    folders = [
        f"--config-dir={source.path}"
        for source in hydra.runtime.config_sources
        if source.provider == "command-line"
    ]
    return [*folders, *given, *arguments]
