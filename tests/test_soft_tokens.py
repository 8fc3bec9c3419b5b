"""Vectors in front of a prompt: those of words do what the words themselves do."""

from __future__ import annotations

import pytest
import torch

from lamp_exp.models.soft_tokens import SOFT_TOKENS
from tests.test_causal import LONG, SHORT, folder, loaded  # noqa: F401  (a fixture)
from tests.test_causal import prompt as text_prompt
from tests.test_seq2seq import TEXTS, model, prompt

PREFIX = [17, 25]  # two words of the vocabulary


def with_words(made, batch):
    """The batch with the embeddings of PREFIX before each prompt."""
    vectors = made.net.get_input_embeddings()(torch.tensor([PREFIX] * len(batch["ids"])))
    return {**batch, SOFT_TOKENS: vectors}


def prefixed(batch):
    """The batch of an encoder-decoder with PREFIX before each passage."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    front = torch.tensor(PREFIX).expand(*ids.shape[:2], -1)
    there = mask[..., :1].expand(-1, -1, len(PREFIX))  # a passage that an example lacks stays empty
    lengths = [[n and n + len(PREFIX) for n in row] for row in batch["lengths"]]
    tokens = {
        "input_ids": torch.cat([front, ids], -1),
        "attention_mask": torch.cat([there, mask], -1),
    }
    return {**batch, **tokens, "lengths": lengths}


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_an_encoder_decoder_reads_vectors_before_each_passage(beams):
    fid = model({"num_beams": beams})
    prompts = [prompt("a", TEXTS[0]), prompt("b", *TEXTS)]
    batch = fid.collate(prompts, ["the rose", "sailor"])
    soft, words = with_words(fid, batch), prefixed(batch)
    assert not torch.allclose(fid.logits(batch)[0], fid.logits(words)[0])
    assert torch.allclose(fid.logits(soft)[0], fid.logits(words)[0], atol=1e-5)
    assert fid.generate(soft).tolist() == fid.generate(words).tolist()
    rows = [[5, 6, 1], [7, 1]]
    assert torch.allclose(fid.likelihoods(soft, rows), fid.likelihoods(words, rows), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_reads_vectors_before_the_prompt(folder, kind, monkeypatch):  # noqa: F811
    made = loaded(folder(kind), {"num_beams": 2})
    prompts, targets = [text_prompt("a", SHORT), text_prompt("b", LONG)], ["the rose", "near"]
    batch = made.collate(prompts, targets)
    tokenize = made._tokenize
    monkeypatch.setattr(made, "_tokenize", lambda one: PREFIX + tokenize(one))
    words, soft = made.collate(prompts, targets), with_words(made, batch)
    for speed in (True, False):
        made.speed = speed
        assert not torch.allclose(made.logits(batch)[0], made.logits(words)[0], atol=1e-3)
        assert torch.allclose(made.logits(soft)[0], made.logits(words)[0], atol=1e-5)
    start = made.answer_start(words)
    assert start == made.answer_start(batch) + len(PREFIX)
    assert made.answer_start(soft) == 0
    assert made.generate(soft).tolist() == made.generate(words).tolist()
    rows = [[5, 6, 1], [7, 1]]
    assert torch.allclose(made.likelihoods(soft, rows), made.likelihoods(words, rows), atol=1e-4)


@torch.no_grad()
def test_a_decoder_chooses_labels_after_vectors(folder):  # noqa: F811
    made = loaded(folder("llama"), labels=("the rose", "near", "old"))
    made.decoding = "labels"
    batch = made.collate([text_prompt("a", SHORT), text_prompt("b", LONG)])
    together = [answer.output for answer in made.answers(with_words(made, batch))]
    assert set(together) <= {"the rose", "near", "old"}
    made.decoding = "likelihood"
    assert {answer.output for answer in made.answers(with_words(made, batch))} <= set(
        made.labels.texts
    )
