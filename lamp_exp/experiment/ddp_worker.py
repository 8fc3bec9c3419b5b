"""`python -m lamp_exp.experiment.ddp_worker`: a process that shares a run's model work.

`ddp` starts it. It reads from its standard input, in one line of JSON, the settings of the run,
the names of its choices, and its folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamp_exp import config
from lamp_exp.experiment import ddp
from lamp_exp.experiment.experiment import Configuration
from lamp_exp.experiment.launch import make_output_dir
from lamp_exp.experiment.stages import load_parts, work_along


def main() -> None:
    """Works along until the leader is done, or gone."""
    work: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    share_work(work)
    threading.Event().wait()  # the leader ends this process when it needs no other


def work_for_leader(output_dir: str) -> None:
    """All runs of a Slurm job that another process leads."""
    for work in ddp.tasks(make_output_dir(output_dir)):
        share_work(work)


def share_work(work: Mapping[str, Any]) -> None:
    """Takes part in the run that `work` describes."""
    experiment = config.experiment_from_settings(work["settings"])
    configuration = Configuration(work["choices"], work["settings"], {}, {})
    work_along(experiment, configuration, load_parts(experiment), Path(work["folder"]))


def _end_with_the_leader() -> None:
    sys.stdin.read()  # returns when the leader's end is closed
    os._exit(1)


if __name__ == "__main__":
    main()
