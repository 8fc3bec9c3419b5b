"""Encoder-decoder models, for In-Prompt Augmentation and for Fusion-in-Decoder.

Each passage is encoded separately, the encodings are concatenated, and the decoder attends to all
of them (Izacard and Grave, arXiv 2007.01282). With one passage this is the plain model.
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
from lamp_exp.models.prediction import CACHE_OPTIONS, FREE
from lamp_exp.models.soft_tokens import SOFT_TOKENS, network_inputs
from lamp_exp.models.speed import shared_keys
from lamp_exp.models.training import IGNORED, TrainableModel, log_likelihoods
from lamp_exp.values import ModelSettings, Prompt

# Tokens that are encoded at once, padding included: enough to keep a GPU busy, and what the caches
# of a CPU hold.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_CPU = 1 << 15, 1 << 11
SAMPLE_TOKENIZER = Path(__file__).parent / "tiny"  # knows the words of the made-up sample


class Seq2Seq(TrainableModel):
    """Any encoder-decoder of transformers."""

    multiple_passages = True
    auto_class = AutoModelForSeq2SeqLM

    def __init__(
        self,
        name: str | None,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        fresh: Mapping[str, Any] | None = None,
        decoding: str = FREE,
        speed: bool = True,
    ) -> None:
        """`name` is a hub id or a folder; None means the tokenizer of the made-up sample.

        `fresh` describes a T5 with random weights (fields of T5Config), used if the folder holds
        a tokenizer only.
        """
        name = name or str(SAMPLE_TOKENIZER)
        super().__init__(name, settings, generation, dtype, decoding, speed, {})
        self.fresh = fresh if fresh is not None and _has_no_model(Path(name)) else None
        self.shares_keys = False

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

    def validate_weights(self) -> None:
        """Random weights need no file."""
        if self.fresh is None:
            super().validate_weights()

    def small_network(self) -> PreTrainedModel:
        """A T5 of one layer."""
        sizes = dict.fromkeys(("d_model", "d_kv", "d_ff"), 8)
        return fresh_t5(self.tokenizer, {**sizes, "num_layers": 1, "num_heads": 1})

    def positions(self) -> int:
        """Encoder and decoder read a sequence each."""
        return max(self.settings.max_length, self.settings.max_new_tokens)

    def load(self, name: str) -> PreTrainedModel:
        """Pretrained weights, or random ones of the described size."""
        if self.fresh is not None and name == self.name:
            network = fresh_t5(self.tokenizer, self.fresh)
        else:
            network = super().load(name)
        self.shares_keys = self.speed and shared_keys.enable(network)
        return network

    @property
    def has_random_weights(self) -> bool:
        return self.fresh is not None

    def facts(self) -> Mapping[str, Any]:
        """Where the weights come from, besides what all models report."""
        return {**super().facts(), "weights": "random" if self.fresh is not None else self.name}

    # --- batches -------------------------------------------------------------------------------

    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """`input_ids` and `attention_mask` of shape (batch, passages, length).

        The mask of a passage that an example lacks is all zeros; `lengths` are the passages' own.
        """
        passages = max(len(prompt.passages) for prompt in prompts)
        texts = [text for prompt in prompts for text in prompt.passages]
        tokens = self._tokenize(texts, self.settings.max_length)
        shape = (len(prompts), passages, tokens["input_ids"].shape[1])
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        mask = torch.zeros(shape, dtype=torch.long)
        present = torch.tensor([[n < len(p.passages) for n in range(passages)] for p in prompts])
        ids[present], mask[present] = tokens["input_ids"], tokens["attention_mask"]
        batch = {"ids": [p.id for p in prompts], "input_ids": ids, "attention_mask": mask}
        batch["lengths"] = mask.sum(dim=-1).tolist()
        return batch if targets is None else batch | self._labels(targets)

    def _tokenize(self, texts: Sequence[str], max_length: int) -> Any:
        return self.tokenizer(
            list(texts),
            max_length=max_length,
            truncation=True,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )

    def _labels(self, targets: Sequence[str]) -> Batch:
        tokens = self._tokenize(targets, self.settings.max_new_tokens)
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, IGNORED)
        return {"labels": labels, "targets": list(targets)}

    def target_ids(self, target: str) -> list[int]:
        """The tokens of a target, special ones included."""
        ids: list[int] = self.tokenizer(target, verbose=False)["input_ids"]
        return ids

    # --- the network ---------------------------------------------------------------------------

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """States (batch, tokens, d) and their mask (batch, tokens): passages concatenated.

        Passages of similar length are encoded together, so that there is little padding; the
        states hold none but at the end of the shorter examples. Soft tokens stand in front of each
        passage.
        """
        ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
        lengths = [length for passages in batch["lengths"] for length in passages]
        on_cpu = self.device.type == "cpu"
        at_once = TOKENS_AT_ONCE_ON_CPU if on_cpu else TOKENS_AT_ONCE
        encoder, encoded, start, places = self.net.get_encoder(), [], 0, {}
        examples, passages = batch["input_ids"].shape[:2]
        soft = batch.get(SOFT_TOKENS)
        more = 0 if soft is None else soft.shape[1]
        for group in length_groups(lengths, at_once):
            longest = lengths[group[0]]
            own = None if soft is None else soft[[passage // passages for passage in group]]
            tokens = (ids[group, :longest], mask[group, :longest])
            states = encoder(**network_inputs(self.net, *tokens, own))
            encoded.append(states.last_hidden_state.flatten(0, 1))
            for passage in group:
                places[passage] = torch.arange(start, start + more + lengths[passage])
                start += more + longest
        where, real = _concatenated(places, examples, passages)
        states = torch.cat(encoded).index_select(0, where.flatten().to(ids.device))
        return states.view(*where.shape, -1), real.to(mask)

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the target tokens, and these."""
        states, mask = self.encode(batch)
        labels, wanted = batch["labels"], batch["labels"] != IGNORED
        logits = self.net(**self._decoder_inputs(states, mask, rows=1), labels=labels).logits
        return logits[wanted], labels[wanted]

    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens of each answer, without the decoder's start token."""
        inputs = self._decoder_inputs(*self.encode(batch), self.rows_per_example)
        rows = self.net.generate(**inputs, **{**self.generation, **options})
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
        inputs = self._decoder_inputs(*self.encode(batch), len(rows), targets.shape[1])
        inputs = {name: _repeated(value, len(rows)) for name, value in inputs.items()}
        shifted = self.net.prepare_decoder_input_ids_from_labels(targets)
        logits = self.net(**inputs, decoder_input_ids=shifted).logits
        return log_likelihoods(logits, targets).view(examples, -1)

    def _decoder_inputs(
        self, states: torch.Tensor, mask: torch.Tensor, rows: int, tokens: int | None = None
    ) -> dict[str, Any]:
        """The network's inputs for `rows` answers to each example's encodings.

        `tokens` is the length of the answers where all of them are decoded at once.
        """
        cache = None
        if self.shares_keys and not CACHE_OPTIONS & self.generation.keys():
            if tokens and shared_keys.reads_encodings(self.net, rows * tokens):
                cache = shared_keys.encodings_cache(self.net, states)
            elif rows > 1:
                cache = shared_keys.shared_cache(self.net, states, mask)
        if cache is None:
            encodings = BaseModelOutput(last_hidden_state=states)
            return {"encoder_outputs": encodings, "attention_mask": mask}
        encodings = shared_keys.placeholder(states)
        return {"encoder_outputs": encodings, "attention_mask": mask, "cache": cache}


def _concatenated(
    places: Mapping[int, torch.Tensor], examples: int, passages: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The place of each token of an example, (examples, tokens), and which of these are real.

    `places` are those of each passage's tokens; an example has up to `passages` of them.
    """
    rows = [
        torch.cat([places[n] for n in range(row * passages, (row + 1) * passages) if n in places])
        for row in range(examples)
    ]
    real = [torch.ones_like(row) for row in rows]
    return pad_sequence(rows, batch_first=True), pad_sequence(real, batch_first=True)


def _repeated(value: Any, times: int) -> Any:
    """Repeats each row of tensors; a shared cache stays as it is."""
    if isinstance(value, BaseModelOutput):
        return BaseModelOutput(last_hidden_state=_repeated(value.last_hidden_state, times))
    return value.repeat_interleave(times, dim=0) if isinstance(value, torch.Tensor) else value


def fresh_t5(tokenizer: Any, sizes: Mapping[str, Any]) -> T5ForConditionalGeneration:
    """A T5 with random weights and the tokenizer's vocabulary and special tokens."""
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


def _has_no_model(folder: Path) -> bool:
    return folder.is_dir() and not (folder / CONFIG_NAME).exists()
