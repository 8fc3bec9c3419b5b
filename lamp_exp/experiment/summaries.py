"""Summaries that a model writes: each once per content of a profile, for all runs and questions."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Cost, KeyedArtefact, UnitWriter
from lamp_exp.contracts import Task, WrittenSummary
from lamp_exp.data import Part
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Experiment, Writer
from lamp_exp.options import SUMMARIES
from lamp_exp.progress import progress
from lamp_exp.storage import atomic
from lamp_exp.storage.artefacts import UNITS
from lamp_exp.values import Prompt, SummaryRequest

UNIT = "summary.json"
WRITTEN_AT_ONCE = 64  # requests; what a killed process repeats at most


@dataclass(frozen=True)
class Summaries(KeyedArtefact):
    """The summaries of the profiles of `parts`, by the hash of what the writer reads.

    A text depends on that, on the writer and on its options, and on nothing else.
    """

    kind = "summaries"
    summary: WrittenSummary
    writer: Writer
    task: Task
    parts: Sequence[Part]

    def identity(self) -> dict[str, Any]:
        code = code_fingerprint(Summaries, self.writer.model)
        return {"writer": self.writer.settings, "code": code}

    def cost(self) -> Cost:
        return Cost(len(self._requests), "profile", " at most")

    def unit_keys(self) -> list[str]:
        return list(self._requests)

    def make_units(
        self, keys: Sequence[str], write: UnitWriter, required: Sequence[Path]
    ) -> dict[str, Any]:
        """Block after block, in an order that does not depend on that of the questions."""
        model, waiting = self.writer.build(), iter(sorted(keys))
        blocks = iter(lambda: list(islice(waiting, WRITTEN_AT_ONCE)), [])
        for block in progress(blocks, -(-len(keys) // WRITTEN_AT_ONCE), "summaries"):
            prompts = [Prompt(key, (self._requests[key].text,)) for key in block]
            with naming(model, "predict"):
                predictions = model.predict(prompts, self.writer.trainer.one_process)
            for one in predictions:
                request = self._requests[one.id]
                content = {
                    "text": " ".join(one.output.split()),
                    "tokens": one.tokens,
                    "capped": one.capped,
                    "withheld": one.withheld,
                    "items": request.items,
                    "items_cut": request.cut,
                }
                with write.unit(one.id) as folder:
                    atomic.write_json(folder / UNIT, content)
        return {"writer": dict(model.facts())}

    def unit_facts(self, folder: Path) -> dict[str, Any]:
        """Sums over the summaries of these parts, and what the writer is."""
        units = [_read_unit(folder, key) for key in self._requests]
        return {
            "summaries": len(units),
            "items_read": sum(unit["items"] for unit in units),
            "items_cut": sum(unit["items_cut"] for unit in units),
            "tokens_written": sum(unit["tokens"] for unit in units),
            "at_the_token_limit": sum(bool(unit["capped"]) for unit in units),
            "withheld": sum(unit["withheld"] is not None for unit in units),
            "empty": sum(not unit["text"] for unit in units),
            "writer": dict(self.writer.model.facts()),
        }

    def load(self, folder: Path) -> None:
        """Lets the summary read what was written."""

        def written(request: str) -> str:
            return str(_read_unit(folder, request_key(request))["text"])

        self.summary.load(written, self.writer.model.token_counter)

    @cached_property
    def _requests(self) -> dict[str, SummaryRequest]:
        """The distinct requests by their keys."""
        return {request_key(request.text): request for request in self._read_requests()}

    def _read_requests(self) -> Iterator[SummaryRequest]:
        counter = self.writer.model.token_counter
        for part in self.parts:
            for example in progress(part.examples, len(part.examples), "profiles"):
                with naming(self.summary, "request", example.id):
                    request = self.summary.request(self.task, example.profile, counter)
                if request is not None:
                    yield request


def request_key(text: str) -> str:
    """The name of the summary that answers a request."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_unit(folder: Path, key: str) -> Mapping[str, Any]:
    return atomic.read_json(folder / UNITS / key / UNIT)


def written_summaries(experiment: Experiment, parts: Sequence[Part]) -> list[Summaries]:
    """What a model has to write before the experiment can run; nothing is made."""
    if experiment.writer is None:
        return []
    assert isinstance(experiment.summary, WrittenSummary)
    return [Summaries(experiment.summary, experiment.writer, experiment.task, parts)]


def validate_summary(experiment: Experiment, parts: Sequence[Part]) -> None:
    """Raises InputError, before any long work, for a summary that cannot be made or shown."""
    summary = experiment.summary
    if summary is None:
        if experiment.mode == SUMMARIES:
            raise InputError(
                "mode=summaries makes summaries: choose one, such as summary=statistics"
            )
        return
    if experiment.augmentation is not None:
        place = inspect.signature(type(experiment.augmentation).__call__).parameters
        if "summary" not in place:
            raise InputError(
                f"{type(experiment.augmentation).__qualname__} shows no summary: its __call__ "
                "lacks the argument summary"
            )
    summary.validate(experiment.task, all(part.first_undated is None for part in parts))
    if experiment.writer is not None:
        assert isinstance(summary, WrittenSummary)
        _validate_writer(experiment.writer, summary, experiment.task, parts)


def _validate_writer(
    writer: Writer, summary: WrittenSummary, task: Task, parts: Sequence[Part]
) -> None:
    if writer.model.has_random_weights:
        raise InputError(
            "a model of random weights writes no summary: name another writer, summary.model=… "
            "and summary.name=…, or a fine-tuned one, summary.name=RUN/checkpoint"
        )
    is_api = not writer.model.uses_trainer
    if is_api and task.licence and not summary.allow_api and not all(p.made_up for p in parts):
        raise InputError(
            f"these texts are under a licence ({task.licence}), and the writer of summaries is an "
            "API: use a local summary.model, or summary.allow_api=true if the licence allows it"
        )
    try:
        writer.model.validate(False, writer.trainer.precision, writer.trainer.one_process)
    except InputError as error:
        raise InputError(f"the writer of summaries: {error}") from error
