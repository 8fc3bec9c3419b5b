"""The files of fine-tuning: Lightning's checkpoints while it trains, then the best weights."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from lamp_exp.contracts import Metric
from lamp_exp.storage.atomic import flush_tree, read_json_or_none, report_damage, write_json
from lamp_exp.values import TrainingSet

WEIGHTS = "weights"  # Lightning's own checkpoints, while it trains
LAST, BEST = f"{WEIGHTS}/last.ckpt", f"{WEIGHTS}/best.ckpt"
CHECKPOINT = "checkpoint"  # the folder of the best weights, in transformers' format
FACTS = "training.json"  # what `fit` returned; written last


def callbacks(data: TrainingSet, patience: int | None) -> list[Callback]:
    """Keeps the best epoch and the last one, in this order: the last remembers the best."""
    metric = data.main_metric
    stopping = []
    if patience is not None:
        stopping = [EarlyStopping(metric.name, mode=metric.direction, patience=patience)]
    last = ModelCheckpoint(
        dirpath=data.folder / WEIGHTS,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [*stopping, best_checkpoint(data), last]


def best_checkpoint(data: TrainingSet) -> ModelCheckpoint:
    """Keeps the weights of the best epoch; its file's name holds no `=`."""
    return ModelCheckpoint(
        dirpath=data.folder / WEIGHTS,
        filename="best",
        monitor=data.main_metric.name,
        mode=data.main_metric.direction,
        save_weights_only=True,
        save_on_train_epoch_end=False,  # but after validation, before `last` is saved
        enable_version_counter=False,
    )


def resumable(folder: Path) -> Path | None:
    """Where an interrupted training resumes; None if it never began or its files are damaged."""
    files = [path for path in (folder / LAST, folder / BEST) if path.is_file()]
    damaged = [path for path in files if not _is_archive(path)]
    for path in damaged:
        report_damage(path, "it was cut off, or has changed")
    return folder / LAST if folder / LAST in files and not damaged else None


def _is_archive(path: Path) -> bool:
    """Whether a file of PyTorch's, which is a zip archive, is complete and its checksums agree."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def stopped_early(trainer: pl.Trainer) -> bool:
    """Whether training that is resumed had already stopped for lack of progress."""
    stopping = [call for call in trainer.callbacks if isinstance(call, EarlyStopping)]  # type: ignore[attr-defined]
    return any(call.wait_count >= call.patience for call in stopping)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What a finished training in this folder returned; None if there is none."""
    facts: dict[str, Any] | None = read_json_or_none(folder / FACTS)
    return facts if (folder / CHECKPOINT).is_dir() else None


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Written once the disk holds the whole checkpoint."""
    flush_tree(folder / CHECKPOINT)
    write_json(folder / FACTS, facts)


def best_epoch(history: Sequence[Mapping[str, float]], metric: Metric) -> int | None:
    """The first of the best epochs, counted from 1; None if none has a score."""
    best = max if metric.higher_is_better else min
    scored = [n for n, epoch in enumerate(history) if not math.isnan(epoch[metric.name])]
    return 1 + best(scored, key=lambda n: history[n][metric.name]) if scored else None
