"""One low-rank adapter per user, trained on the user's own profile.

PEFT in arXiv 2409.09510, and the second stage of OPPU (arXiv 2402.04401): a LoRA is trained on the
items of a profile, each as an input with its target (`Task.item_pair`), and answers that user's
questions. An adapter is learned from the profile of the question that is asked, less the question's
own item, and from nothing else.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from lamp_exp.adapters.local_model import local_model, on_device
from lamp_exp.adapters.lora_slot import LoraShape, LoraSlot, check_adapter
from lamp_exp.adapters.lora_training import LoraRecipe, train_adapter
from lamp_exp.artefacts import (
    Adapter,
    Artefact,
    Cost,
    KeyedArtefact,
    Made,
    ProfileSource,
    UnitWriter,
)
from lamp_exp.contracts import Component, Model, Retriever, Task
from lamp_exp.errors import InputError, first_line
from lamp_exp.hub import only_local_files
from lamp_exp.models.batches import derived_seed, longest_first
from lamp_exp.models.training import TrainableModel
from lamp_exp.progress import progress
from lamp_exp.storage.artefacts import UNITS
from lamp_exp.storage.atomic import Damaged, read_json, write_json
from lamp_exp.values import Prompt

FACTS = "facts.json"  # in an adapter's folder, beside the files of peft
WITHOUT_WEIGHTS = {"keep", "min_items", "_target_"}  # options that change no adapter
DECODING = {"generation", "decoding", "strip_reasoning"}  # options of a model, likewise


class UserLora(Adapter):
    """Trains an adapter per profile, and answers each question with that of its profile.

    Questions are answered one at a time, so that an answer depends on no other question. Users
    with fewer than `min_items` items to learn from are answered by the model as it is.
    """

    uses_profile = True

    def __init__(
        self,
        base: Retriever,
        rank: int,
        alpha: float,
        dropout: float,
        targets: Sequence[str] | str,
        epochs: int,
        lr: float,
        batch_size: int,
        warmup: float,
        weight_decay: float,
        clip: float | None,
        k: int,
        min_items: int,
        keep: bool,
        seed: int,
    ) -> None:
        """Each item is shown with the best `k` of the items before it, as `base` ranks them.

        Without `keep`, an adapter is dropped once its questions are answered.
        """
        self.base = base
        self.shape = LoraShape(rank, alpha, dropout, targets)
        self.recipe = LoraRecipe(epochs, lr, batch_size, warmup, weight_decay, clip)
        self.k = k
        self.min_items = min_items
        self.keep = keep
        self.seed = seed
        self._source: ProfileSource | None = None
        self._folder: Path | None = None  # of the adapters that are kept
        self._slot: LoraSlot | None = None
        self._key: str | None = None  # of the adapter in the slot
        self._learned: dict[str, Mapping[str, Any]] = {}  # facts by key, of adapters not kept

    # --- the contract --------------------------------------------------------------------------

    @property
    def components(self) -> Sequence[Component]:
        return [self.base]

    def validate(self, mode: str, task: Task, model: Model, precision: str = "") -> None:
        """Refuses what has no weights to adapt here, and layers that the model does not have."""
        if mode == "finetune":
            raise InputError(
                "an adapter per user is learned on weights that stay as they are: fine-tune first "
                "(mode=finetune adapter=none), then use mode=zeroshot model.name=RUN/checkpoint"
            )
        if type(task).item_pair is Task.item_pair:
            raise InputError(
                f"task {task.name} makes no pairs of items, which adapters learn from: give it "
                "the method item_pair"
            )
        model = local_model(model, "an adapter per user")
        if model.has_random_weights:
            raise InputError(
                "an adapter on random weights learns nothing: name fine-tuned ones, "
                "model.name=RUN/checkpoint"
            )
        if not self.base.uses_profile or self.base.learns or self.base.needs_dates:
            raise InputError(
                "adapter.base must rank by itself and without dates: use retriever@adapter.base="
                "bm25"
            )
        if self.k:
            self.base.validate()
        LoraSlot(_without_weights(model), self.shape)

    def artefacts(self, source: ProfileSource) -> Sequence[Artefact]:
        return [UserLoras(self, source)] if self.keep else []

    def load(self, made: Sequence[Made], source: ProfileSource) -> None:
        self._source = source
        self._folder = made[0].folder / UNITS if made else None
        self._key, self._learned = None, {}

    def prepare(self, model: Model) -> None:
        """Makes the slot: processes that share the work must have equal networks."""
        assert isinstance(model, TrainableModel), "validate refuses others"
        self.slot_of(model)

    def groups(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        """The questions of each profile; those with long prompts first, which show lack of memory.

        So an adapter that is not kept is trained by one process, and once.
        """
        groups: dict[str, list[Prompt]] = {}
        for prompt in longest_first(prompts):
            groups.setdefault(self.source.key_of(prompt.id), []).append(prompt)
        return list(groups.values())

    def enter(self, model: Model, ids: Sequence[str]) -> None:
        """Puts the adapter of the only question's profile into the slot."""
        assert isinstance(model, TrainableModel), "validate refuses others"
        (id,) = ids
        key = self.source.key_of(id)
        if key == self._key:
            return
        slot = self.slot_of(model)
        self._key = None  # until it is filled
        if self.source.size(key) < self.min_items:
            slot.clear()
        elif self._folder is not None:
            slot.load(self._folder / key)
        else:
            context = model.trainer.precision_plugin.forward_context
            self._learned[key] = self.train(model, key, context)
        self._key = key

    def facts(self) -> dict[str, Any]:
        """Numbers of profiles and adapters, and what one took: seconds, bytes, items."""
        if self._source is None:
            return {}
        source, keys, folder = self._source, self.learned_keys(), self._folder
        learned = list(self._learned.values())
        if folder is not None:
            learned = [read_json(folder / key / FACTS) for key in keys]
        with_adapter = set(keys)
        questions = [source.key_of(id) for id in source.questions()]
        return {
            "profiles": len(source.profile_keys()),
            "profiles_without_adapter": len(source.profile_keys()) - len(keys),
            "questions_without_adapter": sum(key not in with_adapter for key in questions),
            "items_without_pair": source.items_without_pair,
            "kept": self.keep,
            **_statistics(learned),
        }

    # --- learning ------------------------------------------------------------------------------

    @property
    def source(self) -> ProfileSource:
        assert self._source is not None, "`load` is called before any answer"
        return self._source

    def learned_keys(self, source: ProfileSource | None = None) -> list[str]:
        """The keys of the profiles that are large enough."""
        source = source or self.source
        return [key for key in source.profile_keys() if source.size(key) >= self.min_items]

    def slot_of(self, model: TrainableModel) -> LoraSlot:
        """The slot in the model's network, which is made once."""
        if self._slot is None:
            with torch.inference_mode(False):  # else it could not be trained
                self._slot = LoraSlot(model.net, self.shape)
        return self._slot

    def train(
        self, model: TrainableModel, key: str, context: Any, source: ProfileSource | None = None
    ) -> dict[str, Any]:
        """Trains the adapter of a profile, in the slot; returns facts."""
        start = time.perf_counter()
        source, slot = source or self.source, self.slot_of(model)
        pairs = source.pairs(key, self.base, self.k)
        seed = derived_seed(self.seed, key)
        facts = train_adapter(model, slot, pairs, self.recipe, seed, context)
        facts["bytes"] = sum(weight.nbytes for weight in slot.weights.values())
        return {**facts, "seconds": round(time.perf_counter() - start, 4)}


