"""`python -m lamp_exp task=lamp4 retriever=bm25 k=4`: one experiment, or a sweep with `-m`."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lamp_exp import composition, config, config_checks, hydra_messages, usage
from lamp_exp.conf_files import conf_folder
from lamp_exp.environment import ignore_known_warnings, is_interrupt, prepare_process
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.sweeps import sweeper

if TYPE_CHECKING:
    from lamp_exp.experiment.run import FinishedRun

composition.register()
sweeper.register()
log = logging.getLogger("lamp_exp")
SUMMARIES_SHOWN = 3
INTERRUPTED = 130  # the exit code of a command that was ended by Ctrl-C
GO_ON = "interrupted: the same command goes on from here"
FLAGS_WITHOUT_VALUE = ("-m", "--multirun", "-r", "--run", "--resolve", "-h", "--help")  # of Hydra
_exit_codes: list[int] = []  # of this command's failures


@hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")
def run(cfg: DictConfig) -> float | None:
    """Runs and records one experiment; prints its folder last.

    A job of a sweep prints nothing, since the sweep's digest does; it returns what its sweeper
    needs.
    """
    set_up_logging()
    hydra_config = HydraConfig.get()
    os.chdir(hydra_config.runtime.cwd)  # paths are relative to where the command was given
    if hydra_config.mode is RunMode.MULTIRUN and not ddp.process_index():
        from lamp_exp.sweeps.jobs import run_multirun_job

        return run_multirun_job(cfg)
    try:
        _run(cfg)
    except InputError as error:
        _fail(str(error))
    except (KeyboardInterrupt, SystemExit) as error:
        if not is_interrupt(error):
            raise
        _fail(GO_ON, INTERRUPTED)
    except Exception as error:  # noqa: BLE001  (a fault of ours)
        if _is_full(error):
            _fail(f"{error}: the same command goes on once there is room")
            return None
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error} (a run that had begun keeps this in its run.log)")
    return None


def _run(cfg: DictConfig) -> None:
    if ddp.process_index():
        from lamp_exp.experiment.ddp_worker import work_for_leader

        work_for_leader(cfg.output_dir)
        return
    config_checks.check_launcher(HydraConfig.get())
    if cfg.dry_run:
        from lamp_exp.sweeps.dry_run import show_dry_run_alone

        show_dry_run_alone(cfg)
        return
    composition.draw_seed(cfg)
    show(config.run_composed(cfg, HydraConfig.get()))


def show(finished: FinishedRun) -> None:
    """Prints the numbers, and the run's folder as the last line."""
    from lamp_exp.results import display

    if finished.state == "there":
        log.info("this run is finished already; rerun=true runs it again")
    display.show(finished.folder.read(), finished.baseline, finished.folder.first_output())
    display.show_summaries(finished.folder.first_summaries(SUMMARIES_SHOWN))
    print(finished.folder.path, flush=True)


def main() -> None:
    """The command: a user's mistake ends in one line, and exit code 2."""
    _exit_codes.clear()
    prepare_process()
    try:
        if usage.show_usage(sys.argv[1:]):
            return
    except InputError as error:
        _fail(str(error))
        sys.exit(max(_exit_codes))
    sys.argv[1:] = options_first(sys.argv[1:])
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and we say it in one line
    try:
        with hydra_messages.explained():
            run()
    except sweeper.JobsFailed:
        sys.exit(2)  # the digest has named them
    except sweeper.Interrupted:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:  # before a sweep's jobs, or in a search
        _fail(GO_ON, INTERRUPTED)
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        if not _is_full(error):
            raise
        _fail(f"{error}: the same command goes on once there is room")
    if _exit_codes:
        sys.exit(max(_exit_codes))


def options_first(words: Sequence[str]) -> list[str]:
    """The words of a command with options (`k=4`) before flags, which Hydra does not let mix."""
    options: list[str] = []
    flags: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before.startswith("-") and before not in FLAGS_WITHOUT_VALUE
        is_option = word.startswith("~") or ("=" in word and not word.startswith("-"))
        (options if is_option and not is_value else flags).append(word)
    return [*options, *flags]


def _is_full(error: Exception) -> bool:
    """Whether a disk is full, or the user's share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def set_up_logging() -> None:
    """Sends the project's messages and all warnings to the terminal."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lamp_exp").setLevel(logging.INFO)
    for chatty in ("absl", "sentence_transformers", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    ignore_known_warnings()


def _fail(line: str, exit_code: int = 2) -> None:
    _exit_codes.append(exit_code)
    print(f"lamp_exp: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
