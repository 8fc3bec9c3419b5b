"""`logger=csv`: training curves and final metrics in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.loggers import CSVLogger

from lamp_exp.contracts import RunLogger
from lamp_exp.values import RunInfo


@dataclass(frozen=True, slots=True)
class CsvRunLogger(RunLogger):
    """Writes Lightning's csv file, and the final metrics as its last row."""

    logger: CSVLogger

    @property
    def lightning_loggers(self) -> CSVLogger:
        return self.logger

    def log_result(self, result: Mapping[str, Any]) -> None:
        if result["metrics"]:
            self.logger.log_metrics({f"final/{n}": v for n, v in result["metrics"].items()})
            self.logger.save()


@contextmanager
def csv_logger(info: RunInfo) -> Iterator[CsvRunLogger]:
    """Logs to `training/metrics.csv`; the curves of an interrupted attempt move to `training.N`."""
    folder = info.folder / "training"
    if folder.is_dir() and any(folder.iterdir()):
        earlier = (info.folder / f"training.{n}" for n in range(1, 1000))
        folder.rename(next(path for path in earlier if not path.exists()))
    yield CsvRunLogger(CSVLogger(info.folder, name="", version="training"))
