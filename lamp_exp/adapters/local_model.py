"""The model that an adapter works with: its weights are on this machine, and on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lamp_exp.artefacts import ProfileSource
from lamp_exp.contracts import Model
from lamp_exp.errors import InputError
from lamp_exp.models.threads import limit_threads, threads_restored
from lamp_exp.models.training import TrainableModel


def local_model(model: Model, what: str) -> TrainableModel:
    """The model; raises InputError if its weights are not here, or quantised. `what` needs them."""
    if not isinstance(model, TrainableModel):
        raise InputError(
            f"{what} needs the weights of the model on this machine: use model=flan_t5_base or "
            "model=causal, not an API"
        )
    if model.load_options:
        raise InputError(
            "the quantised weights of a GGUF file cannot be adapted: save them as a folder of "
            "transformers first, and name that as model.name"
        )
    return model


@contextmanager
def on_device(model: TrainableModel, source: ProfileSource) -> Iterator[Any]:
    """Loads the model's weights and moves them as Lightning does; yields the precision's context.

    One process trains: the others of a run wait, and load what it has made.
    """
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    runner = source.trainer(**alone, **quiet)
    model.configure_model()
    plugin = runner.precision_plugin
    plugin.convert_module(model)
    model.to(runner.strategy.root_device)
    model.net.eval()
    with threads_restored():
        limit_threads(model.net, model.device)
        yield plugin.forward_context
