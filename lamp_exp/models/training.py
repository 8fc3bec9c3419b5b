"""Fine-tuning a transformers model, with selection of the best epoch."""

from __future__ import annotations

import logging
import math
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from lamp_exp.errors import InputError
from lamp_exp.models import checkpoints
from lamp_exp.models.batches import (
    Batch,
    Pair,
    ShuffledBatches,
    batches_in_order,
    derived_seed,
    largest_batch,
    longest_first,
    padded_share,
    shuffled_batches,
)
from lamp_exp.models.prediction import PredictionModel
from lamp_exp.models.threads import limit_threads, threads_restored
from lamp_exp.values import TrainingOptions, TrainingSet

log = logging.getLogger("lamp_exp")
IGNORED = -100  # as a label: no loss there


class TrainableModel(PredictionModel):
    """A transformers model that answers prompts and can be fine-tuned."""

    data: TrainingSet | None = None  # set by `fit`

    @abstractmethod
    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (labels, words) of all labels in a batch that are not IGNORED, and these."""

    # --- the contract --------------------------------------------------------------------------

    def validate_training(self, precision: str, processes: int) -> None:
        """Refuses weights of 16 bits, in which small steps are rounded away."""
        training = self.settings.training
        if training.lora_rank is not None:
            _import_peft()
        elif self.dtype_name != "float32" or precision == "bf16-true":
            raise InputError(
                "fine-tuning all weights needs them in 32 bits: use model.dtype=float32 with "
                "trainer.precision=bf16-mixed (or 32-true), or training.lora_rank=16"
            )
        if training.batch_size < processes:
            raise InputError(
                f"training.batch_size={training.batch_size} is shared by {processes} processes: "
                "raise it, or lower trainer.devices"
            )

    def fit(self, data: TrainingSet, trainer: Callable[..., pl.Trainer]) -> Mapping[str, Any]:
        """Fine-tunes, keeps the best epoch, saves it with its tokenizer; returns facts.

        Resumes from what an interrupted call left in `data.folder`.
        """
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        self.data = data
        self.history: list[dict[str, float]] = []  # loss and scores of each epoch
        self._outputs: dict[str, tuple[str, str]] = {}  # output and target by id, of validation
        self._losses: list[tuple[float, float]] = []  # summed loss and tokens of each batch
        self._tokens = 0.0  # of the current optimiser step
        facts = checkpoints.read_facts(data.folder)
        if facts is not None:
            log.info("this model is trained already: its checkpoint is used")
            self.network = self.load(str(data.folder / checkpoints.CHECKPOINT))
            return facts
        runner = trainer(
            callbacks=checkpoints.callbacks(data, self.settings.training.patience),
            max_epochs=data.epochs,
            num_sanity_val_steps=0,
            default_root_dir=str(data.folder),
            use_distributed_sampler=False,  # our loaders divide the rows
        )
        last = checkpoints.resumable(data.folder)
        with threads_restored():
            runner.fit(self, ckpt_path=str(last) if last else None, weights_only=True)
        self._load_best(runner)
        facts = self._training_facts(runner, data)
        self._save(runner, data.folder, facts)
        return facts

    def _load_best(self, runner: pl.Trainer) -> None:
        best_path = runner.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        state = torch.load(best_path, map_location="cpu", weights_only=True)["state_dict"]
        self.load_state_dict(state)
        if self.settings.training.lora_rank is not None:
            self.network = self.net.merge_and_unload()

    def _save(self, runner: pl.Trainer, folder: Path, facts: Mapping[str, Any]) -> None:
        """Saves the weights as transformers does; then Lightning's own are removed."""
        runner.strategy.barrier()  # all processes have read the best weights
        if runner.is_global_zero:
            shutil.rmtree(folder / checkpoints.CHECKPOINT, ignore_errors=True)
            self.net.save_pretrained(folder / checkpoints.CHECKPOINT)
            self.tokenizer.save_pretrained(folder / checkpoints.CHECKPOINT)
            checkpoints.write_facts(folder, facts)
            shutil.rmtree(folder / checkpoints.WEIGHTS, ignore_errors=True)

    def _training_facts(self, runner: pl.Trainer, data: TrainingSet) -> dict[str, Any]:
        batch_size, limit = self.settings.training.batch_size, self.settings.max_new_tokens
        return {
            "epochs": self.history,
            "best_epoch": checkpoints.best_epoch(self.history, data.main_metric),
            "optimizer_steps": runner.global_step,
            "gradient_clip_val": runner.gradient_clip_val,
            **self._recipe,
            "effective_batch_size": batch_size * runner.accumulate_grad_batches,
            "processes": runner.world_size,
            "precision": str(runner.precision),
            "train_targets_cut": sum(len(self.target_ids(t)) > limit for _, t in data.train),
        }

    # --- Lightning: set-up ---------------------------------------------------------------------

    def configure_model(self) -> None:
        """Loads the weights, once; with adapters if they are to be trained."""
        loaded = self.network is not None
        super().configure_model()
        if not loaded and self.settings.training.lora_rank is not None and self.data:
            self.network = _with_adapters(self.net, self.settings.training)

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and decay, as in the official trainer."""
        training, steps = self.settings.training, int(self.trainer.estimated_stepping_batches)
        decayed, others = self._weights_by_decay()
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": training.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=training.lr)
        warmup = math.ceil(training.warmup * steps)
        self._recipe = {"warmup_steps": warmup, "weights_without_decay": len(others)}
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _weights_by_decay(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The trained weights that decay, and the others: norms and biases."""
        decayed: list[torch.Tensor] = []
        others: list[torch.Tensor] = []
        for name, weight in self.named_parameters():
            if weight.requires_grad:
                # T5 calls a matrix, that of relative positions, a bias.
                (others if weight.ndim < 2 or "bias" in name else decayed).append(weight)
        return decayed, others

    def train_dataloader(self) -> DataLoader[Any]:
        """The process's share of train, in another order each epoch."""
        assert self.data is not None, "fit sets it"
        self._batches = ShuffledBatches(
            len(self.data.train),
            self.settings.training.batch_size,
            self.settings.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return shuffled_batches(self.data.train, self._batches, self._collate_pairs, self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """The process's share of validation, longest prompts first."""
        assert self.data is not None, "fit sets it"
        share = padded_share(
            self.data.validation, self.trainer.global_rank, self.trainer.world_size
        )
        pairs = longest_first(share, prompt_of=itemgetter(0))
        size = self.settings.predict_batch_size
        return batches_in_order(pairs, size, self._collate_pairs, self.workers)

    def _collate_pairs(self, pairs: Sequence[Pair]) -> Batch:
        prompts, targets = zip(*pairs, strict=True)
        return self.collate(prompts, targets)

    def on_fit_start(self) -> None:
        """Sets threads and train mode (Lightning keeps a pretrained network's eval mode)."""
        limit_threads(self.net, self.device)
        self.train()
        if self.settings.training.gradient_checkpointing:
            self.net.activation_checkpointing_enable()
            self.net.enable_input_require_grads()  # for adapters on frozen embeddings
        self._try_largest_batch()

    def _try_largest_batch(self) -> None:
        """Raises InputError before the first step if the memory does not suffice."""
        assert self.data is not None, "fit sets it"
        size = -(-self.settings.training.batch_size // self.trainer.world_size)
        pairs = largest_batch(self.data.train, size)
        batch = self.transfer_batch_to_device(self._collate_pairs(pairs), self.device, 0)
        try:
            with self.trainer.precision_plugin.forward_context():
                loss, _ = self.loss(batch)
            torch.autograd.backward(loss)
        except torch.OutOfMemoryError as error:
            passages = max(len(prompt.passages) for prompt, _ in pairs)
            raise InputError(
                f"out of memory with a batch of {len(pairs)} examples x {passages} passages x "
                f"up to {self.settings.max_length} tokens: lower training.batch_size (and raise "
                "trainer.accumulate_grad_batches), k or max_length, or set "
                "training.gradient_checkpointing=true"
            ) from error
        self.zero_grad()

    def on_train_start(self) -> None:
        """Does not resume training that had stopped early."""
        if checkpoints.stopped_early(self.trainer):
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the history with the weights."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reads the history back."""
        self.history = checkpoint["history"]
        log.info("training continues after epoch %d", len(self.history))

    # --- Lightning: steps ----------------------------------------------------------------------

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """The summed loss over a batch's target tokens; raises InputError if it is no number."""
        # Dropout depends on the step, not on what ran before it.
        process = self.trainer.global_rank
        torch.manual_seed(derived_seed(self.settings.seed, self.current_epoch, index, process))
        summed, tokens = self.loss(batch)
        if self._batches.is_padding(index):
            summed, tokens = summed * 0, tokens * 0
        both = torch.stack([summed.detach(), tokens.to(summed)])
        reduced: Any = self.trainer.strategy.reduce(both, reduce_op="sum")  # of all processes
        loss, count = reduced.tolist()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {self.global_step}: lower training.lr, or "
                "use trainer.precision=bf16-mixed or 32-true"
            )
        self._losses.append((loss, count))
        self._tokens += count
        self.log("train_loss", loss / count, prog_bar=True, batch_size=len(batch["ids"]))
        return summed

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of the mean loss over all tokens of the optimiser step.

        Each token then weighs alike, however the step is divided into batches and processes.
        """
        # Lightning has averaged over the batches of a whole step, and over the processes.
        shares = self.trainer.accumulate_grad_batches * self.trainer.world_size
        for weight in self.parameters():
            if weight.grad is not None:
                weight.grad *= shares / self._tokens
        self._tokens = 0.0

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed cross entropy of the target tokens, and their number."""
        logits, labels = self.logits(batch)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        return loss, torch.tensor(len(labels), device=loss.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        pairs = zip(self.answers(batch), batch["targets"], strict=True)
        self._outputs.update({answer.id: (answer.output, target) for answer, target in pairs})

    def on_validation_epoch_end(self) -> None:
        """Computes the task's metrics on validation."""
        assert self.data is not None, "fit sets it"
        outputs = self._gathered_outputs()
        # In the order of validation, whichever process answered: sums of floats depend on it.
        scores = self.data.score(
            [outputs[prompt.id][0] for prompt, _ in self.data.validation],
            [outputs[prompt.id][1] for prompt, _ in self.data.validation],
        )
        self.log_dict(dict(scores.metrics), prog_bar=True, sync_dist=True)
        losses, tokens = zip(*self._losses, strict=True)
        loss = math.fsum(losses) / math.fsum(tokens)
        self.history.append({"train_loss": loss, **scores.metrics})
        self._outputs, self._losses = {}, []

    def _gathered_outputs(self) -> dict[str, tuple[str, str]]:
        """The validation outputs of all processes."""
        if self.trainer.world_size == 1:
            return self._outputs
        shares: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(shares, self._outputs)
        return {id: output for share in shares for id, output in share.items()}


def log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The log likelihood of each row of labels (rows, tokens); logits are (rows, tokens, words)."""
    rows = logits.float().flatten(0, 1)  # by rows of words it is four times as fast
    losses = torch.nn.functional.cross_entropy(
        rows, labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return -losses.view_as(labels).sum(dim=-1)


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError("training.lora_rank needs peft: pip install 'lamp-exp[lora]'") from error
    return peft


def _with_adapters(network: PreTrainedModel, training: TrainingOptions) -> Any:
    """The network with low-rank adapters on all its linear layers."""
    peft = _import_peft()
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules="all-linear",
    )
    return peft.get_peft_model(network, config)
