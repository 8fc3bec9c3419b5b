"""The jobs of a sweep tell what becomes of them on disk, and one watcher reads it.

Each job has `<sweep>/<number>/status.json`. Launchers lose results, processes are killed: what
counts is on disk, whichever launcher ran the jobs, and on whichever machine.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError, first_line
from lamp_exp.results.folder import STATUS, RunFolder
from lamp_exp.storage.atomic import read_json_or_none, write_json, write_text

LOST = "ended without a word (killed, or out of memory?)"
NEVER_BEGUN = "did not begin before the launcher ended"
POLL_SECONDS = 0.2
BEAT_SECONDS = 10.0  # a job at work touches its status so often
SILENCE_SECONDS = 60.0  # after which one on another machine counts as dead


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was planned: its number, what was asked, and the names of its task."""

    num: int
    overrides: tuple[str, ...]
    task: str


@dataclass(frozen=True, slots=True)
class Status:
    """What became of a job: `running`, `done`, `there`, `failed` or `stopped`.

    `run` is the run's folder and `twin` that of the same run without a profile; `traceback`, the
    file that holds it; `seconds` since the job began.
    """

    state: str
    overrides: tuple[str, ...]
    run: str | None = None
    twin: str | None = None
    error: str | None = None
    traceback: str | None = None
    seconds: float = 0.0
    pid: int = 0
    host: str = ""

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self.state != "running"


def read_status(folder: Path) -> Status | None:
    """What the job of that folder last said; None if it has not begun, or the file is damaged."""
    content = read_json_or_none(folder / STATUS)
    if content is None:
        return None
    return Status(**{**content, "overrides": tuple(content["overrides"])})


def any_failed(sweep: Path) -> bool:
    """Whether a job of the sweep has failed."""
    statuses = (read_status(path.parent) for path in sweep.glob(f"*/{STATUS}"))
    return any(status is not None and status.state == "failed" for status in statuses)


class Report:
    """What a job says of itself while it runs."""

    def __init__(self, folder: Path, overrides: Sequence[str]) -> None:
        """`folder` is the job's own, below the sweep's."""
        self._folder = folder
        self._started = time.time()
        self._over = threading.Event()
        self.status = Status(
            "running", tuple(overrides), pid=os.getpid(), host=socket.gethostname()
        )

    def say(self, state: str, **more: Any) -> None:
        """Writes the state, and what else is known now."""
        seconds = round(time.time() - self._started, 3)
        self.status = replace(self.status, state=state, seconds=seconds, **more)
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder, asdict(self.status))
        if self.status.ended:
            self._over.set()

    def begin(self) -> None:
        """Says that the job runs, and goes on saying so: on another machine nobody sees it."""
        self.say("running")
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            os.utime(self._folder / STATUS)

    def fail(self, error: BaseException) -> None:
        """Says why; the traceback lies in the run's log, or here if the run had not begun."""
        line = one_line(error)
        folder = self._begun_run()
        if folder is None:
            place = self._folder / "error.txt"
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(place, traceback.format_exception(error))
        else:
            place = folder / "run.log"
            _write(folder, {"state": "failed", "error": line})
        self.say("failed", error=line, traceback=str(place))

    def _begun_run(self) -> Path | None:
        """The run's folder, if this job has written a log into it."""
        if self.status.run is None:
            return None
        run = RunFolder(Path(self.status.run))
        for folder in (run.replacement().path, run.path):
            log = folder / "run.log"
            if log.is_file() and log.stat().st_mtime >= self._started - 1:
                return folder
        return None


def _write(folder: Path, content: Any) -> None:
    write_json(folder / STATUS, content)


def one_line(error: BaseException) -> str:
    """An error in one line; of our own words, nothing but them."""
    line = first_line(error)
    if isinstance(error, InputError):
        return line
    return f"{type(error).__name__}: {line}".removesuffix(": ")


