"""The digest of a search by Hydra's sweeper `optuna`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lamp_exp.results.folder import STATUS, RunFolder
from lamp_exp.results.schema import RunResult
from lamp_exp.sweeps.status import read_status
from lamp_exp.wording import count_of

RESULTS = "optimization_results.yaml"  # which the sweeper writes last


class ShowBest(Callback):
    """Prints the best values of a search that has ended, their run, and the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra in the command's own process, whatever launcher ran the trials."""
        folder = Path(config.hydra.sweep.dir)
        if config.hydra.runtime.choices["hydra/sweeper"] != "optuna":
            return
        best = OmegaConf.load(folder / RESULTS)
        runs = _finished_runs(folder)
        trials = count_of(len(runs), "trial")
        for path, result in runs.items():
            if result.main_value == best.best_value:
                values = " ".join(f"{name}={value}" for name, value in best.best_params.items())
                score = f"{result.main_metric} {best.best_value:.4f}"
                print(f"best of {trials}: {score} on {result.part} with {values}")
                print(path)
                break
        print(folder, flush=True)


def _finished_runs(sweep: Path) -> dict[Path, RunResult]:
    """The runs of the trials, in their order."""
    statuses = {path.parent: read_status(path.parent) for path in sweep.glob(f"[0-9]*/{STATUS}")}
    ended = [statuses[trial] for trial in sorted(statuses, key=lambda trial: int(trial.name))]
    runs = [Path(one.run) for one in ended if one is not None and one.has_result and one.run]
    return {run: RunFolder(run).read() for run in runs}
