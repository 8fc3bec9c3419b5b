"""Users per second of learning adapters, against peft's own steps for each user.

The plain way wraps the network for a user, trains on batches that are tokenised and padded as they
come, and unloads the adapter. Both take the same steps: 24 items, 30 epochs, the tiny model.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import get_linear_schedule_with_warmup

from lamp_exp.adapters.lora_slot import LoraShape, LoraSlot
from lamp_exp.adapters.lora_training import LoraRecipe, train_adapter
from lamp_exp.experiment.adapting import AskedProfiles
from lamp_exp.experiment.stages import load_parts
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.values import Prompt
from tests.benchmarks.models import seq2seq, side_by_side
from tests.conftest import build, compose, trainer

ITEMS, USERS = 24, 3
RECIPE = LoraRecipe(epochs=30, lr=1e-2, batch_size=16, warmup=0.05, weight_decay=1e-4, clip=1.0)
SHAPE = LoraShape(8, 32, 0.0, ["q", "k", "v"])


def users() -> list[list[tuple[Prompt, str]]]:
    """The items of the made-up sample's first users, who have so many."""
    made, configuration = build("task=lamp4", "model=tiny", "mode=zeroshot", "k=0", "limit=40")
    source = AskedProfiles(made, configuration, load_parts(made).asked.examples)
    large = [key for key in source.profile_keys() if source.size(key) >= ITEMS]
    return [source.pairs(key, BM25(), 0)[:ITEMS] for key in large[:USERS]]


def plain(network: Any, model: Seq2Seq, pairs: list[tuple[Prompt, str]]) -> Any:
    """Peft, torch and transformers as their examples use them."""
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q", "k", "v"])
    adapted = get_peft_model(network, config).train()
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RECIPE.lr, weight_decay=RECIPE.weight_decay)
    batches = -(-len(pairs) // RECIPE.batch_size)
    steps = RECIPE.epochs * batches
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.05 * steps), steps)
    for epoch in range(RECIPE.epochs):
        order = list(range(len(pairs)))
        Random(epoch).shuffle(order)
        for start in range(0, len(order), RECIPE.batch_size):
            few = [pairs[number] for number in order[start : start + RECIPE.batch_size]]
            padded = {"padding": True, "return_tensors": "pt"}
            read = model.tokenizer([prompt.passages[0] for prompt, _ in few], **padded)
            golds = model.tokenizer([target for _, target in few], **padded)
            labels = golds["input_ids"].masked_fill(golds["attention_mask"] == 0, -100)
            inputs = {name: read[name] for name in ("input_ids", "attention_mask")}
            adapted(**inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return adapted.unload()


def test_users_per_second_against_a_plain_loop(benchmark):
    sizes = dict(compose("model=tiny")[0].model.fresh)
    own, other = seq2seq(None, sizes, max_length=512), seq2seq(None, sizes, max_length=512)
    slot, context = LoraSlot(own.net, SHAPE), trainer().precision_plugin.forward_context
    torch.set_num_threads(1)
    asked = users()
    assert len(asked) == USERS

    def fast() -> None:
        for number, pairs in enumerate(asked):
            train_adapter(own, slot, pairs, RECIPE, number, context)

    def slow() -> None:
        network: Any = other.net
        for pairs in asked:
            network = plain(network, other, pairs)

    ratio = side_by_side(benchmark, fast, slow, rounds=5)
    benchmark.extra_info["users"] = USERS
    assert ratio >= 1.0
