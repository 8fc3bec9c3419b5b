"""Where training curves and final metrics go, besides a run's own record.

Each is a context: inside it, there is a Lightning logger; after it, nothing is left open, also
when the run failed. One job of a sweep is one run of W&B.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger


@contextmanager
def csv(save_dir: str) -> Iterator[Logger]:
    """`training/metrics.csv` in the run's folder."""
    yield CSVLogger(save_dir, name="", version="training")


@contextmanager
def wandb(save_dir: str, project: str, entity: str | None = None) -> Iterator[Logger]:
    """Weights & Biases: online with WANDB_API_KEY; without, it stays on disk and never asks."""
    import wandb as client
    from pytorch_lightning.loggers import WandbLogger

    offline = not os.environ.get("WANDB_API_KEY")
    quiet: dict[str, Any] = {"settings": client.Settings(silent=True)}
    logger = WandbLogger(
        save_dir=save_dir, project=project, entity=entity, offline=offline, reinit=True, **quiet
    )
    try:
        yield logger
    except BaseException:
        client.finish(exit_code=1)
        raise
    client.finish()
