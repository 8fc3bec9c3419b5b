"""Answering prompts with a transformers model: loading, decoding, prediction."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME, cached_file
from transformers.utils import logging as transformers_logging

from lamp_exp.artefacts import Adapter
from lamp_exp.contracts import Model, PredictionJournal
from lamp_exp.errors import InputError, first_line, naming, naming_one
from lamp_exp.hub import (
    LOAD_ERRORS,
    check_vocabulary,
    check_weight_files,
    load_error,
    only_local_files,
    refuse_missing_weights,
)
from lamp_exp.models.batches import (
    Batch,
    batches_in_order,
    derived_seed,
    loader_workers,
    longest_first,
)
from lamp_exp.models.generation import GENERATION_OPTIONS, check_generation
from lamp_exp.models.labels import Labels
from lamp_exp.models.likelihood import log_likelihoods
from lamp_exp.models.progress_bars import progress_bar
from lamp_exp.models.sampling import SamplingByRow
from lamp_exp.models.soft_tokens import SOFT_TOKENS
from lamp_exp.models.threads import limit_threads, threads_restored
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.progress import without_bars
from lamp_exp.values import ModelSettings, Prediction, Prompt

for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
    logging.getLogger(name).setLevel(logging.WARNING)
transformers_logging.disable_progress_bar()  # of loading and saving

log = logging.getLogger("lamp_exp")
FREE, LABELS, LIKELIHOOD = DECODINGS = ("free", "labels", "likelihood")
CACHE_OPTIONS = {"use_cache", "cache_implementation", "cache_config"}
SAMPLING_OPTIONS = {
    "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
}  # fmt: skip
TOKENS = {"bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"}
WITHOUT_EFFECT = {*CACHE_OPTIONS, "max_length"}  # max_new_tokens is always given
NEUTRAL = dict.fromkeys(  # all other options are neutral at 0, False and None
    (
        "num_beams", "num_return_sequences", "temperature", "top_p", "typical_p", "length_penalty",
        "repetition_penalty", "encoder_repetition_penalty",
    ),
    1,
)  # fmt: skip


class PredictionModel(pl.LightningModule, Model):
    """A transformers model that answers prompts.

    The tokenizer loads when it is first needed, the weights in `configure_model`: prompts can be
    made without them.
    """

    distributed = True
    gives_likelihoods = True
    uses_generation_config = True
    auto_class: ClassVar[Any]  # of transformers, whose `from_pretrained` loads the network

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str,
        decoding: str,
        speed: bool,
        load_options: Mapping[str, Any],
    ) -> None:
        """`name` is a hub id or a folder, `generation` holds options of GenerationConfig.

        `decoding` is `free`, or for tasks with labels: `labels` (generates tokens of labels only)
        or `likelihood` (chooses the label that is likeliest as a whole). `speed` allows what is in
        `lamp_exp.models.speed`. `load_options` are passed to `from_pretrained`.
        """
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer questions
        self.name = name
        self.settings = settings
        self.generation = _checked_generation(generation)
        self.generation["max_new_tokens"] = settings.max_new_tokens
        self.dtype_name = dtype
        self.decoding = decoding
        self.speed = speed
        self.load_options = load_options
        self.network: PreTrainedModel | None = None
        self.adapter: Adapter | None = None
        self._prompts: Sequence[Prompt] = []
        self._journal: PredictionJournal | None = None
        self._run_facts: dict[str, Any] = {}  # the device and the threads of the last prediction

    @abstractmethod
    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """The tensors of a batch; with targets, also its labels."""

    @abstractmethod
    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens of each answer, (batch, new tokens), padded on the right.

        `options` of transformers' `generate` take precedence over the configured ones.
        """

    @abstractmethod
    def answer_start(self, batch: Batch) -> int:
        """How many tokens precede an answer in the rows that `generate` extends."""

    @abstractmethod
    def target_ids(self, target: str) -> list[int]:
        """The tokens of a target, end token included."""

    @abstractmethod
    def likelihoods(self, batch: Batch, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The log likelihood of each row of tokens as the answer, (batch, rows)."""

    # --- loading -------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the hub id or folder."""
        return load_tokenizer(self.name, **self.load_options)

    @cached_property
    def token_counter(self) -> TransformersTokenCounter:
        """Counts as the tokenizer does."""
        return TransformersTokenCounter(self.tokenizer)

    @cached_property
    def labels(self) -> Labels:
        texts = self.settings.labels
        return Labels(texts, tuple(tuple(self.target_ids(text)) for text in texts))

    @property
    def weights_dtype(self) -> torch.dtype:
        """The type that the weights are loaded as."""
        dtype: torch.dtype = getattr(torch, self.dtype_name)
        return dtype

    def load(self, name: str) -> PreTrainedModel:
        """The pretrained network of a hub id or folder."""
        local = {"local_files_only": only_local_files(name)}
        try:
            with without_bars():  # of GGUF files
                network, info = self.auto_class.from_pretrained(
                    name,
                    dtype=self.weights_dtype,
                    output_loading_info=True,
                    adapter_kwargs=dict(local),  # else transformers asks the hub for an adapter
                    **local,
                    **self.load_options,
                )
        except LOAD_ERRORS as error:
            raise load_error("model.name", name, "weights", error) from error
        refuse_missing_weights(f"model.name={name}", info["missing_keys"])
        return network

    def configure_callbacks(self) -> list[Callback]:
        """Puts our way to show progress in the place of Lightning's."""
        bar = self.trainer.progress_bar_callback
        if bar is None:
            return []
        self.trainer.callbacks.remove(bar)  # type: ignore[attr-defined]
        return [progress_bar()]

    def configure_model(self) -> None:
        """Loads the weights, once."""
        if self.network is None:
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()  # an earlier run's do not count
            torch.manual_seed(self.settings.seed)  # for random weights
            self.network = self.load(self.name)
            if own := self.network.generation_config:
                for name, value in _drop_unused(own).items():
                    log.warning("generation_config.json: %s=%s is not used", name, value)
        if self.adapter is not None:
            self.adapter.prepare(self)

    @property
    def net(self) -> PreTrainedModel:
        assert self.network is not None, "configure_model loads it"
        return self.network

    # --- the contract --------------------------------------------------------------------------

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Tokenizer, labels, weights and trainer must fit together."""
        if not isinstance(getattr(torch, self.dtype_name, None), torch.dtype):
            raise InputError(
                f"model.dtype={self.dtype_name} does not exist: float32, bfloat16 and float16 do"
            )
        assert self.tokenizer is not None
        if self.decoding not in DECODINGS:
            raise InputError(
                f"model.decoding={self.decoding} must be one of {', '.join(DECODINGS)}"
            )
        if self.decoding == LIKELIHOOD:
            for name, value in self.generation.items():
                if value and name not in ("num_beams", "max_new_tokens"):
                    raise InputError(
                        f"model.generation.{name} has no effect with model.decoding={LIKELIHOOD}"
                    )
        if self.decoding != FREE:
            self.labels.validate(self.settings.max_new_tokens, self.decoding)
        processes = 1
        if trainer is not None:
            for token in ("pad_token", "eos_token"):
                if getattr(self.tokenizer, token) is None:
                    raise InputError(
                        f"model.name={self.name}: its tokenizer has no {token}: name one in its "
                        "tokenizer_config.json"
                    )
            self.validate_weights()
            self._validate_generation()
            processes = _build(trainer).world_size
        if trains:
            self.validate_training(precision, processes)

    @abstractmethod
    def small_network(self) -> PreTrainedModel:
        """A network of a few weights that generates in the same way, with the same vocabulary."""

    def _validate_generation(self) -> None:
        """Tries the options on a small network: transformers checks most when it generates."""
        if self.decoding == LIKELIHOOD:
            return
        shortest = self.generation.get("min_new_tokens") or 0
        if shortest > self.settings.max_new_tokens:
            raise InputError(
                f"model.generation.min_new_tokens={shortest} is more than max_new_tokens="
                f"{self.settings.max_new_tokens}"
            )
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            network = self.small_network()
            own = self._own_generation_file()
            if own is not None and self.decoding == FREE:
                network.generation_config = GenerationConfig.from_pretrained(own.parent)
                _drop_unused(network.generation_config)
            options = {**self.generation, "max_new_tokens": max(shortest, 1)}
            special = self.tokenizer.all_special_ids
            token = next(id for id in range(len(self.tokenizer)) if id not in special)
            prompt = torch.tensor([[token]])
            try:
                network.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
            except Exception as error:  # of whatever kind a wrong value leads to
                given = ", ".join(f"{n}={v}" for n, v in options.items() if n != "max_new_tokens")
                where = "" if own is None else f" and {own}"
                raise InputError(
                    f"model.generation ({given}){where} cannot be used: {first_line(error)}"
                ) from error

    def _own_generation_file(self) -> Path | None:
        """The model's own generation options; None if it has none, or random weights."""
        try:
            path = cached_file(
                self.name, GENERATION_CONFIG_NAME, local_files_only=only_local_files(self.name)
            )
        except OSError:  # the folder or the hub has no such file
            return None
        return None if path is None else Path(path)

    @abstractmethod
    def validate_training(self, precision: str, processes: int) -> None:
        """Raises InputError for settings with which `processes` could not train it."""

    def validate_weights(self) -> None:
        """Raises InputError if a file is missing or cut off, or the files do not fit together.

        Nothing is loaded but the configuration.
        """
        try:
            _check_files(Path(self.name))
            config = AutoConfig.from_pretrained(
                self.name, local_files_only=only_local_files(self.name), **self.load_options
            )
        except LOAD_ERRORS as error:
            raise load_error("model.name", self.name, "weights", error) from error
        if own := self._own_generation_file():  # transformers would do without a damaged one
            try:
                GenerationConfig.from_pretrained(own.parent)
            except LOAD_ERRORS as error:
                raise InputError(f"model.name={self.name}: {first_line(error)}") from error
        if config.is_encoder_decoder != self.multiple_passages:
            raise InputError(
                f"model.name={self.name} is {_kind(config.is_encoder_decoder)}, but this model= "
                f"reads {_kind(self.multiple_passages)}"
            )
        embeddings = getattr(config.get_text_config(encoder=True), "vocab_size", None)
        check_vocabulary(self.tokenizer, f"model.name={self.name}", embeddings)
        context, needed = getattr(config, "max_position_embeddings", None), self.positions()
        if context is not None and needed > context:
            raise InputError(
                f"max_length={self.settings.max_length} and max_new_tokens="
                f"{self.settings.max_new_tokens} need {needed} positions, but model.name="
                f"{self.name} has a context of {context} tokens: lower max_length"
            )

    @abstractmethod
    def positions(self) -> int:
        """The most tokens that the network reads as one sequence, its answer included."""

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., pl.Trainer],
        journal: PredictionJournal | None = None,
    ) -> list[Prediction]:
        """One prediction per prompt, in order; those in `journal` are not made again.

        Several processes need a journal, in which each of them leaves its share.
        """
        self._journal, made = journal, _by_id(journal.read() if journal else ())
        self._prompts = [prompt for prompt in prompts if prompt.id not in made]
        runner = trainer(enable_checkpointing=False, use_distributed_sampler=False)
        self._run_facts["device"] = _device_name(runner.strategy.root_device)
        if made:
            log.info("%d of %d questions are answered already", len(made), len(prompts))
        if self._prompts or runner.world_size > 1:
            with threads_restored():
                batches: list[Any] = runner.predict(self) or []
            made |= _by_id(Prediction(*row) for batch in batches for row in batch)
        if runner.world_size > 1:
            assert journal is not None, "several processes need one"
            runner.strategy.barrier()
            made = _by_id(journal.read())
        return [made[prompt.id] for prompt in prompts]

    def use_adapter(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def log_likelihoods(
        self, groups: Sequence[tuple[Sequence[Prompt], str]], trainer: Callable[..., pl.Trainer]
    ) -> list[list[float]]:
        """Answers are cut at max_new_tokens."""
        return log_likelihoods(self, groups, trainer)

    def facts(self) -> Mapping[str, Any]:
        """Generation as it really was, batch size, threads, device, memory of a GPU."""
        memory = {}
        if torch.cuda.is_available():
            memory["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() >> 20
        return {
            "generation": {**self._own_generation(), **self.generation},
            "own_generation": self._own_generation_in_effect(),
            "decoding": self.decoding,
            "batch_size": self.settings.predict_batch_size,
            "threads": torch.get_num_threads(),  # another number, or device, rounds differently
            **self._run_facts,
            **memory,
        }

    def _own_generation(self) -> dict[str, Any]:
        """The options that the weights bring, of which labels need the special tokens only."""
        own = self.network.generation_config if self.network is not None else None
        if own is not None and self.decoding != FREE:
            own = _tokens_only(own)
        found = own.to_diff_dict() if own else {}
        return {name: value for name, value in found.items() if name != "transformers_version"}

    def _own_generation_in_effect(self) -> dict[str, Any]:
        """Those that change answers: readers of the results should know them."""
        own = {**self._own_generation(), **dict.fromkeys(self.generation)}
        return {
            name: value
            for name, value in own.items()
            if value is not None
            and value != NEUTRAL.get(name, 0)
            and not name.startswith("_")
            and not name.endswith("_token_id")
            and name not in WITHOUT_EFFECT
            and (self.samples or name not in SAMPLING_OPTIONS)
        }

    # --- Lightning -----------------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """The number of processes that make batches for this one."""
        return loader_workers(self.trainer.strategy.root_device.type, self.trainer.num_devices)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The process's share of the prompts without prediction, longest first."""
        # Another process may have begun to write when this one reads: the first one's list counts.
        ids = set(self.trainer.strategy.broadcast([prompt.id for prompt in self._prompts]))
        prompts = [prompt for prompt in self._prompts if prompt.id in ids]
        own = slice(self.trainer.global_rank, None, self.trainer.world_size)
        groups = None if self.adapter is None else self.adapter.groups(prompts)
        if groups is None:
            share, size = longest_first(prompts)[own], self.settings.predict_batch_size
        else:
            share, size = [prompt for group in groups[own] for prompt in group], 1
        return batches_in_order(share, size, self._collate_prompts, self.workers)

    def _collate_prompts(self, prompts: Sequence[Prompt]) -> Batch:
        with naming_one(self, "collate", prompts, lambda prompt: self.collate([prompt])):
            return self.collate(prompts)

    def on_predict_start(self) -> None:
        self._run_facts["threads"] = limit_threads(self.net, self.device)

    def on_predict_batch_start(self, batch: Batch, *_: Any) -> None:
        if self.adapter is not None:
            with naming(self.adapter, "enter", ", ".join(batch["ids"])):
                self.adapter.enter(self, batch["ids"])

    def _with_soft_tokens(self, batch: Batch) -> Batch:
        """The batch with the vectors that its adapter puts in front of each prompt, if any."""
        if self.adapter is None:
            return batch
        with naming(self.adapter, "soft_tokens", ", ".join(batch["ids"])):
            vectors = self.adapter.soft_tokens(self, batch["ids"])
        return batch if vectors is None else {**batch, SOFT_TOKENS: vectors}

    def predict_step(self, batch: Batch, index: int) -> list[tuple[Any, ...]]:
        """Plain tuples: Lightning cannot carry frozen dataclasses."""
        prompts = (prompt for prompt in self._prompts if prompt.id in batch["ids"])
        with naming_one(self, "predict", prompts, self._answer_alone):
            answers = self.answers(self._with_soft_tokens(batch))
        if self._journal is not None:
            self._journal.append(answers)
        return [astuple(answer) for answer in answers]

    def _answer_alone(self, prompt: Prompt) -> None:
        batch = self.transfer_batch_to_device(self.collate([prompt]), self.device, 0)
        self.answers(self._with_soft_tokens(batch))

    # --- decoding ------------------------------------------------------------------------------

    def answers(self, batch: Batch) -> list[Prediction]:
        """The answers to a batch of prompts."""
        if self.decoding == LIKELIHOOD:
            return self._decode_likelihood(batch)
        decode = self._decode_labels if self.decoding == LABELS else self._decode_free
        if not self.samples:
            return decode(batch)
        seeds = [derived_seed(self.settings.seed, id) for id in batch["ids"]]
        with SamplingByRow(seeds, self.device):
            return decode(batch)

    @property
    def samples(self) -> bool:
        """Whether answers are drawn; the weights may bring that, too."""
        own = self.network.generation_config if self.network is not None else None
        return bool(self.generation.get("do_sample", getattr(own, "do_sample", False)))

    def _decode_free(self, batch: Batch) -> list[Prediction]:
        rows = self.generate(batch)
        ends = self.end_tokens()
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        answers = []
        for id, row, text in zip(batch["ids"], rows.tolist(), texts, strict=True):
            end = next((n for n, token in enumerate(row) if token in ends), None)
            length = len(row) if end is None else end + 1
            answer = Prediction(id, text, length, capped=end is None)
            answers.append(self.without_reasoning(answer, row[:length]))
        return answers

    def without_reasoning(self, answer: Prediction, tokens: Sequence[int]) -> Prediction:
        """The answer without what its model marks as reasoning; `tokens` are all of the output."""
        return answer

    def _decode_labels(self, batch: Batch) -> list[Prediction]:
        start, labels = self.answer_start(batch), self.labels

        def allowed(row: int, tokens: torch.Tensor) -> list[int]:
            return labels.next_tokens(tokens[start:].tolist())

        options = {"prefix_allowed_tokens_fn": allowed, "max_new_tokens": labels.max_tokens}
        own = self.net.generation_config
        self.net.generation_config = _tokens_only(own)  # its penalties would choose other labels
        try:
            rows = self.generate(batch, **options).tolist()
        finally:
            self.net.generation_config = own
        return self._label_predictions(batch, [labels.index(row) for row in rows])

    def _decode_likelihood(self, batch: Batch) -> list[Prediction]:
        scores = self.likelihoods(batch, self.labels.token_ids)
        return self._label_predictions(batch, scores.argmax(dim=-1).tolist())

    def _label_predictions(self, batch: Batch, numbers: Sequence[int]) -> list[Prediction]:
        texts, token_ids = self.labels.texts, self.labels.token_ids
        pairs = zip(batch["ids"], numbers, strict=True)
        return [Prediction(id, texts[n], len(token_ids[n])) for id, n in pairs]

    def end_tokens(self) -> set[int]:
        """The tokens that end an answer."""
        config = self.net.generation_config
        own = config.eos_token_id if config else self.tokenizer.eos_token_id
        ends = self.generation.get("eos_token_id", own)
        return set(ends) if isinstance(ends, list) else {ends}

    @property
    def rows_per_example(self) -> int:
        """How many answers to a question are generated side by side: its beams."""
        config = self.net.generation_config
        return self.generation.get("num_beams", getattr(config, "num_beams", None)) or 1


def _by_id(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    return {prediction.id: prediction for prediction in predictions}


def _build(trainer: Callable[..., pl.Trainer]) -> pl.Trainer:
    """Builds a trainer, because Lightning refuses wrong options only then."""
    try:
        return trainer(logger=False, enable_checkpointing=False, max_epochs=1)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"trainer: {first_line(error)} (see trainer.accelerator, trainer.devices and "
            "trainer.precision; trainer=cpu runs anywhere)"
        ) from error


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _checked_generation(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options; raises InputError for one that is unknown or would have no effect."""
    check_generation(options)
    config = GenerationConfig()
    for name, value in options.items():
        setattr(config, name, value)
    try:
        config.validate(strict=True)
    except (ValueError, TypeError) as error:
        lines = str(error).splitlines()
        fault = next((line for line in lines if line.startswith("- ")), lines[0])
        raise InputError(f"model.generation: {fault.removeprefix('- ')}") from error
    return dict(options)


def _tokens_only(config: GenerationConfig) -> GenerationConfig:
    """A model's special tokens, without its other options."""
    own = config.to_diff_dict()
    return GenerationConfig(**{n: value for n, value in own.items() if n in TOKENS})


def _drop_unused(config: GenerationConfig) -> dict[str, Any]:
    """Removes and returns a model's own options that answers here do not obey."""
    known = GENERATION_OPTIONS | {"max_length", "max_new_tokens", "transformers_version"}
    own = config.to_diff_dict()
    unused = {
        name: value
        for name, value in own.items()
        if name not in known and not name.startswith("_") and value != NEUTRAL.get(name, 0)
    }
    for name in unused:
        setattr(config, name, None)
    return unused


def _kind(encoder_decoder: bool) -> str:
    if encoder_decoder:
        return "an encoder-decoder (model=flan_t5_base)"
    return "a decoder-only model (model=causal)"


def _check_files(folder: Path) -> None:
    """Raises one of LOAD_ERRORS for a folder whose weights are missing or cut off."""
    if not folder.is_dir():
        return
    if (folder / "adapter_config.json").is_file():
        raise ValueError("it holds an adapter: merge it into its model, and save that")
    if not check_weight_files(folder):
        raise FileNotFoundError("it holds none")
