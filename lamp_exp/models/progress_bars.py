"""How Lightning's loops show progress: a bar where a person watches, else lines."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

from lamp_exp.progress import Report, announce, duration, is_watched


def progress_bar() -> ProgressBar:
    """What suits the terminal, or the file that the output goes to."""
    return Bars() if is_watched() else Lines()


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}{f' of {last}' if last and last > 0 else ''}"


class Bars(TQDMProgressBar):
    """Lightning's bars, with epochs counted from 1."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        super().on_train_epoch_start(trainer, *rest)
        self.train_progress_bar.set_description(_epoch(trainer))


class Lines(ProgressBar):
    """A line at each epoch, and one a minute, of the main process."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._report = Report("")
        self._start = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def _begin(self, label: str, total: float, done: int = 0) -> None:
        self._end()
        self._report = Report(label, int(total) if total < sys.maxsize else None, done)
        self._start = time.monotonic()
        if self._enabled:
            self._report.__enter__()

    def _end(self) -> None:
        self._report.__exit__()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The time left is that of all epochs."""
        self._first = trainer.current_epoch
        batches = self.total_train_batches
        self._begin("", batches * (trainer.max_epochs or 1), int(batches * self._first))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report.label = f"{_epoch(trainer)}, batches"

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._report.advance(1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells the epoch's loss and metrics, and the time that is left."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        epochs = trainer.current_epoch + 1 - self._first
        left = ((trainer.max_epochs or 0) - self._first - epochs) * self._seconds() / epochs
        if self._enabled:
            after = f"; about {duration(left)} left" if left > 0 else ""
            announce(f"{_epoch(trainer)}: {told}{after}")

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("predict, batches", sum(trainer.num_predict_batches))

    def on_predict_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._report.advance(1)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._end()
