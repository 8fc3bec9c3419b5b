"""Decoder-only models: chat models by their chat template, base models by the bare prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel

from lamp_exp.models.batches import Batch
from lamp_exp.models.text_model import IGNORED, TextModel, load_network
from lamp_exp.models.tokens import load_tokenizer
from lamp_exp.types import InputError, ModelSettings, Prompt


class Causal(TextModel):
    """Any decoder-only model of transformers; GGUF files, too."""

    loader = staticmethod(AutoModelForCausalLM.from_pretrained)

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        gguf_file: str | None = None,
    ) -> None:
        """`name` is a hub id or a folder, `gguf_file` the file in it that holds the weights."""
        super().__init__(name, settings, generation, dtype)
        self.where = {"gguf_file": gguf_file} if gguf_file else {}

    def check(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Quantised weights as GGUF files hold them are for answering, and need their reader."""
        if trains and self.where:
            raise InputError("model.gguf_file is for mode=zeroshot: fine-tune a folder of weights")
        if self.where and not find_spec("gguf"):
            raise InputError("model.gguf_file needs gguf: pip install 'lamp-exp[gguf]'")
        super().check(trains, precision, trainer)

    def load_tokenizer(self) -> Any:
        """That of the hub id or folder; it pads with its end token if it has nothing else."""
        tokenizer = load_tokenizer(self.name, **self.where)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def load(self) -> PreTrainedModel:
        """Pretrained weights."""
        return load_network(self.loader, self.name, dtype=self.weights_dtype, **self.where)

    def report(self) -> Mapping[str, Any]:
        """Where the weights come from, and whether prompts were put into a chat."""
        chat = bool(self.tokenizer.chat_template)
        return {**super().report(), "weights": self.name, "chat_template": chat}

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, length).

        To answer, padded on the left, so that each prompt's end meets its answer; to learn,
        prompt and target together, and labels for the target only.
        """
        asked = [self._read(prompt) for prompt in prompts]
        ids = [prompt.id for prompt in prompts]
        batch: Batch = {"ids": ids, **self._padded(asked, "left")}
        if targets is None:
            return batch
        golds = [self._target_ids(target) for target in targets]
        pairs = list(zip(asked, golds, strict=True))
        whole = self._padded([prompt + gold for prompt, gold in pairs], "right")
        hidden = [torch.tensor([IGNORED] * len(prompt) + gold) for prompt, gold in pairs]
        labels = pad_sequence(hidden, batch_first=True, padding_value=IGNORED)
        return batch | {"labels": labels, "learned": whole, "targets": list(targets)}

    def _read(self, prompt: Prompt) -> list[int]:
        """The tokens of the one passage, cut at max_length, and of the chat around it."""
        (text,) = prompt.passages
        if self.tokens.count(text) > self.settings.max_length:
            text, _ = self.tokens.cut(text, self.settings.max_length)
        if not self.tokenizer.chat_template:
            read: list[int] = self.tokenizer(text)["input_ids"]
            return read
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        # The template writes the special tokens itself: a second BOS would be one too many.
        read = self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        return read

    def _target_ids(self, target: str) -> list[int]:
        ids = self.tokenizer(target, add_special_tokens=False)["input_ids"]
        whole: list[int] = [*ids, self.tokenizer.eos_token_id]
        return whole[: self.settings.max_new_tokens]

    def target_tokens(self, target: str) -> int:
        """The gold's own tokens and the end."""
        return len(self.tokenizer(target, add_special_tokens=False)["input_ids"]) + 1

    def _padded(self, rows: Sequence[Sequence[int]], side: str) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row) for row in rows]
        masks = [torch.ones(len(row), dtype=torch.long) for row in rows]
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": pad_sequence(ids, True, pad, padding_side=side),
            "attention_mask": pad_sequence(masks, True, 0, padding_side=side),
        }

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits after each token, and the next tokens: labels for the target's only."""
        outputs = self.net(**batch["learned"])
        return outputs.logits[:, :-1], batch["labels"][:, 1:]

    def generate(self, batch: Batch) -> torch.Tensor:
        """The new tokens alone: the prompt is not part of the answer."""
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        ends = {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": [*self.end_tokens()]}
        rows = self.net.generate(**asked, **{**ends, **self.generation})
        new: torch.Tensor = rows[:, asked["input_ids"].shape[1] :]
        return new

    def end_tokens(self) -> set[int]:
        """The model's own end tokens, and the tokenizer's, which it learns to end with."""
        return (super().end_tokens() | {self.tokenizer.eos_token_id}) - {None}
