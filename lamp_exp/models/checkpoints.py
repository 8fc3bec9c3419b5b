"""The parts of fine-tuning: checkpoints, adapters, and what is refused before any work."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from transformers import PreTrainedModel

from lamp_exp.contracts import Metric
from lamp_exp.errors import InputError, first_line
from lamp_exp.storage.atomic import flush_tree, read_json_or_none, report_damage, write_json
from lamp_exp.values import TrainingOptions, TrainingSet

WEIGHTS = "weights"  # Lightning's own checkpoints, while it trains
LAST, BEST = f"{WEIGHTS}/last.ckpt", f"{WEIGHTS}/best.ckpt"
CHECKPOINT = "checkpoint"  # the folder of the best weights, in transformers' format
LEARNED = "training.json"  # what fitting told, written when it was over


def callbacks(training_set: TrainingSet, patience: int | None) -> list[Callback]:
    """Keeps the best epoch and the last one, in this order: the last remembers the best."""
    metric, mode = training_set.main_metric.name, training_set.main_metric.direction
    stopping = [] if patience is None else [EarlyStopping(metric, mode=mode, patience=patience)]
    return [*stopping, best_checkpoint(training_set), _last_checkpoint(training_set)]


def best_checkpoint(training_set: TrainingSet) -> ModelCheckpoint:
    """Keeps the weights of the epoch that is best on dev; its name holds no `=`."""
    metric, mode = training_set.main_metric.name, training_set.main_metric.direction
    return ModelCheckpoint(
        dirpath=training_set.folder / WEIGHTS,
        filename="best",
        monitor=metric,
        mode=mode,
        save_weights_only=True,
        save_on_train_epoch_end=False,  # but when dev has been answered, before `last` is kept
        enable_version_counter=False,
    )


def _last_checkpoint(training_set: TrainingSet) -> ModelCheckpoint:
    """After each epoch, all that is needed to go on from there."""
    return ModelCheckpoint(
        dirpath=training_set.folder / WEIGHTS,
        filename="last",
        save_on_train_epoch_end=True,
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
    """Whether training, before it was broken off, had already stopped for want of progress."""
    stopping = [call for call in trainer.callbacks if isinstance(call, EarlyStopping)]  # type: ignore[attr-defined]
    return any(call.wait_count >= call.patience for call in stopping)


def learned(folder: Path) -> dict[str, Any] | None:
    """What a finished training in this folder told, or None."""
    report: dict[str, Any] | None = read_json_or_none(folder / LEARNED)
    return report if (folder / CHECKPOINT).is_dir() else None


def write_learned(folder: Path, report: Mapping[str, Any]) -> None:
    """Written once the disk holds the whole checkpoint."""
    flush_tree(folder / CHECKPOINT)
    write_json(folder / LEARNED, report)


def best_epoch(history: Sequence[Mapping[str, float]], main_metric: Metric) -> int | None:
    """The first of the best epochs, counted from 1; None if none has a score."""
    metric, mode = main_metric.name, main_metric.direction
    pick = max if mode == "max" else min
    scored = [n for n, epoch in enumerate(history) if not math.isnan(epoch[metric])]
    return 1 + pick(scored, key=lambda n: history[n][metric]) if scored else None


def with_lora(network: PreTrainedModel, training: TrainingOptions) -> Any:
    """The network with low-rank adapters on all its linear layers."""
    peft = need_peft()
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules="all-linear",
    )
    return peft.get_peft_model(network, config)


def need_peft() -> Any:
    """The package, or one line that says how to get it."""
    try:
        import peft
    except ImportError as error:
        raise InputError("training.lora_rank needs peft: pip install 'lamp-exp[lora]'") from error
    return peft


def built_trainer(trainer: Callable[..., pl.Trainer]) -> pl.Trainer:
    """Lightning says what is wrong with its options only once it is built."""
    try:
        return trainer(logger=False, enable_checkpointing=False, max_epochs=1)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"trainer: {first_line(error)}") from error
