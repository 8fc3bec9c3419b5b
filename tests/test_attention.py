"""Attention in training on a CPU: the library's own numbers, and chance that is fair and seeded."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lamp_exp.models.speed import attention

NEVER = 1e-9  # less than one in 16 bits


class Encoder(torch.nn.Module):
    is_causal = False


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def masks() -> dict[str, torch.Tensor | None]:
    """Keys that are there: all, or of rows of unequal lengths; as yes and no, or to be added."""
    there = torch.arange(9).expand(3, 1, 5, 9) < torch.tensor([9, 4, 1]).view(3, 1, 1, 1)
    added = torch.zeros(there.shape).masked_fill(~there, torch.finfo(torch.float32).min)
    return {"all": None, "bool": there, "float": added}


@pytest.mark.parametrize("scaling", [1.0, None])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("mask", masks())
def test_where_nothing_is_dropped_values_and_gradients_are_the_library_s(mask, biased, scaling):
    given = [drawn(3, 2, 5, 4), drawn(3, 2, 9, 4, seed=1), drawn(3, 2, 9, 4, seed=2)]
    given.append(drawn(1, 2, 5, 9, seed=3))
    weigh = torch.arange(3 * 5 * 2 * 4).view(3, 5, 2, 4).sin()

    def answers(way, dropout: float) -> list[torch.Tensor]:
        query, key, value, bias = given
        read, _ = way(
            Encoder(), query, key, value, masks()[mask], dropout=dropout, scaling=scaling,
            position_bias=bias if biased else None,
        )  # fmt: skip
        wanted = given if biased else given[:3]
        return [read, *torch.autograd.grad((read * weigh).sum(), wanted)]

    ours, theirs = answers(attention.attention, NEVER), answers(sdpa_attention_forward, 0.0)
    for own, other in zip(ours, theirs, strict=True):
        assert torch.allclose(own, other, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_each_weight_is_dropped_alike_and_the_mean_stays(dropout):
    torch.manual_seed(0)
    query, key = drawn(1, 1, 50, 8), drawn(1, 1, 20, 8, seed=1)
    value = torch.eye(20).view(1, 1, 20, 20)  # so that what is read are the weights
    way = [Encoder(), query, key, value, None]
    whole, _ = attention.attention(*way)
    several = torch.cat([attention.attention(*way, dropout=dropout)[0] for _ in range(400)])
    dropped = (several == 0).float()
    assert dropped.mean().item() == pytest.approx(dropout, abs=0.002)  # 400,000 chances
    assert (dropped.mean(0) - dropout).abs().max() < 0.13  # each of 1,000 weights: 5 sd
    stay = several / whole
    assert torch.allclose(stay[stay > 0], torch.tensor(1 / (1 - dropout)), rtol=1e-4)
    neighbours = dropped.flatten()[:-1] * dropped.flatten()[1:]  # of one number of 64 bits
    assert neighbours.mean().item() == pytest.approx(dropout**2, abs=0.005)


def test_what_it_cannot_do_is_left_to_the_library():
    query, few = drawn(1, 4, 5, 8), drawn(1, 2, 9, 8, seed=1)
    encoder = Encoder()
    encoder.num_key_value_groups = 2
    torch.manual_seed(0)
    read, _ = attention.attention(encoder, query, few, few, None, dropout=0.5)
    assert read.shape == (1, 5, 4, 8)
    nothing, _ = attention.attention(Encoder(), query, query, query, None, dropout=1.0)
    assert not nothing.any()


def test_training_drops_by_the_seed_and_answering_drops_nothing():
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(0)
    network = T5ForConditionalGeneration(
        T5Config(**sizes, vocab_size=50, decoder_start_token_id=0, dropout_rate=0.2)
    )
    ids = torch.arange(2, 26).view(3, 8)
    labels = torch.arange(2, 14).view(3, 4)
    mask = torch.ones(3, 8, dtype=torch.long)
    mask[1, 5:] = 0

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return network(input_ids=ids, attention_mask=mask, labels=labels).loss.item()

    library = network.eval() and loss(0)
    assert attention.use(network)
    assert loss(0) == loss(1) == pytest.approx(library, rel=1e-6)
    network.train()
    assert loss(0) == loss(0)
    assert loss(0) != loss(1)
