"""`python -m lamp_exp task=lamp4 retriever=bm25 k=4`: one experiment, or a sweep with `-m`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import config
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp as processes
from lamp_exp.sweeps import sweeper

if TYPE_CHECKING:
    from lamp_exp.experiment.run import Ran

config.register()
sweeper.register()
log = logging.getLogger("lamp_exp")
_failures: list[str] = []  # of this command


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="config")
def run(cfg: DictConfig) -> None:
    """Composes, builds, runs and records one experiment; prints its folder last.

    As a job of a sweep it prints nothing: the sweep's digest does.
    """
    from lamp_exp.sweeps.jobs import (
        carry_out,
        follow_others,
        look_ahead_alone,
        return_to_start,
        run_job,
    )

    set_up_logging()
    return_to_start()
    try:
        if processes.rank():
            return follow_others(cfg)
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return run_job(cfg)
        config.check_launcher(HydraConfig.get())
        if cfg.dry_run:
            return look_ahead_alone(cfg)
        config.draw_seed(cfg)
        tell(carry_out(cfg))
    except InputError as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001  (a fault of ours)
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error} (a run that had begun keeps this in its run.log)")


def tell(ran: Ran) -> None:
    """The numbers, and the run's folder as the last line."""
    from lamp_exp.results.display import show

    if ran.state == "there":
        log.info("this run is there already; rerun=true runs it again")
    show(ran.folder.result(), ran.baseline)
    print(ran.folder.path, flush=True)


def main() -> None:
    """The command: the user's mistakes end in one line each, and exit code 2."""
    _failures.clear()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and we say it in one line
    try:
        run()
    except sweeper.SomeFailed:
        sys.exit(2)  # the digest has told which
    except InputError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(config.explain(error))
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        _fail(config.explain(error))  # Hydra has no type of its own for `group=null`
    if _failures:
        sys.exit(2)


def set_up_logging() -> None:
    """Our own words and everybody's warnings to the terminal; a run's log takes more."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lamp_exp").setLevel(logging.INFO)
    for chatty in ("absl", "sentence_transformers", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # Lightning's advice wherever Slurm is installed; here hydra/launcher=slurm does that.
    warnings.filterwarnings("ignore", "The `srun` command is available")


def _fail(line: str) -> None:
    _failures.append(line)
    print(f"lamp_exp: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
