"""ROPG-RL: an encoder that learns from the reward of an item that it draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lamp_exp.retrievers.learned_encoder import LearnedEncoder


class RopgRL(LearnedEncoder):
    """REINFORCE with the first item of the initial ranking as the baseline.

    One item is drawn for each question and pass from the encoder's own probabilities; the loss is
    -(reward of the item - reward of the base retriever's first item) · log p(item). arXiv
    2404.05970, section on reinforcement learning. What is drawn depends on the seed, the epoch and
    the question alone.
    """

    def objective(
        self, scores: torch.Tensor, rewards: torch.Tensor, real: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        log_p = scores.masked_fill(~real, -torch.inf).log_softmax(dim=-1)
        drawn = torch.tensor(
            [_draw(row, seed) for row, seed in zip(log_p.detach().exp().cpu(), seeds, strict=True)],
            device=scores.device,
        )[:, None]
        advantage = rewards.gather(1, drawn) - rewards[:, :1]
        return -(advantage * log_p.gather(1, drawn)).sum()


def _draw(probabilities: torch.Tensor, seed: int) -> int:
    generator = torch.Generator().manual_seed(seed)
    return int(torch.multinomial(probabilities, 1, generator=generator))
