"""Weights & Biases: online with a key, offline without one."""

from __future__ import annotations

import os
from typing import Any

from pytorch_lightning.loggers import WandbLogger


def wandb_logger(save_dir: str, project: str, entity: str | None = None) -> Any:
    """A logger that never asks for a login: without WANDB_API_KEY the run stays on disk."""
    offline = not os.environ.get("WANDB_API_KEY")
    return WandbLogger(save_dir=save_dir, project=project, entity=entity, offline=offline)
