"""Examples per second of training on LaMP-5's real text, against batches padded as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.models import (
    causal,
    own_loss,
    padded_as_they_come,
    real_prompts,
    seq2seq,
    side_by_side,
    step,
)

# What can be saved is padding. With k=4 an ipa prompt fills its 512 tokens and has none; without
# a profile, 56% of a padded batch are real tokens.
CASES = [("fid", 8, 8, 1.3), ("ipa", 0, 16, 1.3)]


@pytest.mark.parametrize(("augmentation", "k", "examples", "least"), CASES)
def test_training_against_batches_padded_as_they_come(
    benchmark,
    shared: Path,
    t5_tokenizer: Path,
    augmentation: str,
    k: int,
    examples: int,
    least: float,
):
    pairs = real_prompts(shared, t5_tokenizer, augmentation, k, limit=examples)  # one step
    model = seq2seq(str(t5_tokenizer), max_new_tokens=128).train()
    ratio = side_by_side(
        benchmark,
        lambda: step(model, own_loss(model, pairs)),
        lambda: step(model, padded_as_they_come(model, pairs)),
    )
    benchmark.extra_info["examples"] = len(pairs)
    assert ratio >= least
    model.eval()  # without dropout, the loss is the same
    few = pairs[:2]
    own = own_loss(model, few).item()
    assert own == pytest.approx(padded_as_they_come(model, few).item(), rel=1e-4)


def test_logits_of_the_targets_only(benchmark, shared: Path, t5_tokenizer: Path, tmp_path: Path):
    """A decoder-only model of 32,100 words, with and without the logits of prompts."""
    pairs = real_prompts(shared, t5_tokenizer, "ipa", 4, limit=8)
    model = causal(str(t5_tokenizer), tmp_path).train()

    def train(speed: bool) -> float:
        model.speed = speed
        return step(model, own_loss(model, pairs))

    assert train(True) == pytest.approx(train(False), rel=1e-4)
    assert side_by_side(benchmark, lambda: train(True), lambda: train(False)) >= 1.3
