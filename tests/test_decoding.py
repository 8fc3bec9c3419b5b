"""Faster ways to the same answers: shared keys, a shared beginning, labels alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.errors import InputError
from lamp_exp.models.batches import ShuffledBatches, shuffled_batches, workers_for
from lamp_exp.models.causal import Causal
from lamp_exp.models.labels import Labels
from lamp_exp.models.speed import attention, shared_keys
from lamp_exp.models.speed import shared_prefix as prefix
from lamp_exp.models.tiny import Tiny
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prompt, TrainingOptions, TrainingSet
from tests.conftest import experiment, options, settings, trainer
from tests.test_causal import folder  # noqa: F401  (a fixture: small decoder-only models)

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
T5S = {
    "relu, tied": {},
    "gated-gelu, untied": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
LABELS = ("the rose", "the rose near", "sailor", "the old oven near the lake")
TEXTS = ["the old rose near lake", "the sailor meets the nurse", "the oven", "a lake near the oven"]


def t5(**changes) -> T5ForConditionalGeneration:
    torch.manual_seed(2)
    network = T5ForConditionalGeneration(
        T5Config(**SIZES, vocab_size=300, decoder_start_token_id=0, **changes)
    )
    for weights in network.parameters():
        weights.data *= 3  # so that each token read changes what is written
    return network.eval()


def encodings(examples: int, tokens: int, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Of unequal lengths, the first of them full."""
    torch.manual_seed(examples)
    there = (
        torch.arange(tokens)[None]
        < torch.tensor([tokens - 5 * n for n in range(examples)])[:, None]
    )
    return torch.randn(examples, tokens, width), there.long()


def plain(network, states, mask, **wanted) -> list[list[int]]:
    given = BaseModelOutput(last_hidden_state=states)
    return network.generate(encoder_outputs=given, attention_mask=mask, **wanted).tolist()


def shared(network, states, mask, **wanted) -> list[list[int]]:
    assert attention.use(network)
    return network.generate(
        encoder_outputs=shared_keys.stand_in(states),
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


def test_shared_keys_are_not_for_t5_alone():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 32, "vocab_size": 90}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.5}
    ffn = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None}
    network = BartForConditionalGeneration(BartConfig(**sizes, **heads, **ffn)).eval()
    states, mask = encodings(3, 20)
    wanted = {"num_beams": 4, "max_new_tokens": 10}
    assert shared(network, states, mask, **wanted) == plain(network, states, mask, **wanted)


def test_the_keys_of_an_example_are_there_once():
    network, (states, mask) = t5(), encodings(2, 30)
    assert attention.use(network)
    cache = shared_keys.shared_cache(network, states, mask)
    network.generate(
        encoder_outputs=shared_keys.stand_in(states), attention_mask=mask, cache=cache,
        num_beams=4, max_new_tokens=5,
    )  # fmt: skip
    kept = cache.cross_attention_cache.layers
    assert [tuple(layer.keys.shape) for layer in kept] == [(2, 4, 30, 8)] * 2
    assert len(cache.self_attention_cache.layers[0].keys) == 8


def test_attention_that_cannot_be_exchanged_is_left_as_it_is():
    fid = model({"num_beams": 4})
    expected = [a.output for a in fid.predict(PROMPTS, trainer)]
    other = model({"num_beams": 4})
    other.net.set_attn_implementation("eager")
    assert not attention.use(other.net)
    assert [a.output for a in other.predict(PROMPTS, trainer)] == expected


