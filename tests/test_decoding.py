"""Decoding: passages encoded by length, labels as answers, the order of batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.errors import InputError
from lamp_exp.models.batches import ShuffledBatches, loader_workers, shuffled_batches
from lamp_exp.models.causal import Causal
from lamp_exp.models.labels import Labels
from lamp_exp.models.sampling import SamplingByRow
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.values import Prompt, TrainingSet
from tests.conftest import experiment, options, settings, trainer
from tests.test_causal import folder  # noqa: F401  (a fixture: small decoder-only models)

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
LABELS = ("the rose", "the rose near", "sailor", "the old oven near the lake")
TEXTS = ["the old rose near lake", "the sailor meets the nurse", "the oven", "a lake near the oven"]


@pytest.mark.parametrize("own", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_options_that_say_how_keys_are_kept_are_heeded(own):
    told = [model({"num_beams": 2, **more}).predict(PROMPTS, trainer) for more in ({}, own)]
    assert told[0] == told[1]


# --- fid -------------------------------------------------------------------------------------


def model(generation=None, decoding="free", labels=(), scale=3, **changes) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = {**SIZES, "dropout_rate": 0.0}
    given = settings(labels=labels, **changes)
    made = Seq2Seq(None, given, generation or {"num_beams": 1}, fresh=sizes, decoding=decoding)
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

    class Watched(Seq2Seq):
        def generate(self, batch, **options):
            seen.extend(batch["ids"])
            return super().generate(batch, **options)

    fid = Watched(None, settings(predict_batch_size=3), {"num_beams": 1}, fresh=SIZES)
    told = fid.predict(PROMPTS, trainer)
    assert [answer.id for answer in told] == [prompt.id for prompt in PROMPTS]
    tokens = {prompt.id: prompt.tokens for prompt in PROMPTS}
    assert [tokens[id] for id in seen] == sorted(tokens.values(), reverse=True)


# --- sampling --------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("decoding", ["free", "labels"])
@pytest.mark.parametrize("beams", [1, 2])
def test_samples_depend_on_the_seed_and_the_question_only(beams, decoding):
    sampled = {"num_beams": beams, "do_sample": True, "temperature": 2.0, "top_p": 0.9}
    twins = [Prompt(f"twin{n}", PROMPTS[0].passages, PROMPTS[0].tokens) for n in range(6)]
    prompts = [*PROMPTS, *twins]

    def answers(asked, **changes):
        made = model(sampled, decoding, LABELS, scale=2, max_new_tokens=16, **changes)
        return [prediction.output for prediction in made.predict(asked, trainer)]

    first = answers(prompts)
    assert [answers(prompts, predict_batch_size=size) for size in (1, 3, 16)] == [first] * 3
    assert answers(prompts[::-1]) == first[::-1]
    assert answers(prompts[4:9]) == first[4:9]  # as if the others were answered before
    assert answers(prompts, seed=1) != first
    if decoding == "free":
        assert len(set(first[len(PROMPTS) :])) > 1  # equal prompts of several questions


def test_samples_follow_the_probabilities():
    rows = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).repeat(4000, 1)
    with SamplingByRow(range(4000), torch.device("cpu")):
        drawn = torch.multinomial(rows, num_samples=1)
        pairs = torch.multinomial(rows, num_samples=2)
    shares = drawn.flatten().bincount(minlength=4) / 4000
    assert torch.allclose(shares, rows[0], atol=0.03)
    assert not (pairs == 3).any() and (pairs[:, 0] != pairs[:, 1]).all()
    with pytest.raises(ValueError, match="shorter"), SamplingByRow([0], torch.device("cpu")):
        torch.multinomial(rows, num_samples=1)


# --- the model's own generation_config.json ----------------------------------------------------

OWN = {"repetition_penalty": 9.0, "min_new_tokens": 7, "suppress_tokens": [40, 41], "num_beams": 3}


@pytest.mark.parametrize("decoding", ["labels", "likelihood"])
def test_options_that_weights_bring_choose_no_other_label(decoding):
    plain, bent = (model({"do_sample": False}, decoding, LABELS, max_new_tokens=16) for _ in "ab")
    for name, value in OWN.items():
        setattr(bent.net.generation_config, name, value)
    assert bent.predict(PROMPTS, trainer) == plain.predict(PROMPTS, trainer)
    assert bent.net.generation_config.repetition_penalty == 9.0  # saved with a checkpoint
    assert bent.facts()["own_generation"] == {}
    free = model({"do_sample": False})
    before = free.predict(PROMPTS, trainer)
    for name, value in OWN.items():
        setattr(free.net.generation_config, name, value)
    assert free.predict(PROMPTS, trainer) != before


def test_only_options_that_change_answers_are_told():
    told = {"no_repeat_ngram_size": 2, "length_penalty": 2.0}
    neutral = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_length": 9,
        "num_beams": 1,
        "do_sample": False,
    }
    fid = model({"num_beams": 2})
    for name, value in {**told, **neutral, "bos_token_id": 1, "num_beams": 7}.items():
        setattr(fid.net.generation_config, name, value)
    assert fid.facts()["own_generation"] == told
    fid.net.generation_config.do_sample = True
    sampling = {"do_sample": True, "temperature": 0.5, "top_p": 0.9}
    assert fid.facts()["own_generation"] == told | sampling


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
    scores = fid.likelihoods(batch, fid.labels.token_ids)
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
    fid = Seq2Seq(None, given, {"num_beams": 1}, fresh=SIZES, decoding=decoding)
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
    assert labels.next_tokens([]) == [1, 3]
    assert labels.next_tokens([1]) == [2, 9]
    assert labels.next_tokens([1, 9]) == labels.next_tokens([7]) == [9]
    assert [labels.index(row) for row in ([1, 9, 0], [1, 2, 9], [3, 9, 0])] == [0, 1, 2]


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
    assert loader_workers("cpu", 1) == 0
    assert loader_workers("cuda", 1) >= 1
    assert loader_workers("cuda", 1000) == 0
