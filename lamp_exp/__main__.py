"""`python -m lamp_exp task=lamp4 retriever=bm25 k=4`: one experiment, or a sweep with `-m`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import config
from lamp_exp.types import InputError

if TYPE_CHECKING:
    from lamp_exp.run import Ran

config.register()
log = logging.getLogger("lamp_exp")
_failures: list[str] = []  # of this command's jobs


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="config")
def run(cfg: DictConfig) -> None:
    """Composes, builds, runs and records one experiment; prints its folder last."""
    from lamp_exp.cache import DiskMap
    from lamp_exp.run import run_plan

    set_up_logging()
    try:
        config.check_launcher(HydraConfig.get())
        config.draw_seed(cfg)
        output_dir = made_folder(cfg.output_dir)
        answers = DiskMap(output_dir / ".cache" / "answers.sqlite")
        plan = config.make_plan(cfg, dict(HydraConfig.get().runtime.choices), answers)
        tell(run_plan(plan, output_dir, rerun=cfg.rerun))
    except InputError as error:
        _fail(str(error))  # the other jobs of a sweep go on
    except Exception as error:  # noqa: BLE001  (after a fault of ours, they go on as well)
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error} (a run that had begun keeps this in its run.log)")


def tell(ran: Ran) -> None:
    """The numbers, and the run's folder as the last line."""
    from lamp_exp.show import show

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
    except (HydraException, OmegaConfBaseException) as error:
        _fail(config.explain(error))
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        _fail(config.explain(error))  # Hydra has no type of its own for `group=null`
    if _failures:
        sys.exit(2)


def made_folder(name: str) -> Path:
    """The folder for what is written, which must be possible before any work."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir={name} cannot be made ({error})") from error
    return folder


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
