"""Fusion-in-Decoder of FLAN-T5-base's size on a GPU: k=16 x 512 tokens, bf16, random weights.

Tells examples per second, the share of the card's own bf16 matrix rate, and the memory, beside the
straightforward way (all passages padded and encoded at once; transformers' beams).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.values import Prompt
from tests.benchmarks.models import own_loss, padded_as_they_come, seq2seq, step
from tests.conftest import TINY

Pairs = list[tuple[Prompt, str]]


@dataclass(frozen=True)
class Case:
    """What is run where; the tests on a CPU take a tiny one, to know that this file works."""

    device: str
    sizes: dict[str, Any]
    examples: int
    passages: int
    length: int
    new_tokens: int


BASE = {
    "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "vocab_size": 32128,
}  # fmt: skip
TINY_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
ON_GPU = Case("cuda", BASE, examples=8, passages=16, length=512, new_tokens=32)
ON_CPU = Case("cpu", TINY_T5, examples=2, passages=3, length=24, new_tokens=4)
CASES = [
    pytest.param(ON_GPU, marks=pytest.mark.gpu, id="gpu"),
    pytest.param(ON_CPU, id="cpu"),
]


def made(case: Case) -> tuple[Seq2Seq, Pairs]:
    """A model, and prompts of between half the length and all of it."""
    if case.device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    sizes = {"max_length": case.length, "max_new_tokens": case.new_tokens}
    model = seq2seq(str(TINY), case.sizes, **sizes).to(case.device)
    chance = Random(0)

    def passage() -> str:
        return " ".join(["rose"] * (chance.randint(case.length // 2, case.length) - 1))

    passages = [tuple(passage() for _ in range(case.passages)) for _ in range(case.examples)]
    return model, [(Prompt(str(n), texts), "the rose near") for n, texts in enumerate(passages)]


def seconds(work: Callable[[], Any], device: str, rounds: int = 3) -> tuple[float, int]:
    """The best time of several, after one to warm up; and the most bytes that it took of a GPU."""
    times = []
    for _ in range(rounds + 1):
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:]), torch.cuda.max_memory_allocated() if device == "cuda" else 0


def matrix_rate(device: str) -> float:
    """Operations per second in multiplying large bf16 matrices."""
    size = 8192 if device == "cuda" else 256
    one, other = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    took, _ = seconds(lambda: one @ other, device)
    return 2 * size**3 / took


def operations(model: Seq2Seq, pairs: Pairs) -> int:
    """Of one forward pass of the encoder, over real tokens: the rest is small beside it."""
    config = model.net.config
    inner, tokens = config.num_heads * config.d_kv, model.collate([p for p, _ in pairs])["lengths"]
    weights = 4 * config.d_model * inner + 3 * config.d_model * config.d_ff
    return config.num_layers * sum(
        2 * weights * length + 4 * inner * length**2 for row in tokens for length in row
    )


def told(benchmark: Any, case: Case, name: str, work: Callable[[], Any], count: int) -> float:
    """Keeps the figures of one way of working; examples per second."""
    took, memory = seconds(work, case.device)
    share = count / took / matrix_rate(case.device)
    rate = case.examples / took
    figures = {"examples/s": round(rate, 2), "matrix rate": round(share, 3), "MiB": memory >> 20}
    benchmark.extra_info[name] = figures
    return rate


@pytest.mark.parametrize("case", CASES)
def test_training(benchmark, case: Case):
    model, pairs = made(case)
    model.train()
    count = 3 * operations(model, pairs)  # forward, and twice as much backward

    def run(loss: Callable[[Seq2Seq, Pairs], torch.Tensor]) -> float:
        with torch.autocast(case.device, torch.bfloat16):
            value = loss(model, pairs)
        return step(model, value)

    theirs = told(benchmark, case, "straightforward", lambda: run(padded_as_they_come), count)
    ours = told(benchmark, case, "ours", lambda: run(own_loss), count)
    benchmark.extra_info["ratio"] = round(ours / theirs, 2)
    benchmark.pedantic(lambda: run(own_loss), rounds=1)
    model.eval()
    assert run(own_loss) == pytest.approx(run(padded_as_they_come), rel=0.02)  # of bf16


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_generation(benchmark, case: Case):
    model, pairs = made(case)
    model = model.eval().to(torch.bfloat16)
    model.generation["suppress_tokens"] = [model.tokenizer.eos_token_id]
    count = operations(model, pairs)
    batch = model.collate([prompt for prompt, _ in pairs])
    batch = model.transfer_batch_to_device(batch, model.device, 0)

    def straightforward() -> torch.Tensor:
        mask = batch["attention_mask"]
        encoder = model.net.get_encoder()
        given = encoder(
            input_ids=batch["input_ids"].flatten(0, 1), attention_mask=mask.flatten(0, 1)
        )
        states = given.last_hidden_state.view(case.examples, -1, model.net.config.d_model)
        outputs = BaseModelOutput(last_hidden_state=states)
        return model.net.generate(
            encoder_outputs=outputs, attention_mask=mask.flatten(1), **model.generation
        )

    theirs = told(benchmark, case, "straightforward", straightforward, count)
    ours = told(benchmark, case, "ours", lambda: model.generate(batch), count)
    benchmark.extra_info["ratio"] = round(ours / theirs, 2)
    made_of = benchmark.pedantic(lambda: model.generate(batch), rounds=1)
    assert made_of.shape == (case.examples, case.new_tokens)
