"""`python -m lamp_exp.experiment.ddp_worker PIPE`: a worker of a run, which `ddp` starts.

It reads from its standard input, in one line of JSON, the settings of the run, the names of its
choices, and its folder. On the inherited pipe it reports that it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamp_exp import config
from lamp_exp.environment import ignore_known_warnings
from lamp_exp.experiment import ddp
from lamp_exp.experiment.experiment import Configuration
from lamp_exp.experiment.launch import make_output_dir
from lamp_exp.experiment.stages import load_parts, work_along


def main() -> None:
    """Works along until the leader ends."""
    ignore_known_warnings()
    pipe = int(sys.argv[1])
    work: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_leader, daemon=True).start()
    share_work(work, lambda: os.write(pipe, b"r"))
    threading.Event().wait()  # the leader ends this process when it needs no other


def work_for_leader(output_dir: str) -> None:
    """All runs that the leader of a Slurm job assigns."""
    folder = make_output_dir(output_dir)
    with ddp.alive(folder):
        for work in ddp.assigned_work(folder):
            try:
                share_work(work)
            except Exception as error:
                ddp.report_failure(folder, error)
                raise


def share_work(work: Mapping[str, Any], report: Callable[[], object] = lambda: None) -> None:
    """Takes part in the run that `work` describes; calls `report` when the model's work begins."""
    experiment = config.experiment_from_settings(work["settings"])
    configuration = Configuration(work["choices"], work["settings"], {}, {})
    parts = load_parts(experiment)
    assert experiment.trainer, "only the work of a model is shared"
    trainer = experiment.trainer

    def build(**options: Any) -> Any:
        report()
        return trainer.build(**options)

    experiment = replace(experiment, trainer=replace(trainer, build=build))
    work_along(experiment, configuration, parts, Path(work["folder"]))


def _end_with_leader() -> None:
    sys.stdin.read()  # returns when the leader's end is closed
    os._exit(1)


if __name__ == "__main__":
    main()
