"""One low-rank adapter in a network, whose weights are replaced for each user.

Nothing of the network is copied, rebuilt or reloaded meanwhile, and its own weights are frozen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lamp_exp.errors import InputError, first_line
from lamp_exp.storage.atomic import Damaged

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
NAME = "default"  # peft's name of an adapter in a network
PREFIX = "base_model.model."  # of the names of weights in peft's files


@dataclass(frozen=True, slots=True)
class LoraShape:
    """The size of an adapter, and the linear layers that have one.

    `targets` are names of layers without their path (`q`, which also stands for `q_proj`), or
    `all-linear`.
    """

    rank: int
    alpha: float
    dropout: float
    targets: Sequence[str] | str

    def config(self) -> LoraConfig:
        names: Any = self.targets
        if not isinstance(names, str):
            names = [name for target in names for name in (target, f"{target}_proj")]
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names,
        )


class LoraSlot:
    """The adapter's place in a network; at first it is empty, and the network as it was."""

    def __init__(self, network: PreTrainedModel, shape: LoraShape) -> None:
        """Raises InputError if the network has no layer of a name in `shape.targets`."""
        _check_targets(network, shape.targets)
        training = network.training
        try:
            self._peft: Any = get_peft_model(network, shape.config())
        except ValueError as error:
            raise InputError(f"adapter.targets: {first_line(error)}") from error
        parts = [f"lora_{matrix}.{NAME}." for matrix in "AB"]
        self.weights: Mapping[str, torch.nn.Parameter] = {
            name.replace(f".{NAME}.", "."): weight
            for name, weight in network.named_parameters()
            if any(part in name for part in parts)
        }
        network.train(training)  # peft's own layers come in train mode, with dropout
        self.clear()

    def clear(self) -> None:
        """Empties the slot: the network computes what it computed without it."""
        self._peft.base_model.disable_adapter_layers()

    def reset(self, seed: int) -> None:
        """Puts an untrained adapter into the slot, which changes nothing yet: B is zero.

        A is drawn from `seed` as peft draws it, on the CPU, whatever the device.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.weights.items():
                if ".lora_B." in name:
                    weight.zero_()
                    continue
                drawn = torch.empty(weight.shape)
                torch.nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                weight.copy_(drawn)
        self._fill()

    def save(self, folder: Path) -> None:
        """Writes the adapter as a folder of peft, which `PeftModel.from_pretrained` loads."""
        tensors = {
            f"{PREFIX}{name}": weight.detach().cpu().contiguous()
            for name, weight in self.weights.items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        content = {**self._peft.peft_config[NAME].to_dict(), "inference_mode": True}
        content["target_modules"] = sorted(content["target_modules"])
        content["base_model_name_or_path"] = None  # a path of this machine
        text = json.dumps(content, indent=2, sort_keys=True, default=str)
        (folder / CONFIG).write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Puts the adapter of a folder into the slot. Raises Damaged."""
        check_adapter(folder)
        tensors = load_file(folder / WEIGHTS)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"{PREFIX}{name}"])
        self._fill()

    def _fill(self) -> None:
        self._peft.base_model.enable_adapter_layers()
        for weight in self.weights.values():
            weight.requires_grad_(True)


def check_adapter(folder: Path) -> None:
    """Raises Damaged if the files of a kept adapter are missing or cut off."""
    try:
        if not (folder / CONFIG).stat().st_size:
            raise Damaged(f"{CONFIG} is empty")
        with safe_open(folder / WEIGHTS, framework="pt"):  # compares its length with its header
            pass
    except (OSError, SafetensorError) as error:
        raise Damaged(first_line(error)) from error


def _check_targets(network: PreTrainedModel, targets: Sequence[str] | str) -> None:
    linear = {
        name.rpartition(".")[2]
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    }
    for target in () if isinstance(targets, str) else targets:
        if not {target, f"{target}_proj"} & linear:
            raise InputError(
                f"adapter.targets: the model has no linear layer named {target}, but "
                f"{', '.join(sorted(linear))}"
            )