@pytest.mark.parametrize("own", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_options_that_say_how_keys_are_kept_are_heeded(own):
    told = [model({"num_beams": 2, **more}).predict(PROMPTS, trainer) for more in ({}, own)]
    assert told[0] == told[1]


# --- fid -------------------------------------------------------------------------------------


def model(generation=None, decoding="free", labels=(), scale=3, **changes) -> Tiny:
    torch.manual_seed(0)
    sizes = {**SIZES, "dropout_rate": 0.0}
    given = settings(labels=labels, **changes)
    made = Tiny(None, given, generation or {"num_beams": 1}, fresh=sizes, decoding=decoding)
    made.configure_model()
    for weights in made.net.parameters():
        weights.data *= scale
    return made.eval()


PROMPTS = [
    Prompt(str(n), (*TEXTS[: n % 4 + 1], TEXTS[0] * (n + 1)), tokens=(n * 5) % 7) for n in range(7)
]


@torch.no_grad()
def test_passages_encoded_by_length_are_those_encoded_as_they_come(monkeypatch):
    fid = model()
    batch = fid.collate(PROMPTS)
    expected = [
        fid.net.get_encoder()(input_ids=fid.tokenizer(text, return_tensors="pt")["input_ids"])
        for prompt in PROMPTS
        for text in prompt.passages
    ]
    whole = torch.cat([states.last_hidden_state[0] for states in expected])
    for tokens in (1, 10, 40, 10_000):
        monkeypatch.setattr("lamp_exp.models.seq2seq.TOKENS_AT_ONCE_ON_CPU", tokens)
        states, mask = fid.encode(batch)
        assert torch.allclose(states[mask.bool()], whole, atol=1e-3)  # of values up to 10
        assert mask.sum(1).max() == mask.shape[1]  # no column holds padding alone
        assert not mask[:, :-1].diff(dim=1).gt(0).any()  # and none stands before a token


def test_the_step_of_grouped_passages_is_that_of_padded_ones(monkeypatch):
    gradients = []
    for tokens in (1, 30, 10_000):
        monkeypatch.setattr("lamp_exp.models.seq2seq.TOKENS_AT_ONCE_ON_CPU", tokens)
        fid = model(scale=1)
        loss, _ = fid.loss(fid.collate(PROMPTS, TEXTS[:1] * 7))
        loss.backward()
        gradients.append(torch.cat([weights.grad.flatten() for weights in fid.net.parameters()]))
    for other in gradients[1:]:
        assert (other - gradients[0]).norm() < 1e-5 * other.norm()


def test_longest_prompts_are_answered_first_and_told_in_their_order():
    seen = []

    class Watched(Tiny):
        def generate(self, batch, **options):
            seen.extend(batch["ids"])
            return super().generate(batch, **options)

    fid = Watched(None, settings(predict_batch_size=3), {"num_beams": 1}, fresh=SIZES)
    told = fid.predict(PROMPTS, trainer)
    assert [answer.id for answer in told] == [prompt.id for prompt in PROMPTS]
    tokens = {prompt.id: prompt.tokens for prompt in PROMPTS}
    assert [tokens[id] for id in seen] == sorted(tokens.values(), reverse=True)


def test_beams_share_keys_while_adapters_are_learned(tmp_path: Path):
    training = TrainingOptions(lora_rank=2, batch_size=4)
    fid = Tiny(None, settings(training=training), {"num_beams": 3}, fresh=SIZES)
    pairs = [(prompt, "the rose") for prompt in PROMPTS]
    fid.fit(TrainingSet(pairs, pairs, Lamp4().score, Lamp4().main_metric, 1, tmp_path), trainer)
    assert fid.network.config._attn_implementation == attention.NAME
    assert attention.NAME not in (tmp_path / "checkpoint" / "config.json").read_text()


# --- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_constrained_answers_are_labels(beams):
    fid = model({"num_beams": beams}, "labels", LABELS, max_new_tokens=16)
    told = fid.predict(PROMPTS, trainer)
    assert {answer.output for answer in told} <= set(LABELS)
    assert not any(answer.capped for answer in told)
    assert {answer.output: answer.tokens for answer in told}.items() <= {
        text: len(fid.target_ids(text)) for text in LABELS
    }.items()


def test_constrained_greedy_answers_are_the_best_token_of_a_label_each():
    fid = model(decoding="labels", labels=LABELS, max_new_tokens=16)
    rows = [fid.target_ids(text) for text in LABELS]
    for prompt in PROMPTS:
        (told,) = fid.predict([prompt], trainer)
        batch, written = fid.collate([prompt]), []
        while tuple(written) not in map(tuple, rows):
            ahead = torch.tensor([[0, *written]])
            with torch.no_grad():
                states, mask = fid.encode(batch)
                given = BaseModelOutput(last_hidden_state=states)
                logits = fid.net(
                    encoder_outputs=given, attention_mask=mask, decoder_input_ids=ahead
                ).logits[0, -1]
            allowed = {row[len(written)] for row in rows if row[: len(written)] == written}
            written.append(max(sorted(allowed), key=lambda token: logits[token].item()))
        assert told.output == LABELS[rows.index(written)]


@torch.no_grad()
def test_the_likeliest_label_is_that_of_the_least_loss_and_of_an_exhaustive_search():
    fid = model(decoding="likelihood", labels=LABELS, max_new_tokens=16)
    batch = fid.collate(PROMPTS)
    scores = fid.likelihoods(batch, fid.labels.rows)
    for column, text in zip(scores.T, LABELS, strict=True):
        for score, prompt in zip(column, PROMPTS, strict=True):
            loss, _ = fid.loss(fid.collate([prompt], [text]))
            assert score.item() == pytest.approx(-loss.item(), rel=1e-4)
    told = [answer.output for answer in fid.predict(PROMPTS, trainer)]
    assert told == [LABELS[n] for n in scores.argmax(1)]
    searched = model({"num_beams": 4, "length_penalty": 0.0}, "labels", LABELS, max_new_tokens=16)
    assert [answer.output for answer in searched.predict(PROMPTS, trainer)] == told
    assert len(set(told)) > 1


@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
def test_labels_also_choose_while_learning(tmp_path: Path, decoding):
    task, heard = Lamp2(), []

    def score(outputs, targets):
        heard.extend(outputs)
        return task.score(outputs, targets)

    given = settings(labels=task.labels, max_new_tokens=16)
    fid = Tiny(None, given, {"num_beams": 1}, fresh=SIZES, decoding=decoding)
    pairs = [(prompt, task.labels[n % 2]) for n, prompt in enumerate(PROMPTS)]
    fid.fit(TrainingSet(pairs, pairs, score, task.main_metric, 2, tmp_path), trainer)
    assert len(heard) == 2 * len(pairs)
    assert set(heard) <= set(task.labels)  # random weights never write a label freely


@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decoder_only_models_choose_labels_too(folder, kind, decoding):  # noqa: F811
    labels = ("the rose", "sailor", "near the lake")
    given = settings(labels=labels, predict_batch_size=3)
    causal = Causal(folder(kind, "chat"), given, {"do_sample": False}, decoding=decoding)
    prompts = [Prompt(str(n), (" ".join(TEXTS[: n + 1]),)) for n in range(4)]
    told = [answer.output for answer in causal.predict(prompts, trainer)]
    assert set(told) <= set(labels)
    alone = [causal.predict([prompt], trainer)[0].output for prompt in prompts]
    assert told == alone
    if decoding == "likelihood":
        causal.eval()
        losses = [
            [causal.loss(causal.collate([prompt], [label]))[0].item() for label in labels]
            for prompt in prompts
        ]
        assert told == [labels[row.index(min(row))] for row in losses]


def test_what_is_written_of_a_label_tells_what_may_follow():
    labels = Labels(("a", "ab", "c"), ((1, 9), (1, 2, 9), (3, 9)))
    assert labels.following([]) == [1, 3]
    assert labels.following([1]) == [2, 9]
    assert labels.following([1, 9]) == labels.following([7]) == [9]
    assert [labels.spelt(row) for row in ([1, 9, 0], [1, 2, 9], [3, 9, 0])] == [0, 1, 2]


@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
def test_labels_that_cannot_be_chosen_are_refused_before_any_work(decoding):
    def check(labels, **changes):
        model(decoding=decoding, labels=labels, **changes).validate(False, "32-true")

    with pytest.raises(InputError, match="is for tasks with labels .* use model.decoding=free"):
        check(())
    with pytest.raises(InputError, match="needs max_new_tokens=7 or more"):
        check(LABELS, max_new_tokens=6)
    with pytest.raises(InputError, match="two labels are the same tokens"):
        check(("rose", "rose"))
    check(LABELS, max_new_tokens=7)


def test_generation_options_that_forbid_a_label_are_told():
    with pytest.raises(InputError, match="forbids tokens of a label"):
        model({"suppress_tokens": [1]}, "labels", LABELS).predict(PROMPTS, trainer)


def test_a_way_of_decoding_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="decoding=label must be one of free, labels, likelihood"):
        model(decoding="label").validate(False, "32-true")


