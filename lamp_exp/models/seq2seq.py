"""Encoder-decoder models: one class serves In-Prompt Augmentation and Fusion-in-Decoder.

Each passage is encoded apart, the encodings are laid end to end, and the decoder attends to all
of them (Izacard and Grave, arXiv 2007.01282). With one passage that is the plain model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import CONFIG_NAME

from lamp_exp.models.batches import Batch
from lamp_exp.models.text_model import IGNORED, TextModel, load_network
from lamp_exp.models.tokens import load_tokenizer
from lamp_exp.types import InputError, ModelSettings, Prompt


class Seq2Seq(TextModel):
    """Any encoder-decoder of transformers."""

    reads_passages = True
    loader = staticmethod(AutoModelForSeq2SeqLM.from_pretrained)

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        fresh: Mapping[str, Any] | None = None,
    ) -> None:
        """`name` is a hub id or a folder.

        `fresh` describes a T5 with random weights (T5Config's fields), used where the folder
        `name` holds a tokenizer and no weights.
        """
        super().__init__(name, settings, generation, dtype)
        self.fresh = fresh if fresh is not None and _only_a_tokenizer(name) else None

    def check(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Refuses fp16, in which T5 above small overflows to NaN."""
        if precision.startswith("16") or self.dtype_name == "float16":
            raise InputError(
                "T5 overflows in fp16: use trainer.precision=bf16-mixed or 32-true (and "
                "model.dtype=bfloat16 or float32)"
            )
        super().check(trains, precision, trainer)

    def load_tokenizer(self) -> Any:
        """That of the hub id or folder."""
        return load_tokenizer(self.name)

    def load(self) -> PreTrainedModel:
        """Pretrained weights, or random ones of the described size."""
        if self.fresh is not None:
            return fresh_t5(self.tokenizer, self.fresh)
        return load_network(self.loader, self.name, dtype=self.weights_dtype)

    def refuse_without_weights(self) -> None:
        """Fresh weights need no file."""
        if self.fresh is None:
            super().refuse_without_weights()

    def report(self) -> Mapping[str, Any]:
        """Whether the weights were learned before."""
        weights = "random" if self.fresh is not None else self.name
        return {**super().report(), "weights": weights}

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, passages, length).

        The mask of a passage that an example lacks is all zeros.
        """
        most = max(len(prompt.passages) for prompt in prompts)
        read = self._tokenize([text for prompt in prompts for text in prompt.passages])
        shape = (len(prompts), most, read["input_ids"].shape[1])
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        mask = torch.zeros(shape, dtype=torch.long)
        start = 0
        for row, prompt in enumerate(prompts):
            count = len(prompt.passages)
            ids[row, :count] = read["input_ids"][start : start + count]
            mask[row, :count] = read["attention_mask"][start : start + count]
            start += count
        batch = {"ids": [p.id for p in prompts], "input_ids": ids, "attention_mask": mask}
        return batch if targets is None else batch | self._labels(targets)

    def _tokenize(self, texts: Sequence[str]) -> Any:
        return self.tokenizer(
            list(texts),
            max_length=self.settings.max_length,
            truncation=True,
            padding=True,
            return_tensors="pt",
        )

    def _labels(self, targets: Sequence[str]) -> Batch:
        read = self.tokenizer(
            list(targets),
            max_length=self.settings.max_new_tokens,
            truncation=True,
            padding=True,
            return_tensors="pt",
        )
        labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, IGNORED)
        return {"labels": labels, "targets": list(targets)}

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """States (batch, passages x length, d) and mask (batch, passages x length).

        Absent passages are not encoded; their states are zeros, their mask hides them.
        """
        ids, mask = batch["input_ids"], batch["attention_mask"]
        present = mask.any(dim=-1)
        encoder = self.net.get_encoder()
        encoded = encoder(input_ids=ids[present], attention_mask=mask[present]).last_hidden_state
        states = encoded.new_zeros(*ids.shape, encoded.shape[-1])
        states[present] = encoded
        return states.flatten(1, 2), mask.flatten(1, 2)

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the labels' tokens, and the labels."""
        states, mask = self.encode(batch)
        outputs = self.net(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            labels=batch["labels"],
        )
        return outputs.logits, batch["labels"]

    def generate(self, batch: Batch) -> torch.Tensor:
        """The new tokens of each answer, without the decoder's start token."""
        states, mask = self.encode(batch)
        rows = self.net.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            **self.generation,
        )
        new: torch.Tensor = rows[:, 1:]
        return new


def fresh_t5(tokenizer: Any, sizes: Mapping[str, Any]) -> T5ForConditionalGeneration:
    """A T5 with random weights and the tokenizer's own vocabulary and special tokens."""
    config = T5Config(
        **{
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": tokenizer.pad_token_id,
            **sizes,
        }
    )
    return T5ForConditionalGeneration(config)


def _only_a_tokenizer(name: str) -> bool:
    """Whether `name` is a folder without a model in it."""
    return Path(name).is_dir() and not (Path(name) / CONFIG_NAME).exists()
