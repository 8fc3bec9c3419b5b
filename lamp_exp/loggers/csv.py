"""Where training curves and final metrics go, besides a run's own record.

Each is a context: inside it, there is a `RunLogger`; after it, nothing is left open, also when the
run failed. One job of a sweep is one run of W&B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, WandbLogger

from lamp_exp.contracts import RunLogger
from lamp_exp.errors import InputError
from lamp_exp.values import RunInfo
from lamp_exp.wandb import session as run
from lamp_exp.wandb import upload as results


@dataclass(frozen=True, slots=True)
class CsvRunLogger(RunLogger):
    """Adds the final metrics to the curves on disk."""

    logger: CSVLogger

    @property
    def lightning_loggers(self) -> Any:
        """Lightning's own logger of csv files."""
        return self.logger

    def log_result(self, result: Mapping[str, Any]) -> None:
        """As `final/<metric>`."""
        if result["metrics"]:
            self.logger.log_metrics({f"final/{n}": v for n, v in result["metrics"].items()})
            self.logger.save()


class GuardedLogger(WandbLogger):
    """Lightning's logger for W&B, which cannot stop the training; settings are logged once."""

    def __init__(self, session: run.Session) -> None:
        super().__init__(experiment=session.run)
        self.session = session

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lost, and told once, if W&B fails."""
        write = super().log_metrics
        self.session.attempt("while it took a metric", lambda: write(metrics, step))

    def log_hyperparams(self, params: Any, *more: Any, **other: Any) -> None:
        """Nothing: the settings are known, and a module's own may hold paths."""


@dataclass(frozen=True, slots=True)
class WandbRunLogger(RunLogger):
    """Curves on disk and in W&B."""

    local: CsvRunLogger
    session: run.Session
    folder: Path
    options: results.Options

    @property
    def lightning_loggers(self) -> list[Any]:
        """Both of Lightning's loggers."""
        return [self.local.logger, GuardedLogger(self.session)]

    def log_result(self, result: Mapping[str, Any]) -> None:
        """W&B comes last: what fails in it has lost nothing."""
        self.local.log_result(result)

        def send() -> None:
            results.send(self.session, result, self.folder, self.options)

        self.session.attempt("while it took the results", send)


@contextmanager
def csv(about: RunInfo) -> Iterator[RunLogger]:
    """`training/metrics.csv` in the run's folder; curves of a run cut off before are kept."""
    place = about.folder / "training"
    if place.is_dir() and any(place.iterdir()):
        kept = (about.folder / f"training.{n}" for n in range(1, 1000))
        place.rename(next(folder for folder in kept if not folder.exists()))
    yield CsvRunLogger(CSVLogger(about.folder, name="", version="training"))


@contextmanager
def wandb(
    about: RunInfo, project: str, entity: str | None, table_rows: int, artifact: bool
) -> Iterator[RunLogger]:
    """Weights & Biases, and `training/metrics.csv`; offline unless there is WANDB_API_KEY."""
    if table_rows < 0:
        raise InputError(f"logger.table_rows={table_rows} must be at least 0")
    options = results.Options(table_rows, artifact)
    with csv(about) as local, run.session(about, project, entity) as session:
        assert isinstance(local, CsvRunLogger)
        yield WandbRunLogger(local, session, about.folder, options) if session else local
