"""Training of a network epoch by epoch: the best epoch is kept, and a killed process goes on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, TypeVar
from zipfile import is_zipfile

import torch

from lamp_exp.artefacts import WORK
from lamp_exp.errors import InputError
from lamp_exp.models.threads import limit_threads
from lamp_exp.progress import progress
from lamp_exp.storage.atomic import replacing, report_damage

STATE = f"{WORK}/state.pt"
CLIP = 1.0  # the largest norm of a gradient
Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class EpochOptions:
    """How a network learns: AdamW, with a rate that rises for `warmup` of the steps, then falls.

    `batch_questions` are learned from in one step.
    """

    epochs: int
    lr: float
    batch_questions: int
    warmup: float
    seed: int
    weight_decay: float = 0.0  # without, AdamW is Adam

    def validate(self, group: str) -> None:
        """Raises InputError for a value that is out of range; `group` names the options."""
        for option in ("epochs", "batch_questions"):
            value = getattr(self, option)
            if type(value) is not int or value < 1:
                raise InputError(f"{group}.{option}={value} must be a whole number from 1 on")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"{group}.lr={self.lr} must be above 0")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"{group}.warmup={self.warmup} must be between 0 and 1")


class EpochFit(ABC, Generic[Q]):
    """One training; all that an interruption needs is in `STATE` after each epoch.

    Epoch 0 is the network as it was. `criteria` are the values of `validate` by which epochs are
    compared, the first one first; higher is better, and of equal epochs the earliest is best.
    """

    criteria: ClassVar[tuple[str, ...]]

    def __init__(
        self, network: torch.nn.Module, train: Sequence[Q], options: EpochOptions, folder: Path
    ) -> None:
        """`train` are the questions to learn from; `folder` is the artefact's."""
        self.network, self.train, self.options, self.folder = network, train, options, folder
        self.device = next(network.parameters()).device
        self.on_gpu = self.device.type == "cuda"
        self.threads = limit_threads(network, self.device)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        self.steps_per_epoch = -(-len(train) // options.batch_questions)
        steps = self.steps_per_epoch * options.epochs
        warmup = math.ceil(options.warmup * steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _linear(step, warmup, steps)
        )
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    @abstractmethod
    def parts(self, batch: Sequence[Q]) -> Iterator[Sequence[Q]]:
        """The questions of a batch in parts that are small enough for the memory."""

    @abstractmethod
    def loss(self, questions: Sequence[Q], epoch: int) -> torch.Tensor:
        """The sum of the questions' losses."""

    @abstractmethod
    def validate(self) -> Mapping[str, float]:
        """How good the network is on the users who are held out, `criteria` included."""

    def run(self, label: str) -> dict[str, Any]:
        """Trains, leaves the best epoch's weights in the network, and returns facts."""
        self._resume()
        if not self.curve:
            self._finish_epoch({})
        epochs = range(len(self.curve), self.options.epochs + 1) if self.train else ()
        for epoch in progress(epochs, len(epochs), label):
            self._finish_epoch({"loss": self._epoch(epoch)})
        self.network.load_state_dict(self.best)
        return {
            "curve": self.curve,
            "chosen_epoch": self._chosen(),
            "steps_per_epoch": self.steps_per_epoch,
            "device": str(self.device),
            "threads": self.threads,
        }

    def _epoch(self, epoch: int) -> float:
        """One pass over the questions; returns the mean loss."""
        order = list(range(len(self.train)))
        Random(f"{self.options.seed}:{epoch}").shuffle(order)
        total, size = 0.0, self.options.batch_questions
        for start in range(0, len(order), size):
            batch = [self.train[number] for number in order[start : start + size]]
            for few in self.parts(batch):
                loss = self.loss(few, epoch) / len(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item() * len(batch)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
        return total / len(order)

    def _finish_epoch(self, facts: Mapping[str, float]) -> None:
        """Notes how good the network is on the held-out users, and stores the state."""
        self.curve.append({"epoch": len(self.curve), **facts, **self.validate()})
        if self._chosen() == self.curve[-1]["epoch"]:
            self.best = {n: v.detach().cpu().clone() for n, v in self.network.state_dict().items()}
        with replacing(self.folder / STATE) as file:
            torch.save(self._state(), file)

    def _chosen(self) -> int:
        best = max(
            self.curve, key=lambda row: (*map(row.__getitem__, self.criteria), -row["epoch"])
        )
        return int(best["epoch"])

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "curve": self.curve,
            "best": self.best,
        }

    def _resume(self) -> None:
        place = self.folder / STATE
        if place.is_file() and not is_zipfile(place):
            report_damage(place, "it was cut off, or has changed")
        if not place.is_file():
            return
        state = torch.load(place, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.curve, self.best = state["curve"], state["best"]


def _linear(step: int, warmup: int, steps: int) -> float:
    """The share of the learning rate at a step: it rises for `warmup` steps, then falls to 0."""
    if step < warmup:
        return step / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