@dataclass(frozen=True)
class UserLoras(KeyedArtefact):
    """The adapters of profiles, each a folder of peft."""

    kind = "user_lora"
    adapter: UserLora
    source: ProfileSource

    def identity(self) -> dict[str, Any]:
        reading = dict(self.source.reading)
        model = {n: v for n, v in reading.pop("model").items() if n not in DECODING}
        options = {n: v for n, v in self.source.options.items() if n not in WITHOUT_WEIGHTS}
        if not self.adapter.k:
            options.pop("base", None)
        return {
            **reading,
            "model": model,
            "adapter": options,
            "seed": self.source.seed,
            "code": self.source.code(self.adapter),
        }

    def unit_keys(self) -> Sequence[str]:
        return self.adapter.learned_keys(self.source)

    def cost(self) -> Cost:
        return Cost(len(self.unit_keys()), "adapter", ", one per profile")

    def check_unit(self, folder: Path) -> None:
        check_adapter(folder)
        try:
            read_json(folder / FACTS)
        except OSError as error:
            raise Damaged(first_line(error)) from error

    def make_units(
        self, keys: Sequence[str], write: UnitWriter, required: Sequence[Path]
    ) -> dict[str, Any]:
        """One after the other, each written when it is trained."""
        model = self.source.model
        assert isinstance(model, TrainableModel), "validate refuses others"
        with on_device(model, self.source) as context:
            for key in progress(keys, len(keys), "adapters"):
                with write.unit(key) as folder:
                    facts = self.adapter.train(model, key, context, self.source)
                    self.adapter.slot_of(model).save(folder)
                    facts["bytes"] = sum(file.stat().st_size for file in folder.iterdir())
                    write_json(folder / FACTS, facts)
        return {"adapters_made": len(keys)}


def _without_weights(model: TrainableModel) -> Any:
    """The model's network with the names and shapes of its weights, but without these."""
    config = AutoConfig.from_pretrained(model.name, local_files_only=only_local_files(model.name))
    with torch.device("meta"):
        return model.auto_class.from_config(config)


def _statistics(learned: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals over adapters, and means per adapter."""
    if not learned:
        return {"adapters": 0}
    totals = {
        name: sum(one[name] for one in learned)
        for name in ("items", "steps", "items_cut", "targets_cut", "seconds", "bytes")
    }
    means = {
        f"{name}_per_adapter": round(statistics.fmean(one[name] for one in learned), 6)
        for name in ("seconds", "bytes", "first_loss", "last_loss")
    }
    totals["seconds"] = round(totals["seconds"], 3)
    return {"adapters": len(learned), **totals, **means}
