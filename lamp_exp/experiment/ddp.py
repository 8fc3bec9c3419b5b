"""Several processes of one run: a leader and its workers (PyTorch's distributed data parallel).

The leader retrieves, records and displays. A worker makes the same prompts and calls the model in
the same way, and the Lightning trainers of all processes share the model's work. On one machine
the leader starts the workers and sends them the work on standard input. Where Slurm has started
all processes of a job, the leader leaves the work in files of the output folder.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lamp_exp.environment import environment
from lamp_exp.errors import InputError
from lamp_exp.storage.atomic import read_json_or_none, write_json, write_text
from lamp_exp.storage.locks import Locked, exclusive

PROCESS_INDEX = "SLURM_PROCID"
WORKER = "lamp_exp.experiment.ddp_worker"  # the module that a worker runs
Trainer = Callable[..., Any]
Failure = Callable[[], Exception | None]  # of another process, if one has failed
NO_MORE_WORK: dict[str, Any] = {}
FAILURE = "failure"  # the file of the first process that failed
PROCESS, BEGAN = "process-", ".began"  # parts of the names of what a living process holds


def process_index() -> int:
    """The number of this process among those that Slurm has started for one job; 0 is the leader.

    Raises InputError under torchrun, which would start the leader several times.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("start lamp_exp without torchrun: trainer=ddp starts its own processes")
    return int(os.environ.get(PROCESS_INDEX, 0))


# --- processes that Slurm has started ----------------------------------------------------------


@contextmanager
def alive(output_dir: Path) -> Iterator[None]:
    """While the block runs, the other processes of this Slurm job can tell that this one lives.

    It holds a lock, which is free once it has ended, however that happened. A file says that the
    lock has been taken; it is removed only if the block ends.
    """
    if not _has_others():
        yield
        return
    place = _work_folder(output_dir) / f"{PROCESS}{process_index()}"
    with exclusive(place):
        write_text(place.with_suffix(BEGAN), [])
        try:
            yield
        finally:
            place.with_suffix(BEGAN).unlink(missing_ok=True)


def _killed_process(output_dir: Path, number: int | str = "*") -> RuntimeError | None:
    """A process of this Slurm job, or the one of that number, that ended without a word."""
    for began in sorted(_work_folder(output_dir).glob(f"{PROCESS}{number}{BEGAN}")):
        if began.stem == f"{PROCESS}{process_index()}":
            continue
        with suppress(Locked), exclusive(began.with_suffix(""), wait=False):
            if began.exists():
                other = began.stem.removeprefix(PROCESS)
                return RuntimeError(
                    f"process {other} of the run failed: it ended without a word (killed, or out "
                    "of memory?)"
                )
    return None


def _has_others() -> bool:
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1