class Watcher:
    """Announces what becomes of each job when it happens, and in the end has seen all of them."""

    def __init__(self, sweep: Path, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
        """`say` is given one line a job."""
        self._sweep = sweep
        self._jobs = jobs
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.ended: dict[int, Status] = {}

    def __enter__(self) -> Watcher:
        """Starts to watch."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Looks a last time."""
        self._over.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Announces the jobs that have ended since the last look."""
        for job in self._jobs:
            if job.num not in self.ended:
                status = read_status(self._sweep / str(job.num))
                if status is not None and status.ended:
                    self._announce(job, status)

    def settle(self, launcher_error: str | None, interrupted: bool) -> None:
        """Decides about the jobs that never said how they ended."""
        for job in self._jobs:
            if job.num not in self.ended:
                status = read_status(self._sweep / str(job.num))
                self._announce(job, _settled(job, status, launcher_error, interrupted))

    def _announce(self, job: Job, status: Status) -> None:
        self.ended[job.num] = status
        self._say(f"[{len(self.ended)}/{len(self._jobs)}] {_line(job, status, self._jobs)}")


def _settled(job: Job, status: Status | None, error: str | None, interrupted: bool) -> Status:
    if status is None:
        if interrupted:
            return Status("stopped", job.overrides, error="interrupted before it began")
        lost = f"{NEVER_BEGUN} ({error})" if error else LOST
        return Status("failed", job.overrides, error=lost)
    if status.ended:
        return status
    if interrupted:
        return replace(status, state="stopped", error="interrupted")
    return replace(status, state="failed", error=LOST)


def _line(job: Job, status: Status, jobs: Sequence[Job]) -> str:
    """`done lamp4-…: rouge_1 0.4123 (12 s)`."""
    name = Path(status.run).name if status.run else distinction(job, jobs)
    if status.state == "failed":
        return f"FAILED {name}: {status.error}"
    if status.state == "stopped":
        return f"stopped {name}: {status.error}"
    result = RunFolder(Path(status.run or "")).result()
    seconds = f" ({status.seconds:.0f} s)" if status.state == "done" else ""
    if result["metrics"] is None:
        return f"{status.state} {name}{seconds}"
    metric = result["monitor"][0]
    return f"{status.state} {name}: {metric} {result['metrics'][metric]:.4f}{seconds}"


def wait_for_the_living(sweep: Path, jobs: Iterable[Job]) -> None:
    """A launcher that gave up may leave jobs at work (those of Slurm): waits until all ended."""
    heard: dict[int, tuple[float, float]] = {}
    waiting = list(jobs)
    while waiting := [job for job in waiting if _at_work(sweep / str(job.num), job.num, heard)]:
        time.sleep(POLL_SECONDS)


def _at_work(folder: Path, num: int, heard: dict[int, tuple[float, float]]) -> bool:
    """Here, if its process lives; elsewhere, if it was heard of not long ago."""
    status = read_status(folder)
    if status is None or status.ended or status.pid == os.getpid():
        return False
    if status.host == socket.gethostname():
        return _lives(status.pid)
    beat, now = (folder / STATUS).stat().st_mtime, time.monotonic()
    if heard.get(num, (0.0, 0.0))[0] != beat:
        heard[num] = (beat, now)
    return now - heard[num][1] < SILENCE_SECONDS


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's, but there
    return True


def varying(jobs: Sequence[Job]) -> list[str]:
    """The keys by which jobs differ, in the order in which they were given; without the seed."""
    asked = [given(job) for job in jobs]
    keys = dict.fromkeys(key for values in asked for key in values if key != "seed")
    return [key for key in keys if len({values.get(key) for values in asked}) > 1]


def given(job: Job) -> dict[str, str]:
    """A job's overrides by key."""
    pairs = (override.partition("=") for override in job.overrides)
    return {key.lstrip("+~"): value for key, _, value in pairs}


def distinction(job: Job, jobs: Sequence[Job]) -> str:
    """By which overrides a job is told from the others, the seed among them."""
    values = given(job)
    keys = [*varying(jobs), *(["seed"] if len({given(j).get("seed") for j in jobs}) > 1 else [])]
    return " ".join(f"{key}={values[key]}" for key in keys if key in values) or f"job {job.num}"
