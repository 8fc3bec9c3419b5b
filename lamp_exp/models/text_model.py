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
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    GenerationConfig,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging as transformers_logging

from lamp_exp.errors import first_line
from lamp_exp.models import fitting
from lamp_exp.models.batches import (
    Batch,
    Pair,
    ShuffledBatches,
    batches_in_order,
    even_share,
    seed_of,
    shuffled_batches,
    worst_batch,
)
from lamp_exp.models.tokens import ModelTokens
from lamp_exp.types import InputError, Journal, Lesson, ModelSettings, Prediction, Prompt

for chatty in ("pytorch_lightning", "lightning_fabric", "lightning"):
    logging.getLogger(chatty).setLevel(logging.WARNING)
transformers_logging.disable_progress_bar()  # of loading and saving; ours are enough
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # making a batch is cheap
warnings.filterwarnings("ignore", "Checkpoint directory .* is not empty")  # it is gone on with
warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own, about torch

log = logging.getLogger("lamp_exp")
IGNORED = -100  # a label that the loss passes over
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.h5", "*.msgpack")


class TextModel(pl.LightningModule):
    """A transformers model that reads prompts and writes answers."""

    reads_passages = False
    shares_work = True
    allow_zero_length_dataloader_with_multiple_devices = True  # more processes than questions
    loader: Callable[..., Any]  # `from_pretrained` of the right kind of network

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
        self._asked: Sequence[Prompt] = []
        self._journal: Journal | None = None
        self.ran_on = ""  # the device that answered
        self._heard: dict[str, tuple[str, str]] = {}
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
    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (batch, tokens, words) and the labels (batch, tokens) that they are to meet."""

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
            torch.manual_seed(self.settings.seed)  # for weights that are drawn and not read
            self.network = self.load()
            if self.settings.training.lora_rank is not None and self.lesson:
                self.network = fitting.with_lora(self.network, self.settings.training)

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

    def train_dataloader(self) -> DataLoader[Any]:
        """A process's share of train, in an order of its own for each epoch."""
        assert self.lesson is not None, "fit sets it"
        self._batches = ShuffledBatches(
            len(self.lesson.train),
            self.settings.training.batch_size,
            self.settings.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return shuffled_batches(self.lesson.train, self._batches, self._collate_pairs)

    def val_dataloader(self) -> DataLoader[Any]:
        """A process's share of dev."""
        assert self.lesson is not None, "fit sets it"
        share = even_share(self.lesson.dev, self.trainer.global_rank, self.trainer.world_size)
        return batches_in_order(share, self.settings.predict_batch_size, self._collate_pairs)

    def predict_dataloader(self) -> DataLoader[Any]:
        """A process's share of what is not answered yet."""
        # Others may have begun to write when a process looks: the first one's list counts.
        asked = set(self.trainer.strategy.broadcast([prompt.id for prompt in self._asked]))
        prompts = [prompt for prompt in self._asked if prompt.id in asked]
        share = prompts[self.trainer.global_rank :: self.trainer.world_size]
        return batches_in_order(share, self.settings.predict_batch_size, self.collate)

    def on_fit_start(self) -> None:
        """Lightning keeps a pretrained network's eval mode: without this, no dropout."""
        self.train()
        if self.settings.training.gradient_checkpointing:
            self.net.activation_checkpointing_enable()
            self.net.enable_input_require_grads()  # for adapters on frozen embeddings
        self._rehearse()

    def on_train_start(self) -> None:
        """Training that had stopped early does not begin again."""
        if fitting.stopped_early(self.trainer):
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was told of the epochs so far goes with the weights."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And comes back with them."""
        self.history = checkpoint["history"]
        log.info("training goes on after epoch %d", len(self.history))

    def _rehearse(self) -> None:
        """The longest prompts with the longest targets, before the first step.

        Memory that will not suffice shows now, and not hours later.
        """
        assert self.lesson is not None, "fit sets it"
        size = -(-self.settings.training.batch_size // self.trainer.world_size)
        longest = worst_batch(self.lesson.train, size)
        batch = self.transfer_batch_to_device(self._collate_pairs(longest), self.device, 0)
        try:
            with self.trainer.precision_plugin.forward_context():
                loss, _ = self.loss(batch)
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

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """One step's loss, the mean over all processes' tokens; no number ends the run."""
        # Chance depends on the step, not on what ran before it.
        rank = self.trainer.global_rank
        torch.manual_seed(seed_of(self.settings.seed, self.current_epoch, index, rank))
        summed, tokens = self.loss(batch)
        if self._batches.is_stand_in(index):
            summed, tokens = summed * 0, tokens * 0
        # Lightning takes the mean of the processes' gradients; tokens are to weigh alike.
        everywhere: Any = self.trainer.strategy.reduce(tokens, reduce_op="sum")
        loss: torch.Tensor = summed * (self.trainer.world_size / everywhere)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss became {loss.item()} at step {self.global_step}: lower training.lr, or "
                "use trainer.precision=bf16-mixed or 32-true"
            )
        self._losses.append(loss.item())
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["ids"]))
        return loss

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The cross entropy of the labels' tokens, summed, and their number."""
        logits, labels = self.logits(batch)
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return loss, (labels != IGNORED).sum()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Answers a batch of dev."""
        pairs = zip(self._answers(batch), batch["targets"], strict=True)
        self._heard.update({answer.id: (answer.output, gold) for answer, gold in pairs})

    def on_validation_epoch_end(self) -> None:
        """The task's own metrics on dev."""
        heard, losses = self._gathered()
        self._heard, self._losses = {}, []
        if self.trainer.sanity_checking or self.lesson is None:
            return
        # In the order of dev, whoever answered: sums of floats depend on it.
        told = [heard[prompt.id] for prompt, _ in self.lesson.dev if prompt.id in heard]
        scores = self.lesson.score([output for output, _ in told], [gold for _, gold in told])
        self.log_dict(dict(scores.metrics), prog_bar=True, sync_dist=True)
        loss = math.fsum(losses) / len(losses) if losses else math.nan
        self.history.append({"train_loss": loss, **scores.metrics})

    def _gathered(self) -> tuple[dict[str, tuple[str, str]], list[float]]:
        """What all processes heard, and their losses."""
        world = self.trainer.world_size
        if world == 1:
            return self._heard, self._losses
        parts: list[Any] = [None] * world
        torch.distributed.all_gather_object(parts, (self._heard, self._losses))
        everywhere: dict[str, tuple[str, str]] = {}
        for heard, _ in parts:
            everywhere.update(heard)
        return everywhere, [loss for _, losses in parts for loss in losses]

    def predict_step(self, batch: Batch, index: int) -> list[tuple[str, str, int, bool]]:
        """Plain tuples, as Lightning cannot carry frozen values."""
        torch.manual_seed(seed_of(self.settings.seed, *batch["ids"]))  # for sampled answers
        answers = self._answers(batch)
        if self._journal is not None:
            self._journal.keep(answers)
        return [(a.id, a.output, a.tokens, a.capped) for a in answers]

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
            world, size = (
                fitting.built_trainer(trainer).world_size,
                self.settings.training.batch_size,
            )
            if trains and size < world:
                raise InputError(
                    f"training.batch_size={size} is shared by {world} processes: raise it, or "
                    "lower trainer.devices"
                )

    def _check_training(self, precision: str) -> None:
        """Small steps on weights of 16 bits are rounded away: such training learns nothing."""
        if self.settings.training.lora_rank is not None:
            fitting.need_peft()
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
        """Fine-tunes, keeps the best epoch on dev, and saves it with its tokenizer.

        What a run that was broken off left in `lesson.folder` is gone on with.
        """
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        self.lesson = lesson
        report = fitting.learned(lesson.folder)
        if report is not None:
            log.info("this model is trained already: its checkpoint is used")
            where = str(lesson.folder / fitting.CHECKPOINT)
            self.network = load_network(self.loader, where, dtype=self.weights_dtype)
            return report
        runner = trainer(
            callbacks=fitting.callbacks(lesson, self.settings.training.patience),
            max_epochs=lesson.epochs,
            num_sanity_val_steps=0,
            default_root_dir=str(lesson.folder),
            use_distributed_sampler=False,  # our loaders share the rows out
        )
        last = lesson.folder / fitting.LAST
        runner.fit(self, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        self._go_back_to_best(runner)
        report = self._fit_report(runner)
        self._save(runner, lesson.folder, report)
        return report

    def _go_back_to_best(self, runner: pl.Trainer) -> None:
        best_path = runner.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        if best_path:  # none if Lightning was told not to validate: then the last weights count
            state = torch.load(best_path, map_location="cpu", weights_only=True)["state_dict"]
            self.load_state_dict(state)
        if self.settings.training.lora_rank is not None:
            self.network = self.net.merge_and_unload()

    def _save(self, runner: pl.Trainer, folder: Path, report: Mapping[str, Any]) -> None:
        """The weights as transformers saves them; then Lightning's own may go."""
        runner.strategy.barrier()  # all processes have read the best weights
        if runner.is_global_zero:
            shutil.rmtree(folder / fitting.CHECKPOINT, ignore_errors=True)
            self.net.save_pretrained(folder / fitting.CHECKPOINT)
            self.tokenizer.save_pretrained(folder / fitting.CHECKPOINT)
            fitting.write_learned(folder, report)
            shutil.rmtree(folder / fitting.WEIGHTS, ignore_errors=True)

    def _fit_report(self, runner: pl.Trainer) -> dict[str, Any]:
        assert self.lesson is not None, "fit sets it"
        training, limit = self.settings.training, self.settings.max_new_tokens
        lengths = [self.target_tokens(target) for _, target in self.lesson.train]
        return {
            "epochs": self.history,
            "best_epoch": fitting.best_epoch(self.history, self.lesson.monitor),
            "optimizer_steps": runner.global_step,
            "effective_batch_size": training.batch_size * runner.accumulate_grad_batches,
            "processes": runner.world_size,
            "precision": str(runner.precision),
            "train_targets_cut": sum(length > limit for length in lengths),
        }

    def target_tokens(self, target: str) -> int:
        """How many tokens a gold takes, the end included."""
        return self.tokens.count(target)

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., pl.Trainer],
        journal: Journal | None = None,
    ) -> list[Prediction]:
        """One prediction for each prompt, in their order; what `journal` knows is not asked."""
        self._journal, known = journal, _by_id(journal.known() if journal else ())
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
            known = _by_id(journal.known())
        return [known[prompt.id] for prompt in prompts]

    def report(self) -> Mapping[str, Any]:
        """The settings that generation really used."""
        config = self.network.generation_config if self.network is not None else None
        own = config.to_diff_dict() if config else {}  # the weights bring options, too
        own.pop("transformers_version", None)
        return {
            "generation": {**own, **self.generation},
            "batch_size": self.settings.predict_batch_size,
            "threads": torch.get_num_threads(),  # another number rounds otherwise
            **({"device": self.ran_on} if self.ran_on else {}),  # so does another device
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


def device_name(device: torch.device) -> str:
    """`cpu`, or the kind of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _by_id(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    return {prediction.id: prediction for prediction in predictions}


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
