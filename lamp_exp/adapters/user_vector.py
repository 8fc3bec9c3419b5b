"""A user as vectors in front of the prompt: PPlug (Liu et al., ACL 2025, arXiv 2409.11901).

A frozen encoder makes a vector of each item of the whole history, a trained one of what the
question asks about. The user's vector is the mean of the projected items, weighted by the softmax
of their inner products with the question. It stands in front of the prompt, after a vector that is
alike for all users, the instruction's. Each item has its share, however long the history is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from lamp_exp.adapters.learned_tokens import LearnedTokens, Shown, TokenNetwork
from lamp_exp.adapters.text_encoders import (
    TextEncoders,
    encoder_identity,
    text_encoders,
    validate_encoder,
)
from lamp_exp.adapters.word_means import WordMeans
from lamp_exp.contracts import Component, DenseRetriever, Model, Task
from lamp_exp.models.batches import derived_seed
from lamp_exp.models.training import TrainableModel
from lamp_exp.progress import progress
from lamp_exp.values import History

WEIGHTS = "user_vector.safetensors"
QUESTIONS_AT_ONCE = 256  # whose histories are encoded together
CACHED_BYTES = 1 << 30  # of vectors of histories, while learning


class UserVector(LearnedTokens):
    """Puts `soft_tokens` vectors in front of a prompt; the first is the instruction's.

    A single one is the user's. A history without items has the vector 0.
    """

    uses_profile = True

    def __init__(
        self,
        encoder: WordMeans | DenseRetriever,
        query_prefix: str,
        soft_tokens: int,
        sharpness: float,
        learn_sharpness: bool,
        subsets: int,
        dropped: float,
        train_reader: bool,
        epochs: int,
        lr: float,
        batch_size: int,
        warmup: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        """`query_prefix` stands before what a question asks about. `sharpness` is a factor of the
        cosines before their softmax. An epoch shows each question with its whole history, and
        `subsets` times with a random part, which lacks up to the share `dropped` of the items.
        """
        recipe = (epochs, lr, batch_size, warmup, weight_decay, seed)
        super().__init__(soft_tokens, train_reader, *recipe)
        self.encoder = encoder
        self.query_prefix = query_prefix
        self.sharpness = sharpness
        self.learn_sharpness = learn_sharpness
        self.dropped = dropped
        self.copies = 1 + subsets

    @property
    def components(self) -> Sequence[Component]:
        return [self.encoder]

    def validate(self, mode: str, task: Task, model: Model, precision: str = "") -> None:
        super().validate(mode, task, model, precision)
        validate_encoder(self.encoder)

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": encoder_identity(self.encoder)}

    def new_network(self, model: TrainableModel) -> TokenNetwork:
        return UserNetwork(self, model)

    def save(self, network: TokenNetwork, folder: Path) -> None:
        tensors = {n: w.detach().cpu().contiguous() for n, w in network.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    def read(self, network: TokenNetwork, folder: Path) -> None:
        network.load_state_dict(load_file(folder / WEIGHTS))

    def count_histories(
        self, model: TrainableModel, ids: Sequence[str], history: Callable[[str], History]
    ) -> dict[str, Any]:
        """Counts of histories and items; a sentence encoder encodes them now, many together."""
        counts = {"questions_without_history": 0, "items": 0, "own_items_left_out": 0}
        cut = 0
        starts = range(0, len(ids), QUESTIONS_AT_ONCE)
        for start in progress(starts, len(starts), "histories"):
            found = [history(id) for id in ids[start : start + QUESTIONS_AT_ONCE]]
            texts = [text for one in found for text in one.items]
            counts["questions_without_history"] += sum(not one.items for one in found)
            counts["items"] += len(texts)
            counts["own_items_left_out"] += sum(one.own_items for one in found)
            if isinstance(self.encoder, WordMeans):
                cut += self.encoder.count_cut(model.tokenizer, texts)
            elif texts:
                self.encoder.encode(list(dict.fromkeys(texts)))
        if isinstance(self.encoder, WordMeans):
            return {**counts, "items_cut": cut}
        return {**counts, "encoder": dict(self.encoder.facts())}

    def facts(self) -> dict[str, Any]:
        """Also how sharp the attention is, as it was learned."""
        found = super().facts()
        if isinstance(self._network, UserNetwork):
            found["sharpness"] = round(self._network.log_sharpness.exp().item(), 4)
        return found


class UserNetwork(TokenNetwork):
    """Both encoders, the attention over items, and the projections into the reader's space.

    The vectors are scaled by the mean norm of the reader's word embeddings.
    """

    norm: torch.Tensor

    def __init__(self, options: UserVector, model: TrainableModel) -> None:
        super().__init__()
        self.prefix, self.dropped = options.query_prefix, options.dropped
        self.encoders: TextEncoders = text_encoders(options.encoder, model)
        words = model.net.get_input_embeddings().weight.detach().float()
        width, own = words.shape[1], self.encoders.width
        shared = min(options.number - 1, 1)
        self.width = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(options.recipe.seed, "user vector"))
            self.project = _projection(own, width, (options.number - shared) * width)
            self.instruct = _projection(own, width, width) if shared else None
            self.instruction = torch.nn.Parameter(torch.randn(shared, own) / math.sqrt(own))
        start = torch.tensor(math.log(options.sharpness))
        self.log_sharpness = torch.nn.Parameter(start, requires_grad=options.learn_sharpness)
        self.register_buffer("norm", words.norm(dim=1).mean())
        self._cache: dict[str, torch.Tensor] = {}
        self._cached_bytes = 0

    def tokens(self, questions: Sequence[Shown]) -> torch.Tensor:
        histories = [one.history(one.id) for one in questions]
        queries = self.encoders.queries([self.prefix + one.query for one in histories])
        items = map(self._items, questions, histories)
        users = torch.stack(list(map(self._user, normalize(queries, dim=-1), items)))
        vectors = users.view(len(questions), -1, self.width)
        if self.instruct is not None:
            shared = self.instruct(self.instruction).expand(len(questions), -1, -1)
            vectors = torch.cat([shared, vectors], dim=1)
        return vectors * self.norm

    def _user(self, query: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The mean of the projected items (items, width), by their cosine with the query."""
        weights = (self.log_sharpness.exp() * (items @ query)).softmax(dim=0)
        user: torch.Tensor = weights @ self.project(items)
        return user

    def _items(self, question: Shown, history: History) -> torch.Tensor:
        """The vectors of norm 1 of a history, or of the random part of it."""
        vectors = self._cache.get(question.id)
        if vectors is None:
            found = self.encoders.items(history.items).to(self.norm.device)
            vectors = normalize(found, dim=-1)
            if self.training and self._cached_bytes + vectors.nbytes <= CACHED_BYTES:
                self._cache[question.id] = vectors
                self._cached_bytes += vectors.nbytes
        if question.part is None:
            return vectors
        return vectors[kept_items(len(vectors), self.dropped, question.part)]


def kept_items(number: int, dropped: float, seed: str) -> list[int]:
    """The places of a random part of so many items, in their order.

    It lacks at least one item and at most the share `dropped`, but holds at least one.
    """
    most = min(max(1, int(number * dropped)), number - 1)
    if most < 1 or not dropped:
        return list(range(number))
    random = Random(seed)
    return sorted(random.sample(range(number), number - random.randint(1, most)))


def _projection(width: int, inner: int, out: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(width, inner), torch.nn.GELU(), torch.nn.Linear(inner, out)
    )
