"""Several processes that share one run's model work: one leads, the others follow.

The leader retrieves, records and shows as ever. A follower makes the same prompts, and the same
calls of the model, whose Lightning trainers meet (PyTorch's distributed data parallel): nothing
else. On one machine the leader starts its followers and tells them on their standard input what
to follow. Where Slurm has started all processes, they are told by files of the output folder.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lamp_exp.environment import environment
from lamp_exp.errors import InputError
from lamp_exp.storage.atomic import write_json

RANK = "SLURM_PROCID"  # the number of this process among those of its job
END: dict[str, Any] = {}  # told when there is nothing more to follow


def rank() -> int:
    """The number of this process among those that Slurm has started for one job; 0 leads.

    Raises InputError under torchrun, which is not needed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("start lamp_exp without torchrun: trainer=ddp starts its own processes")
    return int(os.environ.get(RANK, 0))


def tell(output_dir: Path, task: Mapping[str, Any]) -> None:
    """The leader's word to the other processes of its Slurm job, if there are any."""
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        board = _noticeboard(output_dir)
        board.mkdir(parents=True, exist_ok=True)
        number = len(list(board.glob("*.json")))
        write_json(board / f"{number}.json", task)


def tasks(output_dir: Path) -> Iterator[dict[str, Any]]:
    """What the leader of this Slurm job tells the others to follow, run after run."""
    for number in itertools.count():
        path = _noticeboard(output_dir) / f"{number}.json"
        while not path.is_file():
            time.sleep(0.2)
        task: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if task == END:
            return
        yield task


def _noticeboard(output_dir: Path) -> Path:
    """A folder of this Slurm job (and of its try, if it was requeued) alone."""
    words = [os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")]
    return output_dir / ".locks" / f"slurm-{'-'.join(words)}"


@contextmanager
def followed(trainer: Callable[..., Any], task: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Within it, as many processes as `trainer` wants work on `task`, which says what to follow.

    Words of processes that were started here go to `process-<n>.log` in `folder`. Raises what
    the leader raised, or that a follower failed.
    """
    built = trainer(logger=False, enable_checkpointing=False)
    cluster = getattr(built.strategy, "cluster_environment", None)
    if built.world_size == 1 or cluster is None:
        yield
    elif cluster.creates_processes_externally:
        tell(folder.parent, task)
        with _parting():
            yield
    elif built.num_nodes > 1:
        raise InputError(
            f"trainer.num_nodes={built.num_nodes} needs a launcher that starts processes on all "
            "nodes: hydra/launcher=slurm"
        )
    else:
        with _parting(), _started(built.world_size, task, folder):
            yield


@contextmanager
def _parting() -> Iterator[None]:
    """The next job of a sweep meets other processes, elsewhere."""
    try:
        yield
    finally:
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@contextmanager
def _started(count: int, task: Mapping[str, Any], folder: Path) -> Iterator[None]:
    meeting = _meeting(count)
    followers = [_start(number, meeting, task, folder) for number in range(1, count)]
    try:
        with environment({**meeting, "LOCAL_RANK": "0"}):
            yield
    except Exception as error:
        _blame(followers, folder, error)
        raise
    finally:
        for follower in followers:
            follower.kill()  # all is done, or all is lost
            follower.wait()


def _meeting(count: int) -> dict[str, str]:
    """Where the processes find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
    }


def _start(
    number: int, meeting: Mapping[str, str], task: Mapping[str, Any], folder: Path
) -> subprocess.Popen[str]:
    with _log(folder, number).open("w", encoding="utf-8") as log:
        follower = subprocess.Popen(
            [sys.executable, "-m", "lamp_exp.experiment.ddp_worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, **meeting, "LOCAL_RANK": str(number)},
        )
    assert follower.stdin
    # Left open: it closes when this process ends, however it ends, and the follower ends with it.
    follower.stdin.write(json.dumps(task) + "\n")
    follower.stdin.flush()
    return follower


def _log(folder: Path, number: int) -> Path:
    return folder / f"process-{number}.log"


def _blame(followers: list[subprocess.Popen[str]], folder: Path, error: Exception) -> None:
    """Where a follower failed, the leader's own error only says that it is gone."""
    for number, follower in enumerate(followers, start=1):
        if follower.poll():
            words = _log(folder, number).read_text(encoding="utf-8").strip().splitlines()
            last = words[-1] if words else f"it ended with {follower.returncode}"
            raise RuntimeError(f"process {number} of the run failed: {last}") from error
