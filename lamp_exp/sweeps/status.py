"""The jobs of a sweep and their states on disk, which each job writes and the sweep reads.

Launchers lose results and processes are killed, so only `<sweep>/<number>/status.json` counts,
whichever launcher ran the job, and on whichever machine.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError, first_line
from lamp_exp.results.folder import STATUS, RunFolder
from lamp_exp.storage.atomic import read_json_or_none, write_json, write_text

BEAT_SECONDS = 10.0  # a running job touches its status at this interval


@dataclass(frozen=True, slots=True)
class Job:
    """A planned job: its number in the sweep, its overrides, and its task's name.

    `row` is the name of its row, if rows have names; it stands for the overrides of `row_keys`.
    `place` is its number among the jobs as they were planned, if waves have changed their order.
    """

    number: int
    overrides: tuple[str, ...]
    task: str
    row: str = ""
    row_keys: frozenset[str] = frozenset()
    place: int | None = None

    @property
    def planned_number(self) -> int:
        return self.number if self.place is None else self.place

    @property
    def values(self) -> dict[str, str]:
        pairs = (override.partition("=") for override in self.overrides)
        values = {key.lstrip("+~"): value for key, _, value in pairs}
        if not self.row:
            return values
        return {"row": self.row} | {k: v for k, v in values.items() if k not in self.row_keys}


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """The keys, but for the seed, of which jobs have different values, in order of appearance."""
    values = [job.values for job in jobs]
    keys = dict.fromkeys(key for one in values for key in one if key != "seed")
    return [key for key in keys if len({one.get(key) for one in values}) > 1]


def naming_keys(jobs: Sequence[Job]) -> list[str]:
    """The keys of `varying_keys`, and last the seed if jobs differ in it."""
    seeds = {job.values.get("seed") for job in jobs}
    return [*varying_keys(jobs), *(["seed"] if len(seeds) > 1 else [])]


def short_name(job: Job, jobs: Sequence[Job]) -> str:
    """The overrides in which a job differs from the others of its sweep, the seed included."""
    values = job.values
    words = (f"{key}={values[key]}" for key in naming_keys(jobs) if key in values)
    return " ".join(words) or f"job {job.number}"


REFUSED = "refused"
SHOWN = {  # as people read them
    "there": "done before", "left_out": "skipped", "failed": "FAILED", REFUSED: "not run",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of a job: `running`, `done`, `there` (it was finished before), `failed`, `stopped`,
    or `refused` (what it asks for cannot run, which the sweep expects).

    `overrides` are those of the planned job; `seed` is the one that was drawn for `seed=null`.
    `run` and `baseline` are run folders, `traceback` is the file that has it, `seconds` count from
    the job's start.
    """

    state: str
    overrides: tuple[str, ...]
    seed: int | None = None
    run: str | None = None
    baseline: str | None = None
    error: str | None = None
    traceback: str | None = None
    seconds: float = 0.0
    pid: int = 0
    host: str = ""

    @property
    def ended(self) -> bool:
        return self.state != "running"

    @property
    def has_result(self) -> bool:
        """Whether there is a finished run."""
        return self.state in ("done", "there")

    @property
    def repeatable_overrides(self) -> tuple[str, ...]:
        """The overrides with the drawn seed, which make the same run again."""
        if self.seed is None:
            return self.overrides
        others = (word for word in self.overrides if not word.startswith("seed="))
        return (*others, f"seed={self.seed}")


def read_status(folder: Path) -> JobStatus | None:
    """The status in a job's folder; None if the job has not started, or the file is damaged."""
    content = read_json_or_none(folder / STATUS)
    if content is None:
        return None
    known = {field.name for field in fields(JobStatus)} & content.keys()
    values = {name: content[name] for name in known}
    return JobStatus(**{**values, "overrides": tuple(content["overrides"])})


def any_failed(sweep: Path) -> bool:
    """Whether a job of the sweep has failed."""
    statuses = (read_status(path.parent) for path in sweep.glob(f"*/{STATUS}"))
    return any(status is not None and status.state == "failed" for status in statuses)


class StatusWriter:
    """Keeps the status of the job that this process runs."""

    def __init__(self, folder: Path, overrides: Sequence[str], seed: int | None = None) -> None:
        self._folder = folder
        self._started = time.time()
        self._ended = threading.Event()
        self.status = JobStatus(
            "running", tuple(overrides), seed, pid=os.getpid(), host=socket.gethostname()
        )

    def start(self) -> None:
        """Writes `running`, and keeps touching the file so that other machines see a live job."""
        self.update("running")
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            os.utime(self._folder / STATUS)

    def update(self, state: str, **changes: Any) -> None:
        """Writes the state and other changed fields."""
        seconds = round(time.time() - self._started, 3)
        self.status = replace(self.status, state=state, seconds=seconds, **changes)
        if self.status.ended:
            self._ended.set()
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / STATUS, asdict(self.status))

    def fail(self, error: BaseException) -> None:
        """Writes `failed` and why; the traceback is in the run's log, or here if there is none."""
        line = one_line(error)
        folder = self._started_run()
        try:
            if folder is None:
                place = self._folder / "error.txt"
                self._folder.mkdir(parents=True, exist_ok=True)
                write_text(place, traceback.format_exception(error))
            else:
                place = folder / "run.log"
                write_json(folder / STATUS, {"state": "failed", "error": line})
        except OSError:  # a full disk, which is often the error itself
            self.update("failed", error=line)
        else:
            self.update("failed", error=line, traceback=str(place))

    @property
    def has_begun_work(self) -> bool:
        """Whether the run has been started, and not only been looked at."""
        return self._started_run() is not None

    def _started_run(self) -> Path | None:
        """The run's folder, if this job has written a log into it."""
        if self.status.run is None:
            return None
        run = RunFolder(Path(self.status.run))
        for folder in (run.replacement().path, run.path):
            log = folder / "run.log"
            if log.is_file() and log.stat().st_mtime >= self._started - 1:
                return folder
        return None


def _write(path: Path, status: Mapping[str, Any]) -> None:
    try:
        write_json(path, status)
    except OSError:
        if not path.is_file():
            raise
        with path.open("r+b") as file:  # a full disk still has the blocks of the old content
            file.write(json.dumps(status).encode())
            file.truncate()


def one_line(error: BaseException) -> str:
    """An error in one line: its type and message, or only the message of an InputError."""
    line = first_line(error)
    if isinstance(error, InputError):
        return line
    return f"{type(error).__name__}: {line}".removesuffix(": ")
