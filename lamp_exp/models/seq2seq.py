"""Encoder-decoder models: one class serves In-Prompt Augmentation and Fusion-in-Decoder.

Each passage is encoded apart, the encodings are laid end to end, and the decoder attends to all
of them (Izacard and Grave, arXiv 2007.01282). With one passage that is the plain model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import CONFIG_NAME

from lamp_exp.errors import InputError
from lamp_exp.models.batches import Batch, length_groups
from lamp_exp.models.prediction import FREE, load_network
from lamp_exp.models.speed import attention, shared_keys
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.models.training import IGNORED, TrainableModel, log_likelihoods, only_logits_of
from lamp_exp.values import ModelSettings, Prompt

# TokenCounter that are encoded at once, padding included: what keeps a GPU busy, and what a CPU's
# caches hold.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_CPU = 1 << 15, 1 << 11


class Seq2Seq(TrainableModel):
    """Any encoder-decoder of transformers."""

    multiple_passages = True
    loader = staticmethod(AutoModelForSeq2SeqLM.from_pretrained)

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        fresh: Mapping[str, Any] | None = None,
        decoding: str = FREE,
    ) -> None:
        """`name` is a hub id or a folder.

        `fresh` describes a T5 with random weights (T5Config's fields), used where the folder
        `name` holds a tokenizer and no weights.
        """
        super().__init__(name, settings, generation, dtype, decoding)
        self.fresh = fresh if fresh is not None and _only_a_tokenizer(name) else None

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Refuses fp16, in which T5 above small overflows to NaN."""
        if precision.startswith("16") or self.dtype_name == "float16":
            raise InputError(
                "T5 overflows in fp16: use trainer.precision=bf16-mixed or 32-true (and "
                "model.dtype=bfloat16 or float32)"
            )
        super().validate(trains, precision, trainer)

    def load_tokenizer(self) -> Any:
        """That of the hub id or folder."""
        return load_tokenizer(self.name)

    def load(self) -> PreTrainedModel:
        """Pretrained weights, or random ones of the described size."""
        if self.fresh is not None:
            network = fresh_t5(self.tokenizer, self.fresh)
        else:
            network = load_network(self.loader, self.name, dtype=self.weights_dtype)
        attention.use(network)
        return network

    def refuse_without_weights(self) -> None:
        """Fresh weights need no file."""
        if self.fresh is None:
            super().refuse_without_weights()

    def facts(self) -> Mapping[str, Any]:
        """Whether the weights were learned before."""
        weights = "random" if self.fresh is not None else self.name
        return {**super().facts(), "weights": weights}

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, passages, length).

        The mask of a passage that an example lacks is all zeros; `lengths` are the passages' own.
        """
        most = max(len(prompt.passages) for prompt in prompts)
        texts = [text for prompt in prompts for text in prompt.passages]
        read = self._tokenize(texts, self.settings.max_length)
        shape = (len(prompts), most, read["input_ids"].shape[1])
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        mask = torch.zeros(shape, dtype=torch.long)
        present = torch.tensor([[n < len(p.passages) for n in range(most)] for p in prompts])
        ids[present], mask[present] = read["input_ids"], read["attention_mask"]
        batch = {"ids": [p.id for p in prompts], "input_ids": ids, "attention_mask": mask}
        batch["lengths"] = mask.sum(dim=-1).tolist()
        return batch if targets is None else batch | self._labels(targets)

    def _tokenize(self, texts: Sequence[str], limit: int) -> Any:
        return self.tokenizer(
            list(texts),
            max_length=limit,
            truncation=True,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )

    def _labels(self, targets: Sequence[str]) -> Batch:
        read = self._tokenize(targets, self.settings.max_new_tokens)
        labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, IGNORED)
        return {"labels": labels, "targets": list(targets)}

    def target_ids(self, target: str) -> list[int]:
        """The gold's tokens, special ones included."""
        ids: list[int] = self.tokenizer(target, verbose=False)["input_ids"]
        return ids

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """States (batch, tokens, d) and their mask (batch, tokens): passages laid end to end.

        Passages of about one length are encoded together, so that hardly any padding is; what is
        padding or absent is not in the states, but at the end of the shorter examples.
        """
        ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
        lengths = [length for passages in batch["lengths"] for length in passages]
        encoder, encoded, start, places = self.net.get_encoder(), [], 0, {}
        for group in length_groups(lengths, self._tokens_at_once):
            longest = lengths[group[0]]
            states = encoder(input_ids=ids[group, :longest], attention_mask=mask[group, :longest])
            encoded.append(states.last_hidden_state.flatten(0, 1))
            for passage in group:
                places[passage] = torch.arange(start, start + lengths[passage])
                start += longest
        where, read = _end_to_end(places, len(batch["input_ids"]), batch["input_ids"].shape[1])
        states = torch.cat(encoded).index_select(0, where.flatten().to(ids.device))
        return states.view(*where.shape, -1), read.to(mask)

    @property
    def _tokens_at_once(self) -> int:
        return TOKENS_AT_ONCE_ON_CPU if self.device.type == "cpu" else TOKENS_AT_ONCE

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the targets' tokens, and these."""
        states, mask = self.encode(batch)
        labels, wanted = batch["labels"], batch["labels"] != IGNORED
        read = self._read(states, mask, rows=1)
        shift = getattr(self.net, "prepare_decoder_input_ids_from_labels", None)
        if shift is None or not hasattr(self.net, "lm_head"):  # it has its own way with labels
            return self.net(**read, labels=labels).logits[wanted], labels[wanted]
        with only_logits_of(self.net, wanted):
            logits = self.net(**read, decoder_input_ids=shift(labels)).logits
        return (logits if logits.dim() == 2 else logits[wanted]), labels[wanted]

    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens of each answer, without the decoder's start token."""
        read = self._read(*self.encode(batch), self.rows_per_example)
        rows = self.net.generate(**read, **{**self.generation, **options})
        new: torch.Tensor = rows[:, self.answer_start(batch) :]
        return new

    def answer_start(self, batch: Batch) -> int:
        """After the decoder's start token."""
        return 1

    def likelihoods(self, batch: Batch, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The log likelihood of each row of tokens as the answer, (batch, rows)."""
        examples = len(batch["ids"])
        targets = pad_sequence([torch.tensor(row) for row in rows], True, IGNORED)
        targets = targets.to(self.device).repeat(examples, 1)
        read = self._read(*self.encode(batch), len(rows))
        read = {name: _repeated(value, len(rows)) for name, value in read.items()}
        shifted = self.net.prepare_decoder_input_ids_from_labels(targets)
        logits = self.net(**read, decoder_input_ids=shifted).logits
        return log_likelihoods(logits, targets).view(examples, -1)

    def _read(self, states: torch.Tensor, mask: torch.Tensor, rows: int) -> dict[str, Any]:
        """What the decoder is given of encodings which `rows` answers of each example read."""
        if rows == 1 or not self.may_share or not attention.use(self.net):
            encodings = BaseModelOutput(last_hidden_state=states)
            return {"encoder_outputs": encodings, "attention_mask": mask}
        return {
            "encoder_outputs": shared_keys.stand_in(states),
            "attention_mask": mask,
            "cache": shared_keys.shared_cache(self.net, states, mask),
        }


def _end_to_end(
    places: Mapping[int, torch.Tensor], examples: int, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each token of an example is found, (examples, tokens), and which of them there are.

    `places` are those of each passage's tokens; an example has up to `most` passages.
    """
    rows = [
        torch.cat([places[n] for n in range(row * most, (row + 1) * most) if n in places])
        for row in range(examples)
    ]
    there = [torch.ones_like(row) for row in rows]
    return pad_sequence(rows, batch_first=True), pad_sequence(there, batch_first=True)


def _repeated(value: Any, times: int) -> Any:
    """Tensors with each row so many times; a cache that is shared stays one."""
    if isinstance(value, BaseModelOutput):
        return BaseModelOutput(last_hidden_state=_repeated(value.last_hidden_state, times))
    return value.repeat_interleave(times, dim=0) if isinstance(value, torch.Tensor) else value


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
