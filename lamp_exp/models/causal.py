"""Decoder-only models: chat models with their chat template, base models with the bare prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from lamp_exp.errors import InputError
from lamp_exp.models.batches import Batch
from lamp_exp.models.prediction import FREE
from lamp_exp.models.reasoning import AUTO, ReasoningMarks, template_marks
from lamp_exp.models.soft_tokens import SOFT_TOKENS, network_inputs
from lamp_exp.models.speed.target_logits import target_logits
from lamp_exp.models.training import IGNORED, TrainableModel, log_likelihoods
from lamp_exp.values import ModelSettings, Prediction, Prompt

GGUF_PACKAGES = ("gguf", "accelerate")  # that transformers reads GGUF files with


class Causal(TrainableModel):
    """Any decoder-only model of transformers, GGUF files included."""

    multiple_passages = False
    auto_class = AutoModelForCausalLM

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        gguf_file: str | None = None,
        decoding: str = FREE,
        speed: bool = True,
        strip_reasoning: bool | str = AUTO,
    ) -> None:
        """`name` is a hub id or a folder, `gguf_file` the file in it that holds the weights.

        `strip_reasoning` removes reasoning from answers: `auto` what the chat template marks, true
        also what stands between `<think>` and `</think>` without a template.
        """
        self.strip_reasoning = strip_reasoning
        options = {"gguf_file": gguf_file} if gguf_file else {}
        super().__init__(name, settings, generation, dtype, decoding, speed, options)

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Quantised weights in GGUF files are for answering only, and need their reader."""
        if trains and self.load_options:
            raise InputError("model.gguf_file is for mode=zeroshot: fine-tune a folder of weights")
        for package in GGUF_PACKAGES if self.load_options else ():
            if not find_spec(package):
                raise InputError(f"model.gguf_file needs {package}: pip install 'lamp-exp[gguf]'")
        super().validate(trains, precision, trainer)

    def small_network(self) -> PreTrainedModel:
        """A GPT-2 of one layer."""
        tokenizer = self.tokenizer
        sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": len(tokenizer)}
        tokens = {
            f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")
        }
        return GPT2LMHeadModel(GPT2Config(**sizes, **tokens))

    def positions(self) -> int:
        """A prompt of `max_length`, what the chat template writes around it, and the answer."""
        around = len(self._tokenize(Prompt("", ("",)))) - self.token_counter.count("")
        return self.settings.max_length + around + self.settings.max_new_tokens

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the hub id or folder; without a padding token, the end token pads."""
        tokenizer = super().tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def reasoning(self) -> ReasoningMarks | None:
        """The marks of the reasoning that is removed from answers."""
        if self.strip_reasoning is False:
            return None
        usual = None if self.strip_reasoning == AUTO else ReasoningMarks()
        return template_marks(self.tokenizer) or usual

    def facts(self) -> Mapping[str, Any]:
        """Where the weights come from, and whether a chat template was used."""
        chat = bool(self.tokenizer.chat_template)
        return {**super().facts(), "weights": self.name, "chat_template": chat}

    # --- batches -------------------------------------------------------------------------------

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, length), padded on the left.

        With targets, `learned` holds prompts and targets together, padded on the right, and
        `labels` the target tokens in their places.
        """
        rows = [self._tokenize(prompt) for prompt in prompts]
        batch: Batch = {"ids": [prompt.id for prompt in prompts], **self._padded(rows, "left")}
        if targets is None:
            return batch
        limit = self.settings.max_new_tokens
        pairs = list(zip(rows, [self.target_ids(t)[:limit] for t in targets], strict=True))
        learned = self._padded([prompt + target for prompt, target in pairs], "right")
        labels = [torch.tensor([IGNORED] * len(prompt) + target) for prompt, target in pairs]
        padded = pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        return batch | {"labels": padded, "learned": learned, "targets": list(targets)}

    def _tokenize(self, prompt: Prompt) -> list[int]:
        """The tokens of the only passage, cut at max_length, and of the chat around it."""
        (text,) = prompt.passages
        text = self.token_counter.shortened(text, self.settings.max_length)
        if not self.tokenizer.chat_template:
            ids: list[int] = self.tokenizer(text)["input_ids"]
            return ids
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        # The template writes the special tokens itself: a second BOS would be one too many.
        ids = self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        return ids

    def target_ids(self, target: str) -> list[int]:
        """The target's own tokens and the end token."""
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

    # --- the network ---------------------------------------------------------------------------

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits before each target token, and these tokens."""
        soft, learned = batch.get(SOFT_TOKENS), batch["learned"]
        more = 0 if soft is None else soft.shape[1]
        labels = torch.nn.functional.pad(batch["labels"][:, 1:], (more, 1), value=IGNORED)
        wanted = labels != IGNORED
        tokens = (learned["input_ids"], learned["attention_mask"])
        inputs = network_inputs(self.net, *tokens, soft, padding_side="right")
        with target_logits(self.net, wanted) if self.speed else nullcontext():
            logits = self.net(**inputs).logits
        return (logits if self.speed else logits[wanted]), labels[wanted]

    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens only, without the prompt."""
        prompts = self._prompt_inputs(batch)
        ends = {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": [*self.end_tokens()]}
        rows = self.net.generate(**prompts, **{**ends, **self.generation, **options})
        new: torch.Tensor = rows[:, self.answer_start(batch) :]
        return new

    def without_reasoning(self, answer: Prediction, tokens: Sequence[int]) -> Prediction:
        """The marks may be special tokens, which the text of an answer does not show."""
        if self.reasoning is None:
            return answer
        raw: str = self.tokenizer.decode(tokens)
        rest = self.reasoning.answer(raw, answer.capped)
        if rest is None:
            return answer
        for token in self.tokenizer.all_special_tokens:
            rest = rest.replace(token, "")
        return replace(answer, output=rest, raw=raw)

    def _prompt_inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        tokens = (batch["input_ids"], batch["attention_mask"])
        return network_inputs(self.net, *tokens, batch.get(SOFT_TOKENS), padding_side="left")

    def answer_start(self, batch: Batch) -> int:
        """After the prompts, which are padded to one length; at once if they are embeddings."""
        length: int = batch["input_ids"].shape[1]
        return 0 if SOFT_TOKENS in batch else length

    def likelihoods(self, batch: Batch, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The log likelihood of each row of tokens as the answer, (batch, rows).

        Each prompt is read once; all rows continue from its keys and values.
        """
        examples, prompts = len(batch["ids"]), self._prompt_inputs(batch)
        mask = prompts.pop("attention_mask")
        read = self._forward(mask, DynamicCache(config=self.net.config), **prompts)
        first = read.logits[:, -1:].repeat_interleave(len(rows), dim=0)
        read.cache.batch_repeat_interleave(len(rows))
        targets = pad_sequence([torch.tensor(row) for row in rows], True, IGNORED).to(mask)
        targets = targets.repeat(examples, 1)
        inputs = targets[:, :-1].clamp(min=0)
        prompt_mask = mask.repeat_interleave(len(rows), dim=0)
        whole = torch.cat([prompt_mask, torch.ones_like(inputs)], dim=1)
        rest = first[:, :0]
        if inputs.shape[1]:
            rest = self._forward(whole, read.cache, input_ids=inputs).logits
        return log_likelihoods(torch.cat([first, rest], dim=1), targets).view(examples, -1)

    def _forward(self, mask: torch.Tensor, cache: DynamicCache, **inputs: torch.Tensor) -> Any:
        """The network's outputs for `inputs`, which continue `cache`; `mask` covers both."""
        (read,) = inputs.values()
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -read.shape[1] :]
        return self.net(
            **inputs, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True
        )

    def end_tokens(self) -> set[int]:
        """The model's own end tokens and the tokenizer's, which is what it learns to end with."""
        return (super().end_tokens() | {self.tokenizer.eos_token_id}) - {None}