@pytest.mark.parametrize("task", options("task"))
def test_the_labels_of_a_task_reach_its_model_and_are_readable(task):
    made = experiment(f"task={task}", "model=tiny", "mode=prompts", "model.decoding=labels")
    assert made.model.settings.labels == made.task.labels
    assert all(map(made.task.is_valid_output, made.task.labels))


def test_the_command_decodes_labels(lamp_exp):
    words = ["task=lamp1", "mode=zeroshot", "model=tiny", "limit=5", "model.decoding=likelihood"]
    code, _, err = lamp_exp(*words)
    assert code == 0, err
    code, _, err = lamp_exp(*words, "task=lamp4")
    assert code == 2
    assert "is for tasks with labels" in err


# --- a shared beginning ----------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_prompts_that_begin_alike_answer_as_each_alone(folder, kind, beams, monkeypatch):  # noqa: F811
    begin = " ".join(["the singer meets the judge"] * 4)
    prompts = [Prompt(str(n), (f"{begin} {' '.join(TEXTS[: n + 1])}",)) for n in range(4)]
    answers = []
    for worth in (1000, 16):
        monkeypatch.setattr(prefix, "WORTH_IT", worth)
        causal = Causal(folder(kind), settings(), {"do_sample": False, "num_beams": beams})
        assert causal.collate(prompts)["common"] == 25
        answers.append([answer.output for answer in causal.predict(prompts, trainer)])
        answers.append([causal.predict([prompt], trainer)[0].output for prompt in prompts])
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len(set(answers[0])) > 1


