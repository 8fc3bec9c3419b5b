"""Where training curves and final metrics go, besides a run's own record.

Each is a context: inside it, there is a `RunLog`; after it, nothing is left open, also when the
run failed. One job of a sweep is one run of W&B.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from lamp_exp.types import About, RunLog


@dataclass(frozen=True, slots=True)
class Metrics:
    """Adds the final metrics to a Lightning logger's curves."""

    lightning: Logger

    def finished(self, result: Mapping[str, Any]) -> None:
        """As `final/<metric>`."""
        if result["metrics"]:
            self.lightning.log_metrics({f"final/{n}": v for n, v in result["metrics"].items()})
            self.lightning.save()


@contextmanager
def csv(about: About) -> Iterator[RunLog]:
    """`training/metrics.csv` in the run's folder."""
    yield Metrics(CSVLogger(about.folder, name="", version="training"))


@contextmanager
def wandb(about: About, project: str, entity: str | None = None) -> Iterator[RunLog]:
    """Weights & Biases: online with WANDB_API_KEY; without, it stays on disk and never asks."""
    import wandb as client
    from pytorch_lightning.loggers import WandbLogger

    offline = not os.environ.get("WANDB_API_KEY")
    quiet: dict[str, Any] = {"settings": client.Settings(silent=True)}
    logger = WandbLogger(
        save_dir=about.folder,
        project=project,
        entity=entity,
        offline=offline,
        reinit=True,
        **quiet,
    )
    try:
        yield Metrics(logger)
    except BaseException:
        client.finish(exit_code=1)
        raise
    client.finish()
