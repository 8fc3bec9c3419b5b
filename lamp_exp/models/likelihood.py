"""The likelihood of a known answer to each of several prompts, in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lamp_exp.models.batches import Batch, batches_in_order
from lamp_exp.models.threads import limit_threads, threads_restored
from lamp_exp.values import Prompt

if TYPE_CHECKING:
    from lamp_exp.models.prediction import PredictionModel

Group = tuple[Sequence[Prompt], str]  # the prompts of a question, and the answer


class LikelihoodPass(pl.LightningModule):
    """Reads the prompts of one question as a batch.

    So the values of a question do not depend on the others, which would change the rounding.
    """

    def __init__(self, model: PredictionModel, groups: Sequence[Group]) -> None:
        super().__init__()
        self.model = model
        self.groups = groups

    def configure_model(self) -> None:
        self.model.configure_model()

    def predict_dataloader(self) -> DataLoader[Any]:
        return batches_in_order(self.groups, 1, self._collate)

    def _collate(self, groups: Sequence[Group]) -> Batch:
        ((prompts, answer),) = groups
        limit = self.model.settings.max_new_tokens
        tokens = self.model.target_ids(answer)[:limit]
        return {**self.model.collate(prompts), "answer": tokens}

    def on_predict_start(self) -> None:
        limit_threads(self.model.net, self.device)

    def predict_step(self, batch: Batch, index: int) -> list[float]:
        answer = batch.pop("answer")
        values: list[float] = self.model.likelihoods(batch, [answer])[:, 0].tolist()
        return values


def log_likelihoods(
    model: PredictionModel, groups: Sequence[Group], trainer: Callable[..., pl.Trainer]
) -> list[list[float]]:
    """The log likelihood of each group's answer after each of its prompts."""
    if not groups:
        return []
    module = LikelihoodPass(model, groups)
    with threads_restored():
        values: Any = trainer(enable_checkpointing=False).predict(module)
    return list(values)