def assign(output_dir: Path, work: Mapping[str, Any]) -> None:
    """Gives the other processes of this Slurm job, if there are any, their next run."""
    if _has_others():
        folder = _work_folder(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{len(list(folder.glob('*.json')))}.json", work)


def dismiss(output_dir: Path) -> None:
    """Ends the other processes of this Slurm job, if there are any."""
    assign(output_dir, NO_MORE_WORK)


def assigned_work(output_dir: Path) -> Iterator[dict[str, Any]]:
    """The runs that the leader of this Slurm job assigns, until it dismisses its workers.

    Raises RuntimeError if the leader has been killed.
    """
    for number in itertools.count():
        path = _work_folder(output_dir) / f"{number}.json"
        while not path.is_file():
            time.sleep(0.2)
            if killed := _killed_process(output_dir, 0):
                raise killed
        work: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if work == NO_MORE_WORK:
            return
        yield work


def report_failure(output_dir: Path, error: Exception) -> None:
    """Tells the leader of this Slurm job why this process of it has failed."""
    reason = f"process {process_index()} of the run failed: {type(error).__name__}: {error}"
    write_json(_work_folder(output_dir) / FAILURE, {"reason": reason})


def _reported_failure(output_dir: Path) -> RuntimeError | None:
    found = read_json_or_none(_work_folder(output_dir) / FAILURE)
    return RuntimeError(found["reason"]) if found else _killed_process(output_dir)


def _work_folder(output_dir: Path) -> Path:
    """A folder for this Slurm job (and this attempt, if it was requeued) only."""
    names = [os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")]
    return output_dir / ".locks" / f"slurm-{'-'.join(names)}"


# --- the leader's side -------------------------------------------------------------------------


@contextmanager
def workers(trainer: Trainer, work: Mapping[str, Any], folder: Path) -> Iterator[Trainer]:
    """While the block runs, as many processes as `trainer` wants share `work`.

    Yields the trainer for the block: when it is first built, it waits for the workers. The output
    of those that are started here goes to `process-<n>.log` in `folder`. Raises RuntimeError with
    the reason of a worker that failed.
    """
    built = trainer(logger=False, enable_checkpointing=False)
    cluster = getattr(built.strategy, "cluster_environment", None)
    if built.world_size == 1 or cluster is None:
        yield trainer
    elif cluster.creates_processes_externally:
        assign(folder.parent, work)
        failure = partial(_reported_failure, folder.parent)
        with _explaining(failure), _process_group_closed():
            yield _joining(trainer, built.strategy, failure)
    elif built.num_nodes > 1:
        raise InputError(
            f"trainer.num_nodes={built.num_nodes} needs a launcher that starts processes on all "
            "nodes: hydra/launcher=slurm"
        )
    else:
        with (
            _process_group_closed(),
            _local_workers(built.world_size, work, folder) as started,
            _explaining(partial(_failure_of, started)),
        ):
            joining = _joining(trainer, built.strategy, partial(_failure_of, started))
            yield _waiting_for(started, joining)


def _waiting_for(started: Sequence[Worker], trainer: Trainer) -> Trainer:
    """`trainer`, which waits until all workers are ready before it is built for the first time.

    They may take longer than the time in which a process group must be formed.
    """
    waiting = list(started)

    def build(*args: Any, **options: Any) -> Any:
        while waiting:
            waiting.pop(0).wait_until_ready()
        return trainer(*args, **options)

    return build


@contextmanager
def _process_group_closed() -> Iterator[None]:
    """Leaves the process group at the end: the next job of a sweep has other processes."""
    try:
        yield
    finally:
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@dataclass(frozen=True, slots=True)
class Worker:
    """A process on this machine; `ready` is a pipe on which it reports that it is ready."""

    number: int
    process: subprocess.Popen[str]
    ready: int
    log: Path

    def wait_until_ready(self) -> None:
        """Raises RuntimeError if the worker ends before it is ready."""
        if not os.read(self.ready, 1):  # closed, because the process has ended
            self.process.wait()
            raise self.failure()

    def end(self) -> None:
        """Kills the process, whose work is done or in vain."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()
        os.close(self.ready)

    def failure(self) -> RuntimeError:
        """The signal that ended the worker, or what it wrote last."""
        code = self.process.returncode
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with {code}"
        if code < 0:
            reason = f"it was ended by {signal.Signals(-code).name}"
        return RuntimeError(f"process {self.number} of the run failed: {reason}")


def _joining(trainer: Trainer, strategy: Any, failure: Failure) -> Trainer:
    """`trainer`, which forms the process group before it is built for the first time.

    A thread waits for the other processes: the main one would ignore Ctrl-C meanwhile, and not
    notice that one of them has failed.
    """
    import torch

    errors: list[Exception] = []

    def form_group() -> None:
        try:
            strategy.setup_environment()
        except Exception as error:  # noqa: BLE001  (raised in the main thread)
            errors.append(error)

    def build(*args: Any, **options: Any) -> Any:
        if not torch.distributed.is_initialized():
            thread = threading.Thread(target=form_group, daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(0.2)
                if found := failure():
                    raise found
            for error in errors:
                raise error
        return trainer(*args, **options)

    return build


@contextmanager
def _explaining(failure: Failure) -> Iterator[None]:
    """Raises the failure of another process instead of the errors that it causes in this one."""
    try:
        yield
    except Exception as error:
        # A closed connection is noticed earlier than the end of its process.
        patience = 10 if isinstance(error.__cause__ or error, RuntimeError) else 0
        deadline = time.monotonic() + patience
        while not (found := failure()) and time.monotonic() < deadline:
            time.sleep(0.2)
        if found:
            raise found from error
        raise


@contextmanager
def _local_workers(
    processes: int, work: Mapping[str, Any], folder: Path
) -> Iterator[Sequence[Worker]]:
    group = _process_group(processes)
    started = [_start(number, group, work, folder) for number in range(1, processes)]
    try:
        with environment({**group, "LOCAL_RANK": "0"}):
            yield started
    finally:
        for worker in started:
            worker.end()


def _failure_of(started: Sequence[Worker]) -> RuntimeError | None:
    """Why a worker has ended; None while all are at work."""
    ended = [worker for worker in started if worker.process.poll() is not None]
    return ended[0].failure() if ended else None


def _process_group(processes: int) -> dict[str, str]:
    """The environment by which the processes find each other."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
    }


def _start(number: int, group: Mapping[str, str], work: Mapping[str, Any], folder: Path) -> Worker:
    ready, report = os.pipe()
    log = folder / f"process-{number}.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(report)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            pass_fds=[report],
            text=True,
            env={**os.environ, **group, "LOCAL_RANK": str(number)},
        )
    os.close(report)
    assert process.stdin
    # Left open: it closes when the leader ends, however that happens, and the worker ends with it.
    process.stdin.write(json.dumps(work) + "\n")
    process.stdin.flush()
    return Worker(number, process, ready, log)
