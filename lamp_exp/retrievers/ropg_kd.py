"""ROPG-KD: an encoder that learns the reader's preference among candidates by distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lamp_exp.errors import InputError
from lamp_exp.models.distillation import distillation_loss
from lamp_exp.retrievers.learned_encoder import LearnedEncoder


class RopgKD(LearnedEncoder):
    """Minimises KL(target ‖ encoder) over each question's own candidates.

    The target is softmax(reward / target_temperature). arXiv 2404.05970, section on knowledge
    distillation; this is the Kullback-Leibler divergence of the paper. The published code takes the
    softmax of the scores twice, so that its loss can hardly change. Questions whose rewards are all
    equal have no preference: they are counted, and not learned from.
    """

    def __init__(self, *, target_temperature: float, **options: Any) -> None:
        """`options` are those of `LearnedEncoder`."""
        super().__init__(**options)
        self.target_temperature = target_temperature

    def validate(self) -> None:
        if not self.target_temperature > 0:
            raise InputError(
                f"retriever.target_temperature={self.target_temperature} must be above 0"
            )
        super().validate()

    def objective(
        self, scores: torch.Tensor, rewards: torch.Tensor, real: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        return distillation_loss(scores, rewards / self.target_temperature, real)
