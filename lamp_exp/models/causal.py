"""Decoder-only models: chat models by their chat template, base models by the bare prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from lamp_exp.errors import InputError
from lamp_exp.models.batches import Batch
from lamp_exp.models.prediction import FREE, load_network
from lamp_exp.models.speed import shared_prefix as prefix
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.models.training import IGNORED, TrainableModel, log_likelihoods, only_logits_of
from lamp_exp.values import ModelSettings, Prompt


class Causal(TrainableModel):
    """Any decoder-only model of transformers; GGUF files, too."""

    loader = staticmethod(AutoModelForCausalLM.from_pretrained)

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        gguf_file: str | None = None,
        decoding: str = FREE,
    ) -> None:
        """`name` is a hub id or a folder, `gguf_file` the file in it that holds the weights."""
        super().__init__(name, settings, generation, dtype, decoding)
        self.where = {"gguf_file": gguf_file} if gguf_file else {}

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Quantised weights as GGUF files hold them are for answering, and need their reader."""
        if trains and self.where:
            raise InputError("model.gguf_file is for mode=zeroshot: fine-tune a folder of weights")
        if self.where and not find_spec("gguf"):
            raise InputError("model.gguf_file needs gguf: pip install 'lamp-exp[gguf]'")
        super().validate(trains, precision, trainer)

    def load_tokenizer(self) -> Any:
        """That of the hub id or folder; it pads with its end token if it has nothing else."""
        tokenizer = load_tokenizer(self.name, **self.where)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def load(self) -> PreTrainedModel:
        """Pretrained weights."""
        return load_network(self.loader, self.name, dtype=self.weights_dtype, **self.where)

    def facts(self) -> Mapping[str, Any]:
        """Where the weights come from, and whether prompts were put into a chat."""
        chat = bool(self.tokenizer.chat_template)
        return {**super().facts(), "weights": self.name, "chat_template": chat}

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, length).

        To answer, padded on the left, so that each prompt's end meets its answer; to learn,
        prompt and target together, and labels for the target only.
        """
        asked = [self._read(prompt) for prompt in prompts]
        ids = [prompt.id for prompt in prompts]
        batch: Batch = {"ids": ids, **self._padded(asked, "left"), "common": prefix.length(asked)}
        if targets is None:
            return batch
        golds = [self.target_ids(target)[: self.settings.max_new_tokens] for target in targets]
        pairs = list(zip(asked, golds, strict=True))
        whole = self._padded([prompt + gold for prompt, gold in pairs], "right")
        hidden = [torch.tensor([IGNORED] * len(prompt) + gold) for prompt, gold in pairs]
        labels = pad_sequence(hidden, batch_first=True, padding_value=IGNORED)
        return batch | {"labels": labels, "learned": whole, "targets": list(targets)}

    def _read(self, prompt: Prompt) -> list[int]:
        """The tokens of the one passage, cut at max_length, and of the chat around it."""
        (text,) = prompt.passages
        if self.token_counter.count(text) > self.settings.max_length:
            text, _ = self.token_counter.truncate(text, self.settings.max_length)
        if not self.tokenizer.chat_template:
            read: list[int] = self.tokenizer(text)["input_ids"]
            return read
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        # The template writes the special tokens itself: a second BOS would be one too many.
        read = self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        return read

    def target_ids(self, target: str) -> list[int]:
        """The gold's own tokens and the end."""
        ids = self.tokenizer(target, add_special_tokens=False, verbose=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def _padded(self, rows: Sequence[Sequence[int]], side: str) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row) for row in rows]
        masks = [torch.ones(len(row), dtype=torch.long) for row in rows]
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": pad_sequence(ids, True, pad, padding_side=side),
            "attention_mask": pad_sequence(masks, True, 0, padding_side=side),
        }

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits before each token of the targets, and these tokens."""
        labels = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        wanted = labels != IGNORED
        with only_logits_of(self.net, wanted):
            outputs = self.net(**batch["learned"])
        return outputs.logits, labels[wanted]

    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens alone: the prompt is not part of the answer."""
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.may_share:
            asked = prefix.read_once(self.net, asked, batch["common"], self.rows_per_example)
        ends = {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": [*self.end_tokens()]}
        rows = self.net.generate(**asked, **{**ends, **self.generation, **options})
        new: torch.Tensor = rows[:, self.answer_start(batch) :]
        return new

    def answer_start(self, batch: Batch) -> int:
        """After the prompts, which are padded to one length."""
        length: int = batch["input_ids"].shape[1]
        return length

    def likelihoods(self, batch: Batch, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The log likelihood of each row of tokens as the answer, (batch, rows).

        Each prompt is read once; then all rows go on from what was read of it.
        """
        examples, ids, mask = len(batch["ids"]), batch["input_ids"], batch["attention_mask"]
        read = self._go_on(ids, mask, DynamicCache(config=self.net.config))
        first = read.logits[:, -1:].repeat_interleave(len(rows), dim=0)
        read.cache.batch_repeat_interleave(len(rows))
        targets = pad_sequence([torch.tensor(row) for row in rows], True, IGNORED).to(ids)
        targets = targets.repeat(examples, 1)
        written = targets[:, :-1].clamp(min=0)
        seen = mask.repeat_interleave(len(rows), dim=0)
        whole = torch.cat([seen, torch.ones_like(written)], dim=1)
        rest = self._go_on(written, whole, read.cache).logits if written.shape[1] else first[:, :0]
        return log_likelihoods(torch.cat([first, rest], dim=1), targets).view(examples, -1)

    def _go_on(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> Any:
        """The network's outputs for `ids`, after what `cache` holds; `mask` covers both."""
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self.net(
            input_ids=ids, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True
        )

    def end_tokens(self) -> set[int]:
        """The model's own end tokens, and the tokenizer's, which it learns to end with."""
        return (super().end_tokens() | {self.tokenizer.eos_token_id}) - {None}
