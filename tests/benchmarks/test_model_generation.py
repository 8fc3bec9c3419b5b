"""Answers per second, against transformers' `generate` as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.models.batches import by_length
from lamp_exp.models.seq2seq import fresh_t5
from lamp_exp.models.speed import attention, shared_keys
from lamp_exp.models.speed import shared_prefix as prefix
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.tasks.lamp2 import Lamp2
from tests.benchmarks.models import SMALL, causal, prompts_of, seq2seq, side_by_side
from tests.conftest import TINY


@torch.no_grad()
def test_beams_that_share_their_keys(benchmark):
    """4 beams at 16 passages x 256 tokens, FLAN-T5-small's width, 20 new tokens."""
    tokenizer = load_tokenizer(str(TINY))
    torch.manual_seed(0)
    sizes = {**SMALL, "d_model": 512, "d_ff": 1024, "vocab_size": 32128}
    network = fresh_t5(tokenizer, sizes).eval()
    states, mask = torch.randn(1, 16 * 256, 512), torch.ones(1, 16 * 256, dtype=torch.long)
    mask[:, -100:] = 0
    wanted = {"num_beams": 4, "max_new_tokens": 20, "suppress_tokens": [tokenizer.eos_token_id]}

    def theirs() -> torch.Tensor:
        network.set_attn_implementation("sdpa")
        given = BaseModelOutput(last_hidden_state=states.clone())
        return network.generate(encoder_outputs=given, attention_mask=mask, **wanted)

    def ours() -> torch.Tensor:
        assert attention.use(network)
        cache = shared_keys.shared_cache(network, states, mask)
        given = shared_keys.stand_in(states)
        return network.generate(encoder_outputs=given, attention_mask=mask, cache=cache, **wanted)

    assert ours().tolist() == theirs().tolist()
    assert side_by_side(benchmark, ours, theirs) >= 2


@torch.no_grad()
@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
def test_labels_against_free_decoding_of_as_many_tokens(benchmark, decoding):
    """LaMP-2's 15 tags; free decoding is stopped as soon as a tag could be whole."""
    pairs = prompts_of("task=lamp2", "model=tiny", "k=1", "limit=16", "max_length=128")
    batch_prompts = [prompt for prompt, _ in pairs]
    model = seq2seq(str(TINY), max_length=128, labels=Lamp2().labels).eval()
    batch = model.collate(batch_prompts)
    free = {"max_new_tokens": model.labels.longest, "suppress_tokens": [1]}

    def theirs() -> object:
        states, mask = model.encode(batch)
        given = BaseModelOutput(last_hidden_state=states)
        return model.net.generate(encoder_outputs=given, attention_mask=mask, num_beams=4, **free)

    def ours() -> object:
        model.decoding = decoding
        return model.answers(batch)

    assert side_by_side(benchmark, ours, theirs) > 0


@torch.no_grad()
def test_an_instruction_that_is_read_once(benchmark, tmp_path: Path, monkeypatch):
    """LaMP-2 without a profile: each prompt begins with the tags."""
    pairs = prompts_of("task=lamp2", "model=tiny", "k=0", "limit=16", "max_length=512")
    model = causal(str(TINY), tmp_path)
    batch = model.collate([prompt for prompt, _ in pairs])
    benchmark.extra_info["shared tokens"] = batch["common"]
    benchmark.extra_info["tokens"] = batch["input_ids"].shape[1]

    def with_least(tokens: int) -> list[list[int]]:
        monkeypatch.setattr(prefix, "WORTH_IT", tokens)
        return model.generate(batch).tolist()

    assert with_least(16) == with_least(1 << 20)
    assert side_by_side(benchmark, lambda: with_least(16), lambda: with_least(1 << 20)) > 1


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

    assert answered(by_length(prompts)) == answered(prompts)
    ours, theirs = lambda: answered(by_length(prompts)), lambda: answered(prompts)
    assert side_by_side(benchmark, ours, theirs) > 1
