"""Trains the adapter in a slot on the pairs of one user."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from transformers import get_linear_schedule_with_warmup

from lamp_exp.adapters.lora_slot import LoraSlot
from lamp_exp.errors import InputError
from lamp_exp.models.batches import Batch, Pair, derived_seed
from lamp_exp.models.training import IGNORED, TrainableModel


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How an adapter is trained: AdamW, with a linear warm-up and decay, all weights decayed.

    `warmup` is a share of the steps, `clip` the largest norm of a gradient (None: any).
    """

    epochs: int
    lr: float
    batch_size: int
    warmup: float
    weight_decay: float
    clip: float | None


def train_adapter(
    model: TrainableModel,
    slot: LoraSlot,
    pairs: Sequence[Pair],
    recipe: LoraRecipe,
    seed: int,
    forward_context: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Any]:
    """Trains an adapter from the start on `pairs`; it is in the slot afterwards. Returns facts.

    All that is drawn is drawn from `seed`: batches, weights and dropout do not depend on what was
    trained before. `forward_context` is that of the precision. Raises InputError if memory or the
    range of numbers does not suffice.
    """
    slot.reset(derived_seed(seed, "weights"))
    torch.manual_seed(derived_seed(seed, "dropout"))
    model.net.train()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            losses = _train(model, slot, pairs, recipe, seed, forward_context)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"out of memory with an adapter's batch of {min(recipe.batch_size, len(pairs))} items "
            f"of up to {model.settings.max_length} tokens: lower adapter.batch_size or max_length"
        ) from error
    finally:
        model.net.eval()
    numbers = all(bool(weight.isfinite().all()) for weight in slot.weights.values())
    if not (numbers and all(map(math.isfinite, losses))):
        raise InputError(
            "the loss of an adapter became infinite or no number: lower adapter.lr, or use "
            "trainer.precision=bf16-mixed or 32-true"
        )
    limit = model.settings.max_new_tokens
    return {
        "items": len(pairs),
        "steps": recipe.epochs * -(-len(pairs) // recipe.batch_size),
        "first_loss": round(losses[0], 6),
        "last_loss": round(losses[-1], 6),
        "items_cut": sum(bool(prompt.cut_passages) for prompt, _ in pairs),
        "targets_cut": sum(len(model.target_ids(target)) > limit for _, target in pairs),
    }


def _train(
    model: TrainableModel,
    slot: LoraSlot,
    pairs: Sequence[Pair],
    recipe: LoraRecipe,
    seed: int,
    forward_context: Callable[[], AbstractContextManager[Any]],
) -> list[float]:
    """The mean loss per target token of each epoch."""
    prompts, targets = zip(*pairs, strict=True)
    whole = model.transfer_batch_to_device(model.collate(prompts, targets), model.device, 0)
    weights = list(slot.weights.values())
    optimizer = torch.optim.AdamW(
        weights, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    steps = recipe.epochs * -(-len(pairs) // recipe.batch_size)
    warmup = min(math.ceil(recipe.warmup * steps), steps - 1)  # else a single step has rate 0
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    curve = []
    for epoch in range(recipe.epochs):
        order = list(range(len(pairs)))
        Random(f"{seed}:{epoch}").shuffle(order)
        sums, tokens = torch.zeros((), device=model.device), 0
        for start in range(0, len(order), recipe.batch_size):
            batch = rows_of(whole, order[start : start + recipe.batch_size])
            with forward_context():
                loss, count = model.loss(batch)
            torch.autograd.backward(loss / count)
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            sums += loss.detach()
            tokens += int(count)
        curve.append(sums.item() / tokens)
    return curve


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some examples of a collated batch, without the columns of labels that only they lack.

    Texts are tokenised once for all epochs.
    """
    picked = _picked(batch, rows)
    real = (picked["labels"] != IGNORED).any(dim=0).nonzero()
    width = int(real.max()) + 1 if len(real) else 1
    picked["labels"] = picked["labels"][:, :width].contiguous()  # the net takes no other labels
    if "learned" in picked:  # of a decoder-only model: prompt and target, padded as the labels are
        picked["learned"] = {name: value[:, :width] for name, value in picked["learned"].items()}
    return picked


def _picked(batch: Batch, rows: Sequence[int]) -> Batch:
    def pick(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[torch.tensor(rows, device=value.device)]
        if isinstance(value, dict):
            return _picked(value, rows)
        return [value[row] for row in rows]

    return {name: pick(value) for name, value in batch.items()}