def test_the_beginning_is_read_once(folder):  # noqa: F811
    read = []
    causal = Causal(folder("llama"), settings(), {"do_sample": False})
    causal.configure_model()
    causal.net.get_input_embeddings().register_forward_hook(
        lambda module, given, made: read.append(tuple(given[0].shape))
    )
    begin = " ".join(["the singer meets the judge"] * 4)
    causal.predict([Prompt(str(n), (f"{begin} {TEXTS[n]}",)) for n in range(4)], trainer)
    assert read[:2] == [(1, 21), (4, 5)]


def test_how_much_prompts_share():
    assert prefix.length([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert prefix.length([[1, 2], [1, 2, 4, 5]]) == 1  # each keeps a token of its own
    assert prefix.length([[1, 2, 3]]) == 2
    assert prefix.length([[1], [2]]) == 0


def test_a_window_of_attention_shares_no_beginning(folder):  # noqa: F811
    causal = Causal(folder("llama"), settings(), {})
    causal.configure_model()
    ids = torch.tensor([[5] * 20 + [6], [5] * 20 + [7]])
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert "cache" in prefix.read_once(causal.net, asked, 20, 1)
    causal.net.config.sliding_window = 8
    causal.net.config.layer_types = ["sliding_attention", "full_attention"]
    assert prefix.read_once(causal.net, asked, 20, 1) is asked


# --- batches ---------------------------------------------------------------------------------


def test_workers_make_the_batches_that_the_process_itself_makes():
    fid = model()
    batches = [
        [
            {name: str(value) for name, value in batch.items()}
            for batch in shuffled_batches(PROMPTS, ShuffledBatches(7, 3, 0), fid.collate, workers)
        ]
        for workers in (0, 2)
    ]
    assert batches[0] == batches[1]
    assert workers_for("cpu", 1) == 0
    assert workers_for("cuda", 1) >= 1
    assert workers_for("cuda", 1000) == 0
