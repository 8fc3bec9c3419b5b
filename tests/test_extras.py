"""Each extra of pyproject.toml brings what its feature needs, and nothing else has to."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from lamp_exp.models.causal import GGUF_PACKAGES
from lamp_exp.results.provenance import PACKAGES
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
QUICK = [
    "task=lamp4", "mode=zeroshot", "model=tiny", "trainer=cpu", "limit=2", "k=1",
    "max_new_tokens=4", "trainer.enable_progress_bar=false",
]  # fmt: skip
RANK = ["-m", "task=lamp4", "mode=rank", "limit=2"]
NEEDED = {  # by extra: the packages that the code imports, and a command that needs them
    "lora": ({"peft"}, [*QUICK, "mode=finetune", "training.lora_rank=2", "trainer.max_epochs=1"]),
    "openai": ({"openai"}, [*QUICK, "model=openai", "model.name=x", "model.tokenizer=${{oc.env:TINY}}",
                            "model.base_url=http://localhost:9/v1", "model.retries=0"]),
    "gguf": (set(GGUF_PACKAGES), [*QUICK, "model=causal", "model.name=.",
                                  "model.gguf_file=small.gguf"]),
    "wandb": ({"wandb-workspaces"}, ["-c", "from lamp_exp.wandb.workspace import _library as load; load()"]),
    "joblib": ({"hydra-joblib-launcher"}, [*RANK, "hydra/launcher=joblib"]),
    "slurm": ({"hydra-submitit-launcher"}, [*RANK, "hydra/launcher=submitit_local"]),
    "ray": ({"hydra-ray-launcher"}, [*RANK, "hydra/launcher=ray_local"]),
    "optuna": ({"hydra-optuna-sweeper"}, [*QUICK, "-m", "hydra/sweeper=optuna",
                                          "hydra.sweeper.n_trials=1", "k=choice(0,1)"]),
}  # fmt: skip
COLLECTIONS = {"test", "dev"}  # extras of extras and of tools
