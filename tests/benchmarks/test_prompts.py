"""Prompts of a grid over k and lengths, against tokenising whatever is asked, whenever."""

from __future__ import annotations

import pytest

from lamp_exp.augmentations.fid import FusionInDecoder
from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.data import load
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.tasks.lamp5 import Lamp5
from lamp_exp.values import Hit
from tests.conftest import TINY

QUESTIONS, KS, LENGTHS = 40, (1, 2, 4, 8, 16), (256, 512)


class Straightforward:
    """Asks the tokenizer for each text that is to be counted or cut."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def count(self, text):
        return len(self.tokenizer(text, verbose=False)["input_ids"])

    def truncate(self, text, limit):
        ids = self.tokenizer(text, max_length=limit, truncation=True)["input_ids"]
        return self.tokenizer.decode(ids, skip_special_tokens=True), len(ids)


@pytest.mark.parametrize("tokenizer", ["t5", "tiny"])
@pytest.mark.parametrize(
    "augmentation", [InPromptAugmentation(), FusionInDecoder()], ids=["ipa", "fid"]
)
def test_prompts(ratio, shared, t5_tokenizer, augmentation, tokenizer):
    loaded = load_tokenizer(str({"t5": t5_tokenizer, "tiny": TINY}[tokenizer]))
    examples = list(load(str(shared / "data"), Lamp5(), "user", "dev", limit=QUESTIONS).examples)

    def prompts(tokens):
        return [
            augmentation(
                Lamp5(), example, [Hit(i.id, 0.0) for i in example.profile[:k]], tokens, length
            )
            for length in LENGTHS
            for k in KS
            for example in examples
        ]

    assert prompts(Straightforward(loaded)) == prompts(TransformersTokenCounter(loaded))
    assert (
        ratio(
            lambda: prompts(Straightforward(loaded)),
            lambda: prompts(TransformersTokenCounter(loaded)),
            rounds=2,
        )
        >= 4
    )
