"""`python -m lamp_exp.experiment.ddp_worker`: a worker process of a run, started by `ddp`.

It reads from its standard input, in one line of JSON, the settings of the run and its folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from lamp_exp import config
from lamp_exp.experiment.stages import follow, gather


def main() -> None:
    """Follows until the work is done, or the leader is gone."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    follow_run(told)
    threading.Event().wait()  # the leader ends it, when it needs the others no more


def follow_run(told: dict[str, Any]) -> None:
    """Takes part in the run of that folder, whose settings are told."""
    plan = config.plan_of(told["settings"], told["choices"])
    follow(plan, gather(plan), Path(told["folder"]))


def _end_with_the_leader() -> None:
    sys.stdin.read()  # returns when the leader's end is closed
    os._exit(1)


if __name__ == "__main__":
    main()
