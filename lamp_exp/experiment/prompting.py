"""The prompt of one question, and the summary that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamp_exp.contracts import TokenCounter
from lamp_exp.errors import naming
from lamp_exp.experiment.experiment import Experiment
from lamp_exp.values import Example, Hit, Prompt


def make_prompt(experiment: Experiment, example: Example, hits: Sequence[Hit]) -> Prompt:
    """What the model reads for one question, given the hits that it is shown."""
    assert experiment.augmentation and experiment.model, "every mode but rank has both"
    counter = experiment.model.token_counter
    room = (counter, experiment.max_length)
    if experiment.summary is None:
        with naming(experiment.augmentation, "__call__", example.id):
            return experiment.augmentation(experiment.task, example, hits, *room)
    text = summarise(experiment, example)
    shown = _first_tokens(text, experiment.summary.max_tokens, counter)
    with naming(experiment.augmentation, "__call__", example.id):
        prompt = experiment.augmentation(experiment.task, example, hits, *room, summary=shown)
    return replace(prompt, summary_cut=prompt.summary_cut or shown != text)


def summarise(experiment: Experiment, example: Example) -> str:
    """The summary of the question's profile; empty if there is nothing to say."""
    assert experiment.summary, "the experiment has a summary"
    with naming(experiment.summary, "text", example.id):
        return experiment.summary.text(experiment.task, example.profile).strip()


def _first_tokens(text: str, most: int, counter: TokenCounter) -> str:
    """The text, cut to so many tokens of its own."""
    limit = most + counter.count("")
    return text if counter.count(text) <= limit else counter.truncate(text, limit)[0]
