"""What encoder-decoder and decoder-only models share: training, selection, prediction.

A LightningModule that knows its tokenizer from the start and its weights only once they are
needed (`configure_model`), so that prompts can be made without them.
"""

from __future__ import annotations

import difflib
import logging
import math
import shutil
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoConfig,
    GenerationConfig,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging as transformers_logging

from lamp_exp.models.tokens import ModelTokens, first_line
from lamp_exp.types import InputError, Lesson, ModelSettings, Prediction, Prompt, Training

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
transformers_logging.disable_progress_bar()  # of loading and saving; ours are enough
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # making a batch is cheap
warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own, about torch

Batch = dict[str, Any]
Pair = tuple[Prompt, str]
IGNORED = -100  # a label that the loss passes over
WEIGHTS = "weights"  # Lightning's own checkpoints, while it trains
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.h5", "*.msgpack")
CHECKPOINT = "checkpoint"  # the folder of the best weights, in transformers' format


class TextModel(pl.LightningModule):
    """A transformers model that reads prompts and writes answers."""

    reads_passages = False

    # Where weights come from, besides `name`: the name of a GGUF file, say.
    where: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, name: str, settings: ModelSettings, generation: Mapping[str, Any], dtype: str
    ) -> None:
        """`name` is a hub id or a folder, `generation` holds options of GenerationConfig."""
        super().__init__()
        self.name = name
        self.dtype_name = dtype
        self.settings = settings
        self.generation = checked_generation(generation) | {
            "max_new_tokens": settings.max_new_tokens
        }
        self.network: PreTrainedModel | None = None
        self.lesson: Lesson | None = None
        self.history: list[dict[str, float]] = []
        self._heard: list[tuple[str, str]] = []
        self._losses: list[float] = []

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
    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean cross entropy of the labels' tokens."""

    @abstractmethod
    def generate(self, batch: Batch) -> torch.Tensor:
        """The new tokens of each answer, (batch, new tokens), padded on the right."""

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
    def tokens(self) -> ModelTokens:
        """The tokenizer as prompts need it."""
        return ModelTokens(self.tokenizer)

    # --- Lightning -----------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Loads the weights, once."""
        if self.network is None:
            self.network = self.load()
            if self.settings.training.lora_rank is not None and self.lesson:
                self.network = with_lora(self.network, self.settings.training)

    @property
    def net(self) -> PreTrainedModel:
        """The loaded network."""
        assert self.network is not None, "configure_model comes first"
        return self.network

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up and decay, as published."""
        training = self.settings.training
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=training.lr, weight_decay=training.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(training.warmup * steps)
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_fit_start(self) -> None:
        """Lightning keeps a pretrained network's eval mode: without this, no dropout."""
        self.train()
        if self.settings.training.gradient_checkpointing:
            self.net.activation_checkpointing_enable()
            self.net.enable_input_require_grads()  # for adapters on frozen embeddings
        self._rehearse()

    def _rehearse(self) -> None:
        """The longest prompts with the longest targets, before the first step.

        Memory that will not suffice shows now, and not hours later.
        """
        assert self.lesson is not None, "fit sets it"
        size = self.settings.training.batch_size
        longest = worst_batch(self.lesson.train, size)
        batch = self.transfer_batch_to_device(self._collate_pairs(longest), self.device, 0)
        state = torch.get_rng_state()
        try:
            with self.trainer.precision_plugin.forward_context():
                loss = self.loss(batch)
            torch.autograd.backward(loss)
        except torch.OutOfMemoryError as error:
            passages = max(len(prompt.passages) for prompt, _ in longest)
            raise InputError(
                f"out of memory with a batch of {len(longest)} examples x {passages} passages x "
                f"up to {self.settings.max_length} tokens: lower training.batch_size (and raise "
                "trainer.accumulate_grad_batches), k or max_length, or set "
                "training.gradient_checkpointing=true"
            ) from error
        self.zero_grad()
        torch.set_rng_state(state)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """One step's loss; a loss that is no number ends the run."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss became {loss.item()} at step {self.global_step}: lower training.lr, or "
                "use trainer.precision=bf16-mixed or 32-true"
            )
        self._losses.append(loss.item())
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["ids"]))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Answers a batch of dev."""
        answers = self._answers(batch)
        self._heard += zip([a.output for a in answers], batch["targets"], strict=True)

    def on_validation_epoch_end(self) -> None:
        """The task's own metrics on dev."""
        heard, self._heard = self._heard, []
        if self.trainer.sanity_checking or self.lesson is None:
            return
        scores = self.lesson.score([output for output, _ in heard], [gold for _, gold in heard])
        self.log_dict(dict(scores.metrics), prog_bar=True)
        loss = math.fsum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses = []
        self.history.append({"train_loss": loss, **scores.metrics})

    def predict_step(self, batch: Batch, index: int) -> list[tuple[str, str, int, bool]]:
        """Plain tuples, as Lightning cannot carry frozen values."""
        return [(a.id, a.output, a.tokens, a.capped) for a in self._answers(batch)]

    # --- the contract --------------------------------------------------------------------------

    def check(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Tokenizer, weights, trainer and precision must be there before any long work."""
        if not isinstance(getattr(torch, self.dtype_name, None), torch.dtype):
            raise InputError(
                f"model.dtype={self.dtype_name} does not exist: float32, bfloat16 and float16 do"
            )
        assert self.tokenizer is not None
        if trains:
            self._check_training(precision)
        if trainer is not None:
            self.refuse_without_weights()
            refuse_impossible(trainer)

    def _check_training(self, precision: str) -> None:
        """Small steps on weights of 16 bits are rounded away: such training learns nothing."""
        if self.settings.training.lora_rank is not None:
            _peft()
        elif self.dtype_name != "float32" or precision == "bf16-true":
            raise InputError(
                "fine-tuning all weights needs them in 32 bits: use model.dtype=float32 with "
                "trainer.precision=bf16-mixed (or 32-true), or training.lora_rank=16"
            )

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

    def fit(self, lesson: Lesson, trainer: Callable[..., pl.Trainer]) -> Mapping[str, Any]:
        """Fine-tunes, keeps the best epoch on dev, and saves it with its tokenizer."""
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        self.lesson = lesson
        best = best_checkpoint(lesson)
        fitting = trainer(
            callbacks=[best, *self._early_stopping(lesson)],
            max_epochs=lesson.epochs,
            num_sanity_val_steps=0,
            default_root_dir=str(lesson.folder),
        )
        size = self.settings.training.batch_size
        fitting.fit(
            self,
            loader(lesson.train, size, self._collate_pairs, shuffle=True),
            loader(lesson.dev, self.settings.predict_batch_size, self._collate_pairs),
        )
        self._keep(best.best_model_path, lesson.folder)
        return self._fit_report(fitting)

    def _early_stopping(self, lesson: Lesson) -> list[Callback]:
        patience = self.settings.training.patience
        metric, mode = lesson.monitor
        if patience is None:
            return []
        return [EarlyStopping(metric, mode=mode, patience=patience)]

    def _keep(self, best_path: str, folder: Path) -> None:
        """Goes back to the best weights and saves them as transformers does."""
        if best_path:  # none if Lightning was told not to validate: then the last weights count
            state = torch.load(best_path, map_location="cpu", weights_only=True)["state_dict"]
            self.load_state_dict(state)
        if self.settings.training.lora_rank is not None:
            self.network = self.net.merge_and_unload()
        self.net.save_pretrained(folder / CHECKPOINT)
        self.tokenizer.save_pretrained(folder / CHECKPOINT)
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)

    def _fit_report(self, trainer: pl.Trainer) -> dict[str, Any]:
        assert self.lesson is not None, "fit sets it"
        training, limit = self.settings.training, self.settings.max_new_tokens
        lengths = [self.target_tokens(target) for _, target in self.lesson.train]
        return {
            "epochs": self.history,
            "best_epoch": _best_epoch(self.history, self.lesson.monitor),
            "optimizer_steps": trainer.global_step,
            "effective_batch_size": training.batch_size
            * trainer.accumulate_grad_batches
            * trainer.world_size,
            "precision": str(trainer.precision),
            "train_targets_cut": sum(length > limit for length in lengths),
        }

    def target_tokens(self, target: str) -> int:
        """How many tokens a gold takes, the end included."""
        return self.tokens.count(target)

    def predict(
        self, prompts: Sequence[Prompt], trainer: Callable[..., pl.Trainer]
    ) -> list[Prediction]:
        """One prediction for each prompt, in their order."""
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        data = loader(prompts, self.settings.predict_batch_size, self.collate)
        batches = trainer(enable_checkpointing=False).predict(self, data) or []
        return [Prediction(*row) for batch in batches for row in batch]

    def report(self) -> Mapping[str, Any]:
        """The settings that generation really used."""
        config = self.network.generation_config if self.network is not None else None
        own = config.to_diff_dict() if config else {}  # the weights bring options, too
        own.pop("transformers_version", None)
        return {
            "generation": {**own, **self.generation},
            "batch_size": self.settings.predict_batch_size,
            "threads": torch.get_num_threads(),  # another number rounds otherwise
        }

    # --- parts ---------------------------------------------------------------------------------

    def _collate_pairs(self, pairs: Sequence[Pair]) -> Batch:
        prompts, targets = zip(*pairs, strict=True)
        return self.collate(prompts, targets)

    def _answers(self, batch: Batch) -> list[Prediction]:
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

    def end_tokens(self) -> set[int]:
        """The tokens that end an answer."""
        config = self.net.generation_config
        learned = config.eos_token_id if config else self.tokenizer.eos_token_id
        ends = self.generation.get("eos_token_id", learned)
        return set(ends) if isinstance(ends, list) else {ends}


def loader(
    rows: Sequence[Any], batch_size: int, collate: Callable[..., Batch], shuffle: bool = False
) -> DataLoader[Any]:
    """Batches of rows in their order, or shuffled anew in each epoch."""
    data = cast("Dataset[Any]", rows)  # a sequence is all that a loader needs
    return DataLoader(data, batch_size=batch_size, collate_fn=collate, shuffle=shuffle)


def best_checkpoint(lesson: Lesson) -> ModelCheckpoint:
    """Keeps the weights of the epoch that is best on dev; its name holds no `=`."""
    metric, mode = lesson.monitor
    return ModelCheckpoint(
        dirpath=lesson.folder / WEIGHTS,
        filename="best",
        monitor=metric,
        mode=mode,
        save_weights_only=True,
        enable_version_counter=False,
    )


def _best_epoch(history: Sequence[Mapping[str, float]], monitor: tuple[str, str]) -> int | None:
    """The first of the best epochs, counted from 1; None if none has a score."""
    metric, mode = monitor
    pick = max if mode == "max" else min
    scored = [n for n, epoch in enumerate(history) if not math.isnan(epoch[metric])]
    return 1 + pick(scored, key=lambda n: history[n][metric]) if scored else None


def checked_generation(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, or an InputError that suggests the name that was meant."""
    known = vars(GenerationConfig())
    for name in options:
        if name not in known or name.startswith("_"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"model.generation.{name} is no generation option{hint}")
    return dict(options)


def with_lora(network: PreTrainedModel, training: Training) -> Any:
    """The network with low-rank adapters on all its linear layers."""
    peft = _peft()
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules="all-linear",
    )
    return peft.get_peft_model(network, config)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError("training.lora_rank needs peft: pip install 'lamp-exp[lora]'") from error
    return peft


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


def worst_batch(pairs: Sequence[Pair], size: int) -> list[Pair]:
    """The prompts of most passages and tokens, each with one of the longest targets."""
    prompts = sorted((p for p, _ in pairs), key=lambda p: (-len(p.passages), -p.tokens))
    targets = sorted((target for _, target in pairs), key=len, reverse=True)
    return list(zip(prompts[:size], targets[:size], strict=True))


def refuse_impossible(trainer: Callable[..., pl.Trainer]) -> None:
    """Lightning says what is wrong with its options only once it is built."""
    try:
        trainer(logger=False, enable_checkpointing=False, max_epochs=1)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"trainer: {first_line(error)}") from error
