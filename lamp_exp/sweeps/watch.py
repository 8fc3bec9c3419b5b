"""Follows the jobs of a running sweep by their states on disk."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lamp_exp.results.folder import STATUS, RunFolder
from lamp_exp.sweeps.slurm import last_word
from lamp_exp.sweeps.status import SHOWN, Job, JobStatus, one_line, read_status, short_name

LOST = "ended without a word (killed, or out of memory?)"
DISK_FULL = "ended without a word: the disk is full"
SIGNAL = re.compile(r"\bSIG[A-Z]+\d?\b")
NEVER_STARTED = "did not start before the launcher ended"
POLL_SECONDS = 0.2
SILENCE_SECONDS = 60.0  # after which a job on another machine counts as dead
FULL_BYTES = 1_000_000  # with less free space, a job cannot write its record


class Watcher:
    """Announces each job when it ends; `ended` has the final status of each by its number."""

    def __init__(self, sweep: Path, jobs: Sequence[Job], announce: Callable[[str], None]) -> None:
        self._sweep = sweep
        self._jobs = jobs
        self._announce_line = announce
        self._stop = threading.Event()
        self._lock = threading.RLock()  # a job is announced once
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.ended: dict[int, JobStatus] = {}

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._poll()

    def follow(self, jobs: Sequence[Job]) -> None:
        """Replaces jobs that have not started by the same ones with other numbers."""
        self._jobs = jobs

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._poll()

    def _poll(self) -> None:
        with self._lock:
            for job in self._unended():
                status = job_status(self._sweep, job)
                if status is not None and status.ended:
                    self._announce(job, status)

    def _unended(self) -> list[Job]:
        return [job for job in self._jobs if job.number not in self.ended]

    def settle(self, launcher_error: Exception | None, jobs: Collection[Job] | None = None) -> None:
        """Decides how the jobs, or those of `jobs`, ended that did not write it themselves."""
        with self._lock:
            self._poll()
            self._settle(launcher_error, self._unended() if jobs is None else jobs)

    def _settle(self, launcher_error: Exception | None, jobs: Collection[Job]) -> None:
        for job in [job for job in self._unended() if job in jobs]:
            status = job_status(self._sweep, job)
            if status is None:
                status = JobStatus("running", job.overrides)
                why = launcher_error and one_line(launcher_error)
                error = f"{NEVER_STARTED} ({why})" if why else LOST
            else:
                error = LOST
            if error == LOST:
                error = self._reason(job, str(launcher_error))
            self._announce(job, replace(status, state="failed", error=error))

    def _reason(self, job: Job, launcher_error: str) -> str:
        """Why a job ended without a word, as far as the disk, Slurm or the launcher tell."""
        if shutil.disk_usage(self._sweep).free < FULL_BYTES:
            return DISK_FULL
        if line := last_word(self._sweep, job.number):
            return f"ended by Slurm: {line}"
        signals = dict.fromkeys(SIGNAL.findall(launcher_error))
        if not signals:
            return LOST
        guess = " (the system does that where memory runs out)" if "SIGKILL" in signals else ""
        return f"killed by {' or '.join(signals)}{guess}"

    def stop(self, remote: bool) -> None:
        """Marks the jobs that have not ended as stopped, or as still running (`remote`).

        The jobs of all launchers but Slurm's end with this process.
        """
        for job in self._unended():
            status = job_status(self._sweep, job)
            state = "running" if remote else "stopped"
            error = (
                "interrupted, it ends with this command"
                if status
                else "interrupted before it started"
            )
            error = "it goes on in Slurm" if remote else error
            last = status or JobStatus("running", job.overrides)
            self._announce(job, replace(last, state=state, error=error))

    def _announce(self, job: Job, status: JobStatus) -> None:
        self.ended[job.number] = status
        line = describe(job, status, self._jobs)
        self._announce_line(f"[{len(self.ended)}/{len(self._jobs)}] {line}")


def job_status(sweep: Path, job: Job) -> JobStatus | None:
    """The job's status; None if it has not started. The status of other overrides is ignored."""
    status = read_status(sweep / str(job.number))
    return status if status is not None and status.overrides == job.overrides else None


def describe(job: Job, status: JobStatus, jobs: Sequence[Job]) -> str:
    """One line: `done lamp4-…: rouge_1 0.4123 (12 s)`."""
    name = Path(status.run).name if status.run else short_name(job, jobs)
    state = SHOWN.get(status.state, status.state)
    if not status.has_result:
        return f"{state} {name}: {status.error}"
    result = RunFolder(Path(status.run or "")).read()
    seconds = f" ({status.seconds:.0f} s)" if status.state == "done" else ""
    if result.main_value is None:
        return f"{state} {name}{seconds}"
    return f"{state} {name}: {result.main_metric} {result.main_value:.4f}{seconds}"


def wait_for_running(sweep: Path, jobs: Iterable[Job]) -> None:
    """Waits for the jobs that are still running although their launcher gave up."""
    beats: dict[int, tuple[float, float]] = {}
    waiting = list(jobs)
    while waiting := [job for job in waiting if _is_running(sweep, job, beats)]:
        time.sleep(POLL_SECONDS)


def _is_running(sweep: Path, job: Job, beats: dict[int, tuple[float, float]]) -> bool:
    """Here: whether its process lives; on another machine: whether its status was touched lately.

    `beats` has each job's last modification time, and when this process first saw it.
    """
    status = job_status(sweep, job)
    if status is None or status.ended or status.pid == os.getpid():
        return False
    if status.host == socket.gethostname():
        return _is_alive(status.pid)
    beat, now = (sweep / str(job.number) / STATUS).stat().st_mtime, time.monotonic()
    if beats.get(job.number, (0.0, 0.0))[0] != beat:
        beats[job.number] = (beat, now)
    return now - beats[job.number][1] < SILENCE_SECONDS


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True
