"""What encoder-decoder and decoder-only models share in answering: loading, decoding, prediction.

A LightningModule that knows its tokenizer from the start and its weights only once they are
needed (`configure_model`), so that prompts can be made without them.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from lamp_exp.contracts import Model, PredictionJournal
from lamp_exp.errors import InputError, first_line
from lamp_exp.models import checkpoints as fitting
from lamp_exp.models.batches import Batch, batches_in_order, by_length, seed_of, workers_for
from lamp_exp.models.labels import Labels
from lamp_exp.models.token_counter import TransformersTokenCounter
from lamp_exp.values import ModelSettings, Prediction, Prompt

for chatty in ("pytorch_lightning", "lightning_fabric", "lightning"):
    logging.getLogger(chatty).setLevel(logging.WARNING)
transformers_logging.disable_progress_bar()  # of loading and saving; ours are enough
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # on CPUs they would compete
warnings.filterwarnings("ignore", "Checkpoint directory .* is not empty")  # it is gone on with
warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own, about torch

log = logging.getLogger("lamp_exp")
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.h5", "*.msgpack")
FREE, LABELS, LIKELIHOOD = "free", "labels", "likelihood"


class PredictionModel(pl.LightningModule, Model):
    """A transformers model that reads prompts and writes answers."""

    multiple_passages = False
    distributed = True
    allow_zero_length_dataloader_with_multiple_devices = True  # more processes than questions
    loader: Callable[..., Any]  # `from_pretrained` of the right kind of network

    # Where weights come from, besides `name`: the name of a GGUF file, say.
    where: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str,
        decoding: str = FREE,
    ) -> None:
        """`name` is a hub id or a folder, `generation` holds options of GenerationConfig.

        `decoding` is `free`, or for tasks with labels: `labels` (no other tokens are decoded) or
        `likelihood` (the label whose tokens are the likeliest together; nothing is decoded).
        """
        super().__init__()
        self.name = name
        self.dtype_name = dtype
        self.settings = settings
        self.decoding = decoding
        self.generation = checked_generation(generation) | {
            "max_new_tokens": settings.max_new_tokens
        }
        self.network: PreTrainedModel | None = None
        self._asked: Sequence[Prompt] = []
        self._journal: PredictionJournal | None = None
        self.ran_on = ""  # the device that answered

    @abstractmethod
    def load_tokenizer(self) -> Any:
        """The tokenizer, which needs no weights."""

    @abstractmethod
    def load(self) -> PreTrainedModel:
        """The network with its weights."""

    @abstractmethod
    def collate(self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None) -> Batch:
        """Tensors of a batch; with targets, also its labels."""

    @abstractmethod
    def generate(self, batch: Batch, **options: Any) -> torch.Tensor:
        """The new tokens of each answer, (batch, new tokens), padded on the right.

        `options` are of transformers' `generate`, and come before those of the configuration.
        """

    @abstractmethod
    def answer_start(self, batch: Batch) -> int:
        """How many tokens stand before an answer in the rows that `generate` extends."""

    @abstractmethod
    def target_ids(self, target: str) -> list[int]:
        """A gold as the model learns it: its tokens and the end."""

    @abstractmethod
    def likelihoods(self, batch: Batch, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The log likelihood of each row of tokens as the answer, (batch, rows)."""

    @property
    def weights_dtype(self) -> torch.dtype:
        """As which the weights are loaded."""
        dtype: torch.dtype = getattr(torch, self.dtype_name)
        return dtype

    @cached_property
    def tokenizer(self) -> Any:
        """Loaded when it is first needed: the user's mistakes in the data come first."""
        return self.load_tokenizer()

    @cached_property
    def token_counter(self) -> TransformersTokenCounter:
        """The tokenizer as prompts need it."""
        return TransformersTokenCounter(self.tokenizer)

    @cached_property
    def labels(self) -> Labels:
        """The task's labels as tokens."""
        texts = self.settings.labels
        return Labels(texts, tuple(tuple(self.target_ids(text)) for text in texts))

    # --- Lightning -----------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Loads the weights, once."""
        if self.network is None:
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()  # an earlier run's do not count
            torch.manual_seed(self.settings.seed)  # for weights that are drawn and not read
            self.network = self.load()

    @property
    def net(self) -> PreTrainedModel:
        """The loaded network."""
        assert self.network is not None, "configure_model comes first"
        return self.network

    @property
    def workers(self) -> int:
        """How many processes of its own each process has make batches."""
        return workers_for(self.trainer.strategy.root_device.type, self.trainer.num_devices)

    def predict_dataloader(self) -> DataLoader[Any]:
        """A process's share of what is not answered yet, longest prompts first."""
        # Others may have begun to write when a process looks: the first one's list counts.
        asked = set(self.trainer.strategy.broadcast([prompt.id for prompt in self._asked]))
        prompts = by_length([prompt for prompt in self._asked if prompt.id in asked])
        share = prompts[self.trainer.global_rank :: self.trainer.world_size]
        size = self.settings.predict_batch_size
        return batches_in_order(share, size, self.collate, self.workers)

    def predict_step(self, batch: Batch, index: int) -> list[tuple[str, str, int, bool]]:
        """Plain tuples, as Lightning cannot carry frozen values."""
        torch.manual_seed(seed_of(self.settings.seed, *batch["ids"]))  # for sampled answers
        answers = self.answers(batch)
        if self._journal is not None:
            self._journal.append(answers)
        return [(a.id, a.output, a.tokens, a.capped) for a in answers]

    # --- the contract --------------------------------------------------------------------------

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Tokenizer, labels, weights and trainer must be there before any long work."""
        if not isinstance(getattr(torch, self.dtype_name, None), torch.dtype):
            raise InputError(
                f"model.dtype={self.dtype_name} does not exist: float32, bfloat16 and float16 do"
            )
        assert self.tokenizer is not None
        if self.decoding not in self._decodings:
            raise InputError(
                f"model.decoding={self.decoding} must be one of {', '.join(self._decodings)}"
            )
        if self.decoding != FREE:
            self.labels.check(self.settings.max_new_tokens, self.decoding)
        world = 1
        if trainer is not None:
            self.refuse_without_weights()
            world = fitting.built_trainer(trainer).world_size
        if trains:
            self.check_training(precision, world)

    @abstractmethod
    def check_training(self, precision: str, world: int) -> None:
        """Raises InputError for what nothing can be learned with, by `world` processes."""

    def refuse_without_weights(self) -> None:
        """Its configuration must load and its context suffice; a folder must hold weights."""
        if self.where:
            return  # GGUF: one file holds all
        try:
            config = AutoConfig.from_pretrained(self.name)
        except (OSError, ValueError) as error:
            raise no_weights(self.name, error) from error
        if Path(self.name).is_dir() and not any(map(Path(self.name).glob, WEIGHT_FILES)):
            raise no_weights(self.name, "it holds none")
        context = getattr(config, "max_position_embeddings", None)
        wanted = self.settings.max_length + self.settings.max_new_tokens
        if context is not None and wanted > context:
            raise InputError(
                f"max_length + max_new_tokens = {wanted}, but model.name={self.name} has a context "
                f"of {context} tokens: lower max_length"
            )

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., pl.Trainer],
        journal: PredictionJournal | None = None,
    ) -> list[Prediction]:
        """One prediction for each prompt, in their order; what `journal` knows is not asked."""
        self._journal, known = journal, _by_id(journal.read() if journal else ())
        self._asked = [prompt for prompt in prompts if prompt.id not in known]
        runner = trainer(enable_checkpointing=False, use_distributed_sampler=False)
        self.ran_on = device_name(runner.strategy.root_device)
        if known:
            log.info("%d of %d questions are answered already", len(known), len(prompts))
        if self._asked or runner.world_size > 1:
            batches: list[Any] = runner.predict(self) or []
            known |= _by_id(Prediction(*row) for batch in batches for row in batch)
        if runner.world_size > 1:
            assert journal is not None, "in which each process leaves its share"
            runner.strategy.barrier()
            known = _by_id(journal.read())
        return [known[prompt.id] for prompt in prompts]

    def facts(self) -> Mapping[str, Any]:
        """The settings that generation really used, and the most memory of a GPU."""
        config = self.network.generation_config if self.network is not None else None
        own = config.to_diff_dict() if config else {}  # the weights bring options, too
        own.pop("transformers_version", None)
        return {
            "generation": {**own, **self.generation},
            "decoding": self.decoding,
            "batch_size": self.settings.predict_batch_size,
            "threads": torch.get_num_threads(),  # another number rounds otherwise
            **({"device": self.ran_on} if self.ran_on else {}),  # so does another device
            **gpu_memory(),
        }

    # --- answers -------------------------------------------------------------------------------

    def answers(self, batch: Batch) -> list[Prediction]:
        """An answer to each prompt of a batch, by the way of decoding that was asked for."""
        return self._decodings[self.decoding](batch)

    @property
    def _decodings(self) -> Mapping[str, Callable[[Batch], list[Prediction]]]:
        return {
            FREE: self._decode_free,
            LABELS: self._decode_labels,
            LIKELIHOOD: self._decode_likelihood,
        }

    def _decode_free(self, batch: Batch) -> list[Prediction]:
        """Generated tokens as text, with their number up to the end token."""
        rows = self.generate(batch)
        ends = self.end_tokens()
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        answers = []
        for id, row, text in zip(batch["ids"], rows.tolist(), texts, strict=True):
            stop = next((n for n, token in enumerate(row) if token in ends), None)
            length = len(row) if stop is None else stop + 1
            answers.append(Prediction(id, text, length, capped=stop is None))
        return answers

    def _decode_labels(self, batch: Batch) -> list[Prediction]:
        """Generated from the tokens of labels alone."""
        start, labels = self.answer_start(batch), self.labels

        def allowed(row: int, written: torch.Tensor) -> list[int]:
            return labels.following(written[start:].tolist())

        options = {"prefix_allowed_tokens_fn": allowed, "max_new_tokens": labels.longest}
        rows = self.generate(batch, **options).tolist()
        chosen = [labels.spelt(row) for row in rows]
        return self._chosen(batch, chosen)

    def _decode_likelihood(self, batch: Batch) -> list[Prediction]:
        """The label that is the likeliest answer as a whole, its end included."""
        scores = self.likelihoods(batch, self.labels.rows)
        return self._chosen(batch, scores.argmax(dim=-1).tolist())

    def _chosen(self, batch: Batch, numbers: Sequence[int]) -> list[Prediction]:
        texts, rows = self.labels.texts, self.labels.rows
        pairs = zip(batch["ids"], numbers, strict=True)
        return [Prediction(id, texts[n], len(rows[n])) for id, n in pairs]

    def end_tokens(self) -> set[int]:
        """The tokens that end an answer."""
        config = self.net.generation_config
        learned = config.eos_token_id if config else self.tokenizer.eos_token_id
        ends = self.generation.get("eos_token_id", learned)
        return set(ends) if isinstance(ends, list) else {ends}

    @property
    def rows_per_example(self) -> int:
        """How many answers to a question are tried together: its beams."""
        config = self.net.generation_config
        wanted = [
            self.generation.get(name, getattr(config, name, None)) or 1
            for name in ("num_beams", "num_return_sequences")
        ]
        return max(wanted)

    @property
    def may_share(self) -> bool:
        """Whether no option of generation says itself how keys and values are kept."""
        return not {"use_cache", "cache_implementation", "cache_config"} & self.generation.keys()


def device_name(device: torch.device) -> str:
    """`cpu`, or the kind of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _by_id(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    return {prediction.id: prediction for prediction in predictions}


def gpu_memory() -> dict[str, int]:
    """The most MiB of its GPU that this process has held, if it has one."""
    if not torch.cuda.is_available():
        return {}
    return {"peak_gpu_memory_mib": torch.cuda.max_memory_allocated() >> 20}


def checked_generation(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, or an InputError that suggests the name that was meant."""
    known = vars(GenerationConfig())
    for name in options:
        if name not in known or name.startswith("_"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"model.generation.{name} is no generation option{hint}")
    return dict(options)


def load_network(load: Callable[..., Any], name: str, **options: Any) -> PreTrainedModel:
    """`load(name)` with one clear line where it fails."""
    try:
        return load(name, **options)
    except (OSError, ValueError, ImportError) as error:
        raise no_weights(name, error) from error


def no_weights(name: str, why: Exception | str) -> InputError:
    """One clear line."""
    return InputError(
        f"model.name={name}: no weights could be loaded from it ({first_line(why)}): give a "
        "hub id (and a network) or a local folder"
    )
