"""Submits a sweep to a Ray cluster, where it goes on when the command that submitted it has ended.

Ray ends what a process started in a cluster as soon as that process ends. So the whole command is
submitted as a job of the cluster, which starts the sweep's jobs from there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lamp_exp.conf_files import conf_folder
from lamp_exp.environment import environment
from lamp_exp.errors import InputError, first_line

# Set for a command that runs as a job of a cluster: by us, and by Ray for all jobs.
INSIDE = ("LAMP_EXP_IN_RAY_JOB", "RAY_JOB_CONFIG_JSON_ENV_VAR")
ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # which win over the client's argument
RECONNECT_SECONDS = 2.0
DASHBOARD = (
    ". A cluster takes jobs where its head was started with the dashboard: "
    "ray start --head --include-dashboard=true"
)
LOGGERS = ("job.sdk", "dashboard_sdk")  # of Ray's client, which tell each connection


def cluster_address(hydra: DictConfig) -> str | None:
    """The Ray cluster that a sweep is to be submitted to.

    None for other launchers, for Ray on this machine, and in a command that is a job already.
    """
    address = OmegaConf.select(hydra, "launcher.ray.init.address")
    inside = any(name in os.environ for name in INSIDE)
    return None if address == "local" or inside else address


@dataclass(frozen=True)
class SubmittedSweep:
    """A sweep that runs as a job of a Ray cluster. `id` is the job's, as `ray job` takes it."""

    client: Any
    id: str

    @classmethod
    def prepare(cls, address: str) -> SubmittedSweep:
        """Connects to a cluster. Raises InputError if there is none, or it takes no jobs."""
        from ray.job_submission import JobSubmissionClient

        for name in LOGGERS:
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        chosen = {} if address == "auto" else dict.fromkeys(ADDRESSES, address)
        place = os.environ.get("RAY_ADDRESS", "this machine") if address == "auto" else address
        with environment(chosen), _explained(f"no Ray cluster at {place} takes jobs", DASHBOARD):
            return cls(JobSubmissionClient(), f"lamp_exp-{secrets.token_hex(4)}")

    def submit(self, words: Sequence[str]) -> None:
        """Submits `python -m lamp_exp -m` with these words, in this folder and by this Python."""
        command = [sys.executable, "-m", "lamp_exp", "-m", *words]
        entrypoint = f"cd {shlex.quote(os.getcwd())} && {INSIDE[0]}=1 exec {shlex.join(command)}"
        with _explained("Ray did not take the sweep", DASHBOARD):
            self.client.submit_job(entrypoint=entrypoint, submission_id=self.id)

    def command(self, verb: str) -> str:
        """The command that does something with the job: `ray job stop --address … ID`."""
        return f"ray job {verb} --address {self.client.get_address()} {self.id}"

    def follow(self) -> str | None:
        """Prints what the sweep prints until it ends; returns how it failed, None if it did not."""
        while True:
            for text in self._log():
                print(text, end="", flush=True)
            with self._connection():
                job = self.client.get_job_info(self.id)
            if job.status.is_terminal():
                break
            time.sleep(RECONNECT_SECONDS)  # the log broke off; it is printed again from its start
        if job.status.value == "SUCCEEDED":
            return None
        code = "" if job.driver_exit_code is None else f", exit code {job.driver_exit_code}"
        return f"{self.id} in Ray: {job.status.value.lower()}{code}"

    def _connection(self) -> AbstractContextManager[None]:
        """Explains that the sweep may go on where the connection to Ray is lost."""
        return _explained(f"{self.id} may go on in Ray ({self.command('status')})")

    def _log(self) -> Iterator[str]:
        """The log as it grows.

        It is read in a thread, because a notebook's own has an event loop already.
        """
        texts: SimpleQueue[str | Exception | None] = SimpleQueue()
        stopped = threading.Event()

        async def read() -> None:
            async for text in self.client.tail_job_logs(self.id):
                if stopped.is_set():
                    break
                texts.put(text)

        def work() -> None:
            try:
                asyncio.run(read())
            except Exception as error:  # noqa: BLE001  (raised in the other thread)
                texts.put(error)
            texts.put(None)

        threading.Thread(target=work, daemon=True).start()
        try:
            while (text := texts.get()) is not None:
                if isinstance(text, Exception):
                    with self._connection():
                        raise text
                yield text
        finally:
            stopped.set()


@contextmanager
def _explained(words: str, advice: str = "") -> Iterator[None]:
    """Turns an error of Ray's client into an InputError that begins with these words."""
    from aiohttp import ClientError
    from ray.exceptions import RayError

    try:
        yield
    except (OSError, RuntimeError, ValueError, RayError, ClientError) as error:
        raise InputError(f"{words}: {first_line(error)}{advice}") from error


def words_of_command(hydra: DictConfig, arguments: Sequence[str]) -> list[str]:
    """The words of a sweep's command: its flags, those for Hydra, and `arguments`."""
    sources = {source.provider: source.path for source in hydra.runtime.config_sources}
    flags = []
    if (own := sources.get("main", "")) and own != conf_folder():
        flags.append(f"--config-path={own}")
    if added := sources.get("command-line"):
        flags.append(f"--config-dir={added}")
    if (name := hydra.job.config_name) != "config":
        flags.append(f"--config-name={name}")
    given = [word for word in hydra.overrides.hydra if not word.startswith("hydra.mode=")]
    return [*flags, *given, *arguments]
