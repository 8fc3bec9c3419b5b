"""Answers per second, against transformers' `generate` as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.models.batches import longest_first
from lamp_exp.tasks.lamp2 import Lamp2
from tests.benchmarks.models import SMALL, causal, prompts_of, real_prompts, seq2seq, side_by_side
from tests.conftest import TINY

FLAN_T5_SMALL = {**SMALL, "d_model": 512, "d_ff": 1024, "num_layers": 8}


@torch.no_grad()
@pytest.mark.parametrize(("augmentation", "k", "examples"), [("ipa", 4, 8), ("fid", 16, 1)])
def test_beams_that_share_their_keys(
    benchmark, shared: Path, t5_tokenizer: Path, augmentation, k, examples
):
    """Whole answers (4 beams, 20 tokens) to LaMP-5's real text, of FLAN-T5-small's size."""
    prompts = [
        prompt for prompt, _ in real_prompts(shared, t5_tokenizer, augmentation, k, limit=examples)
    ]
    tokenizer = str(t5_tokenizer)
    model = seq2seq(tokenizer, FLAN_T5_SMALL, max_new_tokens=20).eval()
    model.generation["suppress_tokens"] = [model.tokenizer.eos_token_id]
    batch = model.collate(prompts)

    def answer(shares_keys: bool) -> list[list[int]]:
        model.shares_keys = shares_keys
        return model.generate(batch).tolist()

    assert answer(True) == answer(False)
    assert side_by_side(benchmark, lambda: answer(True), lambda: answer(False)) >= 1.3


@torch.no_grad()
@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
def test_labels_against_free_decoding_of_as_many_tokens(benchmark, decoding):
    """LaMP-2's 15 tags; free decoding is stopped as soon as a tag could be whole."""
    pairs = prompts_of("task=lamp2", "model=tiny", "k=1", "limit=16", "max_length=128")
    batch_prompts = [prompt for prompt, _ in pairs]
    model = seq2seq(str(TINY), max_length=128, labels=Lamp2().labels).eval()
    batch = model.collate(batch_prompts)
    free = {"max_new_tokens": model.labels.max_tokens, "suppress_tokens": [1]}

    def theirs() -> object:
        states, mask = model.encode(batch)
        given = BaseModelOutput(last_hidden_state=states)
        return model.net.generate(encoder_outputs=given, attention_mask=mask, num_beams=4, **free)

    def ours() -> object:
        model.decoding = decoding
        return model.answers(batch)

    assert side_by_side(benchmark, ours, theirs) > 0


@torch.no_grad()
def test_prompts_sorted_by_length(benchmark, shared: Path, tmp_path: Path):
    """LaMP-5's real text without a profile, read by a decoder-only model."""
    words = [f"data_dir={shared / 'data'}", "task=lamp5", "model=tiny", "k=0", "limit=64"]
    prompts = [prompt for prompt, _ in prompts_of(*words, "max_length=512")]
    model = causal(str(TINY), tmp_path)

    def answered(order: list) -> dict[str, list[int]]:
        batches = [model.collate(order[n : n + 16]) for n in range(0, len(order), 16)]
        return {
            id: row
            for batch in batches
            for id, row in zip(batch["ids"], model.generate(batch).tolist(), strict=True)
        }

    assert answered(longest_first(prompts)) == answered(prompts)
    ours, theirs = lambda: answered(longest_first(prompts)), lambda: answered(prompts)
    assert side_by_side(benchmark, ours, theirs) > 1
