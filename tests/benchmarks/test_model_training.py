"""Examples per second of training on LaMP-5's real text, against batches padded as they come."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lamp_exp.models.speed import attention
from tests.benchmarks.models import (
    causal,
    own_loss,
    padded_as_they_come,
    real_prompts,
    seq2seq,
    side_by_side,
    step,
)

# What can be saved is padding, passes over attention's weights, and logits of what is not learned.
# With k=4 an ipa prompt fills its 512 tokens, with k=1 85% of a padded batch are real, without a
# profile 56%; matrix products of real tokens, more than half of the step, are the limit.
CASES = [("fid", 8, 8, 1.5), ("ipa", 0, 16, 1.5), ("ipa", 1, 16, 1.2), ("ipa", 4, 16, 1.1)]


@pytest.mark.parametrize(("augmentation", "k", "examples", "least"), CASES)
def test_training_against_batches_padded_as_they_come(
    benchmark, shared: Path, augmentation: str, k: int, examples: int, least: float
):
    pairs = real_prompts(shared, augmentation, k, limit=examples)  # one step
    model = seq2seq(str(shared / "tokenizer_t5"), max_new_tokens=128).train()

    def ours() -> float:
        assert attention.use(model.net)
        return step(model, own_loss(model, pairs))

    def theirs() -> float:
        model.net.set_attn_implementation("sdpa")
        return step(model, padded_as_they_come(model, pairs))

    ratio = side_by_side(benchmark, ours, theirs)
    benchmark.extra_info["examples"] = len(pairs)
    assert ratio >= least
    model.eval()  # without dropout, the loss is the same
    few = pairs[:2]
    own = own_loss(model, few).item()
    assert own == pytest.approx(padded_as_they_come(model, few).item(), rel=1e-4)


def test_logits_of_the_targets_alone(benchmark, shared: Path, tmp_path: Path):
    """A decoder-only model of 32,100 words: those of prompts are not looked at."""
    pairs = real_prompts(shared, "ipa", 4, limit=8)
    model = causal(str(shared / "tokenizer_t5"), tmp_path).train()

    def of_all() -> torch.Tensor:
        batch = model.collate(*zip(*pairs, strict=True))
        return model.net(**batch["learned"], labels=batch["labels"]).loss

    assert own_loss(model, pairs).item() == pytest.approx(of_all().item(), rel=1e-4)
    ours, theirs = lambda: step(model, own_loss(model, pairs)), lambda: step(model, of_all())
    assert side_by_side(benchmark, ours, theirs) >= 1.5
