"""What encoder-decoder and decoder-only models share in learning: fine-tuning and selection."""

from __future__ import annotations

import logging
import math
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

from lamp_exp.errors import InputError
from lamp_exp.models import checkpoints as fitting
from lamp_exp.models.batches import (
    Batch,
    Pair,
    ShuffledBatches,
    batches_in_order,
    by_length,
    even_share,
    seed_of,
    shuffled_batches,
    worst_batch,
)
from lamp_exp.models.prediction import FREE, PredictionModel, load_network
from lamp_exp.values import ModelSettings, TrainingSet

log = logging.getLogger("lamp_exp")
IGNORED = -100  # a label that the loss passes over


class TrainableModel(PredictionModel):
    """A transformers model that can also be fine-tuned to answer."""

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str,
        decoding: str = FREE,
    ) -> None:
        """As an PredictionModel."""
        super().__init__(name, settings, generation, dtype, decoding)
        self.training_set: TrainingSet | None = None
        self.history: list[dict[str, float]] = []
        self._heard: dict[str, tuple[str, str]] = {}
        self._losses: list[float] = []

    @abstractmethod
    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (labels, words) of all labels in a batch that count, and those labels."""

    # --- Lightning -----------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Loads the weights, once; with adapters if they are to be learned."""
        loaded = self.network is not None
        super().configure_model()
        if not loaded and self.settings.training.lora_rank is not None and self.training_set:
            self.network = fitting.with_lora(self.net, self.settings.training)

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
        assert self.training_set is not None, "fit sets it"
        self._batches = ShuffledBatches(
            len(self.training_set.train),
            self.settings.training.batch_size,
            self.settings.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return shuffled_batches(
            self.training_set.train, self._batches, self._collate_pairs, self.workers
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """A process's share of dev, longest prompts first."""
        assert self.training_set is not None, "fit sets it"
        share = even_share(
            self.training_set.validation, self.trainer.global_rank, self.trainer.world_size
        )
        pairs = by_length(share, prompt_of=itemgetter(0))
        size = self.settings.predict_batch_size
        return batches_in_order(pairs, size, self._collate_pairs, self.workers)

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
        assert self.training_set is not None, "fit sets it"
        size = -(-self.settings.training.batch_size // self.trainer.world_size)
        longest = worst_batch(self.training_set.train, size)
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
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        return loss, torch.tensor(len(labels), device=loss.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Answers a batch of dev."""
        pairs = zip(self.answers(batch), batch["targets"], strict=True)
        self._heard.update({answer.id: (answer.output, gold) for answer, gold in pairs})

    def on_validation_epoch_end(self) -> None:
        """The task's own metrics on dev."""
        heard, losses = self._gathered()
        self._heard, self._losses = {}, []
        if self.trainer.sanity_checking or self.training_set is None:
            return
        # In the order of dev, whoever answered: sums of floats depend on it.
        told = [
            heard[prompt.id] for prompt, _ in self.training_set.validation if prompt.id in heard
        ]
        scores = self.training_set.score([output for output, _ in told], [gold for _, gold in told])
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

    # --- the contract --------------------------------------------------------------------------

    def check_training(self, precision: str, world: int) -> None:
        """Small steps on weights of 16 bits are rounded away: such training learns nothing."""
        if self.settings.training.lora_rank is not None:
            fitting.need_peft()
        elif self.dtype_name != "float32" or precision == "bf16-true":
            raise InputError(
                "fine-tuning all weights needs them in 32 bits: use model.dtype=float32 with "
                "trainer.precision=bf16-mixed (or 32-true), or training.lora_rank=16"
            )
        size = self.settings.training.batch_size
        if size < world:
            raise InputError(
                f"training.batch_size={size} is shared by {world} processes: raise it, or "
                "lower trainer.devices"
            )

    def fit(
        self, training_set: TrainingSet, trainer: Callable[..., pl.Trainer]
    ) -> Mapping[str, Any]:
        """Fine-tunes, keeps the best epoch on dev, and saves it with its tokenizer.

        What a run that was broken off left in `training_set.folder` is gone on with.
        """
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        self.training_set = training_set
        report = fitting.learned(training_set.folder)
        if report is not None:
            log.info("this model is trained already: its checkpoint is used")
            where = str(training_set.folder / fitting.CHECKPOINT)
            self.network = load_network(self.loader, where, dtype=self.weights_dtype)
            return report
        runner = trainer(
            callbacks=fitting.callbacks(training_set, self.settings.training.patience),
            max_epochs=training_set.epochs,
            num_sanity_val_steps=0,
            default_root_dir=str(training_set.folder),
            use_distributed_sampler=False,  # our loaders share the rows out
        )
        last = fitting.resumable(training_set.folder)
        runner.fit(self, ckpt_path=str(last) if last else None, weights_only=True)
        self._go_back_to_best(runner)
        report = self._fit_report(runner)
        self._save(runner, training_set.folder, report)
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
        assert self.training_set is not None, "fit sets it"
        training, limit = self.settings.training, self.settings.max_new_tokens
        lengths = [len(self.target_ids(target)) for _, target in self.training_set.train]
        return {
            "epochs": self.history,
            "best_epoch": fitting.best_epoch(self.history, self.training_set.main_metric),
            "optimizer_steps": runner.global_step,
            "effective_batch_size": training.batch_size * runner.accumulate_grad_batches,
            "processes": runner.world_size,
            "precision": str(runner.precision),
            "train_targets_cut": sum(length > limit for length in lengths),
        }

    def _collate_pairs(self, pairs: Sequence[Pair]) -> Batch:
        prompts, targets = zip(*pairs, strict=True)
        return self.collate(prompts, targets)


@contextmanager
def only_logits_of(network: torch.nn.Module, wanted: torch.Tensor) -> Iterator[None]:
    """Within it a network's logits are (wanted, words): where `wanted` (rows, tokens) is true.

    Unless its head is given states of another shape: then they are whole.

    Of a prompt and of padding nothing is to be learned, and the logits over all words are the
    largest matrix of a step.
    """

    def select(head: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (states,) = inputs
        return states[wanted] if states.shape[:-1] == wanted.shape else states

    head: torch.nn.Module = network.get_output_embeddings()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of each row's labels (rows, tokens) together, given logits (rows, tokens, words)."""
    words = logits.float().transpose(1, 2)
    losses = torch.nn.functional.cross_entropy(
        words, labels, ignore_index=IGNORED, reduction="none"
    )
    return -losses.sum(dim=-1)
