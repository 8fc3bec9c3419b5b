"""The loss of a network that learns a preference among candidates by distillation."""

from __future__ import annotations

import torch


def distillation_loss(
    scores: torch.Tensor, target_logits: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """The sum over questions of KL(softmax(target_logits) ‖ softmax(scores)).

    All have shape (questions, candidates); candidates that are not `real` have no probability.
    """
    log_p = scores.masked_fill(~real, -torch.inf).log_softmax(dim=-1)
    log_target = target_logits.masked_fill(~real, -torch.inf).log_softmax(dim=-1)
    difference = (log_target - log_p).masked_fill(~real, 0.0)
    return (log_target.exp() * difference).sum()
