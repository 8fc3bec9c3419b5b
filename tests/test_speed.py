"""Faster ways to the same numbers: shared keys, logits of targets only, and the switch."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.models.causal import Causal
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.models.speed import shared_keys
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prompt, TrainingOptions, TrainingSet
from tests.conftest import experiment, options, settings, trainer
from tests.test_causal import folder  # noqa: F401  (a fixture: small decoder-only models)

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
T5S = {
    "relu, tied": {},
    "gated-gelu, untied": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
TEXTS = ["the old rose near lake", "the sailor meets the nurse", "the oven", "a lake near the oven"]
PROMPTS = [
    Prompt(str(n), (*TEXTS[: n % 4 + 1], TEXTS[0] * (n + 1)), tokens=(n * 5) % 7) for n in range(7)
]


def t5(**changes) -> T5ForConditionalGeneration:
    torch.manual_seed(2)
    network = T5ForConditionalGeneration(
        T5Config(**{**SIZES, **changes}, vocab_size=300, decoder_start_token_id=0)
    )
    for weights in network.parameters():
        weights.data *= 3  # so that each token read changes what is generated
    return network.eval()


def encodings(examples: int, tokens: int, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Of unequal lengths, the first of them full."""
    torch.manual_seed(examples)
    lengths = torch.tensor([tokens - 5 * n for n in range(examples)])
    mask = torch.arange(tokens)[None] < lengths[:, None]
    return torch.randn(examples, tokens, width), mask.long()


def plain(network, states, mask, **wanted) -> list[list[int]]:
    given = BaseModelOutput(last_hidden_state=states)
    return network.generate(encoder_outputs=given, attention_mask=mask, **wanted).tolist()


def shared(network, states, mask, **wanted) -> list[list[int]]:
    network.set_attn_implementation(shared_keys.NAME)
    return network.generate(
        encoder_outputs=shared_keys.placeholder(states),
        attention_mask=mask,
        cache=shared_keys.shared_cache(network, states, mask),
        **wanted,
    ).tolist()


@pytest.mark.parametrize("kind", T5S)
@pytest.mark.parametrize(("examples", "tokens"), [(1, 1), (1, 40), (3, 17), (4, 96)])
@pytest.mark.parametrize("beams", [2, 4, 7])
def test_shared_keys_give_the_beams_of_copied_ones(kind, examples, tokens, beams):
    network, (states, mask) = t5(**T5S[kind]), encodings(examples, tokens)
    wanted = {"num_beams": beams, "max_new_tokens": 12, "no_repeat_ngram_size": 2}
    expected = plain(network, states, mask, **wanted)
    assert shared(network, states, mask, **wanted) == expected
    assert len({token for row in expected for token in row}) > 1  # they say something


@pytest.mark.parametrize(
    "more", [{"length_penalty": 0.2}, {"early_stopping": True}, {"repetition_penalty": 1.3}]
)
def test_shared_keys_go_with_other_options_of_beam_search(more):
    network, (states, mask) = t5(), encodings(3, 30)
    wanted = {"num_beams": 3, "max_new_tokens": 12, **more}
    assert shared(network, states, mask, **wanted) == plain(network, states, mask, **wanted)


def test_the_attention_of_shared_keys_is_not_for_t5_alone():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 32, "vocab_size": 90}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.5}
    ffn = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None}
    network = BartForConditionalGeneration(BartConfig(**sizes, **heads, **ffn)).eval()
    states, mask = encodings(3, 20)
    wanted = {"num_beams": 4, "max_new_tokens": 10}
    assert shared(network, states, mask, **wanted) == plain(network, states, mask, **wanted)
    assert not shared_keys.enable(network)  # but it is enabled for what has been measured only


def test_the_keys_of_an_example_are_stored_once():
    network, (states, mask) = t5(), encodings(2, 30)
    assert shared_keys.enable(network)
    cache = shared_keys.shared_cache(network, states, mask)
    network.generate(
        encoder_outputs=shared_keys.placeholder(states), attention_mask=mask, cache=cache,
        num_beams=4, max_new_tokens=5,
    )  # fmt: skip
    stored = cache.cross_attention_cache.layers
    assert [tuple(layer.keys.shape) for layer in stored] == [(2, 4, 30, 8)] * 2
    assert len(cache.self_attention_cache.layers[0].keys) == 8


def test_one_row_per_example_is_the_attention_of_the_library():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 5, 4), *torch.randn(2, 3, 2, 9, 4)
    module = torch.nn.Module()
    module.is_causal = False
    given = {"dropout": 0.5, "scaling": 1.0, "position_bias": torch.randn(1, 2, 5, 9)}
    outputs = []
    for attention in (shared_keys.shared_keys_attention, sdpa_attention_forward):
        torch.manual_seed(1)
        outputs.append(attention(module, query, key, value, None, **given)[0])
    assert torch.equal(*outputs)


def model(generation=None, **changes) -> Seq2Seq:
    torch.manual_seed(0)
    given = settings(max_new_tokens=12)
    made = Seq2Seq(None, given, generation or {"num_beams": 4}, fresh=SIZES, **changes)
    made.configure_model()
    for weights in made.net.parameters():
        weights.data *= 3
    return made.eval()


