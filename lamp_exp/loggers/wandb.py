"""`logger=wandb`: Weights & Biases, besides the curves in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from lamp_exp.contracts import RunLogger
from lamp_exp.errors import InputError
from lamp_exp.loggers.csv import CsvRunLogger, csv_logger
from lamp_exp.results.schema import RunResult
from lamp_exp.values import RunInfo
from lamp_exp.wandb.session import Session, open_session
from lamp_exp.wandb.upload import UploadOptions, upload


class GuardedLogger(WandbLogger):
    """Lightning's logger for W&B, whose failures do not stop the training."""

    def __init__(self, session: Session) -> None:
        super().__init__(experiment=session.run)
        self.session = session

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        log = super().log_metrics
        self.session.attempt("to log a metric", lambda: log(metrics, step))

    def log_hyperparams(self, params: Any, *more: Any, **other: Any) -> None:
        """Does nothing: the run's settings are logged already, and a module's may hold paths."""


@dataclass(frozen=True, slots=True)
class WandbRunLogger(RunLogger):
    """Logs to the run's folder and to W&B."""

    local: CsvRunLogger
    session: Session
    folder: Path
    options: UploadOptions

    @property
    def lightning_loggers(self) -> list[Logger]:
        return [self.local.logger, GuardedLogger(self.session)]

    def log_result(self, result: Mapping[str, Any]) -> None:
        self.local.log_result(result)
        record = RunResult.from_json(result)
        self.session.attempt(
            "to upload the results",
            lambda: upload(self.session, record, self.folder, self.options),
        )


@contextmanager
def wandb_logger(
    info: RunInfo, project: str, entity: str | None, table_rows: int, artifact: bool
) -> Iterator[RunLogger]:
    """Logs one run of W&B, offline unless WANDB_API_KEY is set; see conf/logger/wandb.yaml.

    Where W&B cannot be used, only the local logger remains. Raises InputError for a negative
    `table_rows`.
    """
    if table_rows < 0:
        raise InputError(f"logger.table_rows={table_rows} must be at least 0")
    with csv_logger(info) as local, open_session(info, project, entity) as session:
        options = UploadOptions(table_rows, artifact)
        yield WandbRunLogger(local, session, info.folder, options) if session else local