def test_without_the_switch_only_the_library_s_code_runs(monkeypatch, tmp_path):
    expected = model().predict(PROMPTS, trainer)

    def refuse(*words):
        raise AssertionError("models/speed was used")

    for name in (
        "shared_keys_attention", "shared_cache", "enable", "placeholder", "encodings_cache",
    ):  # fmt: skip
        monkeypatch.setattr(shared_keys, name, refuse)
    slow = model(speed=False)
    assert slow.predict(PROMPTS, trainer) == expected
    assert slow.log_likelihoods([(PROMPTS[:2], "the rose")], trainer)


@pytest.mark.parametrize("name", [n for n in options("model") if n != "openai"])
def test_every_local_model_has_the_switch(name):
    words = [f"model={name}", "mode=prompts", "model.speed=false"]
    named = ["model.name=x"] if name == "causal" else []
    assert experiment(*words, *named).model.speed is False
    assert experiment(*words[:2], *named).model.speed is True


def test_beams_share_keys_while_adapters_are_trained(tmp_path: Path, monkeypatch):
    calls = []
    cache = shared_keys.shared_cache
    monkeypatch.setattr(
        shared_keys, "shared_cache", lambda *words: calls.append(1) or cache(*words)
    )
    training = TrainingOptions(lora_rank=2, batch_size=4)
    fid = Seq2Seq(None, settings(training=training), {"num_beams": 3}, fresh=SIZES)
    pairs = [(prompt, "the rose") for prompt in PROMPTS]
    fid.fit(TrainingSet(pairs, pairs, Lamp4().score, Lamp4().main_metric, 1, tmp_path), trainer)
    assert calls
    assert shared_keys.NAME not in (tmp_path / "checkpoint" / "config.json").read_text()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_of_targets_only_give_the_same_loss_and_gradients(folder, kind):  # noqa: F811
    results = []
    for speed in (True, False):
        causal = Causal(folder(kind), settings(), {}, speed=speed)
        causal.configure_model()
        pairs = [Prompt(str(n), (text,)) for n, text in enumerate(TEXTS)]
        loss, tokens = causal.eval().loss(causal.collate(pairs, TEXTS[::-1]))
        loss.backward()
        gradients = torch.cat([w.grad.flatten() for w in causal.net.parameters()])
        results.append((loss, gradients, tokens))
    (fast, fast_gradients, count), (slow, slow_gradients, same_count) = results
    assert count == same_count
    assert torch.allclose(fast, slow)
    assert (fast_gradients - slow_gradients).norm() < 1e-5 * slow_gradients.norm()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_that_is_merged_once_gives_the_encodings_of_sdpa(dtype):
    """With and without padding, and again with another mask of the same length."""
    network = t5().to(dtype)
    ids = torch.arange(3, 33).view(3, 10)
    masks = [torch.ones_like(ids), (torch.arange(10) < torch.tensor([[10], [4], [1]])).long()]
    for mask in masks:
        network.set_attn_implementation("sdpa")
        theirs = network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        network.set_attn_implementation(shared_keys.NAME)
        ours = network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize(
    ("answers", "reads"),
    [
        ([[5, 6, 7, 1]], True),
        ([[5, 1], [8, 1]], True),
        ([[5, 6, 7, 8, 1]], False),  # of more than half a head's width
        ([[5, 6, 1], [8, 1]], False),
    ],
)
def test_few_tokens_are_decoded_from_the_encodings_themselves(answers, reads, monkeypatch):
    fast, slow = model(), model(speed=False)
    fast.net.load_state_dict(slow.net.state_dict())
    calls = []
    cache = shared_keys.encodings_cache
    monkeypatch.setattr(
        shared_keys, "encodings_cache", lambda *words: calls.append(1) or cache(*words)
    )
    batch = fast.collate(PROMPTS[:5])
    found, expected = (one.likelihoods(batch, answers) for one in (fast, slow))
    assert torch.allclose(found, expected, rtol=1e-5)
    assert len(set(expected.flatten().tolist())) == expected.numel()  # each prompt is read
    assert bool(calls) == reads


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lengths", ["equal", "unequal"])
@pytest.mark.parametrize("projection", [None, "q"])
def test_encodings_are_read_in_any_precision_and_beside_adapters(dtype, lengths, projection):
    """The error of the plain way, against float32, is as large."""
    prompts = PROMPTS[:4] if lengths == "unequal" else [Prompt("a", (TEXTS[0],))] * 2
    found = {}
    for name, speed, kind in (
        ("ours", True, dtype),
        ("plain", False, dtype),
        ("exact", False, "float32"),
    ):
        made = model(speed=speed, dtype=kind)
        if projection:
            torch.manual_seed(1)
            config = peft.LoraConfig(target_modules=[projection], init_lora_weights=False)
            made.network = peft.get_peft_model(made.net, config).eval().to(getattr(torch, kind))
            assert shared_keys.reads_encodings(made.net, 3)
        found[name] = made.likelihoods(made.collate(prompts), [[5, 6, 1]]).float()
    error, theirs = (found[name] - found["exact"] for name in ("ours", "plain"))
    assert error.abs().max() <= max(2 * theirs.abs().max(), 1e-4)


@torch.no_grad()
def test_encodings_are_not_read_where_projections_are_not_plain():
    network = t5()
    assert shared_keys.reads_encodings(network, 4)
    lora = peft.get_peft_model(network, peft.LoraConfig(target_modules="all-linear"))
    assert not shared_keys.reads_encodings(lora, 1)
    assert not shared_keys.reads_encodings(t5(d_kv=32), 1)  # as wide as the encodings
