"""One folder per run, in open formats: enough to repeat the run and to compare it.

result.json       the record (`lamp_exp.results.schema`); written last, so a folder that has it is
                  complete
predictions.json  the official format
examples.parquet  one row per question
prompts.jsonl, rankings.jsonl   what the model was given, or the rankings, by mode
feedback.parquet  the rewards of single items, by mode
summaries.jsonl   the summary of each question's profile, by mode
config.yaml       the resolved configuration
run.log           what was logged; with the traceback, if the run failed
stale.txt         why the run should not be compared any more, if code or data have changed
"""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from lamp_exp.errors import InputError
from lamp_exp.results.journal import remove_answers
from lamp_exp.results.schema import NewerSchemaError, RunResult, SchemaError
from lamp_exp.storage import atomic, locks
from lamp_exp.values import Hit, Prediction, Prompt, Ranking, Scores

log = logging.getLogger("lamp_exp")
RESULT = "result.json"
BEGUN = "begun.json"  # the code and versions that a run was started with, until it is finished
STATUS = "status.json"  # of a job of a sweep, and of a run that failed as one
STALE = "stale.txt"
CONFIG, EXAMPLES = "config.yaml", "examples.parquet"
RANKINGS, PROMPTS, PREDICTIONS = "rankings.jsonl", "prompts.jsonl", "predictions.json"
FEEDBACK, SUMMARIES = "feedback.parquet", "summaries.jsonl"
# What a finished run has, as far as its mode makes them.
MADE_FILES = (CONFIG, RANKINGS, FEEDBACK, SUMMARIES, PROMPTS, PREDICTIONS, EXAMPLES)
NULLABLE_NUMBERS = {"newest_item_days", "profile_days", "top_similarity"}  # columns of examples
REPLACEMENT = ".new"
CHECKPOINT, TRAINING_SETTINGS = "checkpoint", "lamp_exp.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where one run is written; the folder's name ends with the hash of the run's identity."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, also of the folder in which it is made again."""
        return self.path.name.removeprefix(".").removesuffix(REPLACEMENT)

    def replacement(self) -> RunFolder:
        """A folder beside this one, so that a finished run stays until another has succeeded."""
        return RunFolder(self.path.with_name(f".{self.name}{REPLACEMENT}"))

    def replace(self, finished: RunFolder) -> None:
        """Puts this folder in the place of a finished run."""
        atomic.replace_folder(self.path, finished.path)

    @contextmanager
    def lock(self, wait: bool = True) -> Iterator[None]:
        """Held by the one process that may write here; another one waits, and logs that.

        Without `wait`, raises InputError if another process holds it.
        """
        try:
            with locks.exclusive(self.path, wait, log.info):
                yield
        except locks.Locked as error:
            raise InputError(str(error)) from error

    def remove(self) -> bool:
        """Removes the folder; returns False if a process writes here."""
        try:
            with locks.exclusive(self.path.with_name(self.name), wait=False):
                shutil.rmtree(self.path)
        except locks.Locked:
            return False
        return True

    # --- reading -------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether a complete run is here: its record, and all files that the record names.

        A record that is empty or damaged is set aside and counts as missing; so do empty files.
        """
        return self._complete() is not None

    def finished_result(self) -> RunResult | None:
        """The record of a complete run, marked as stale as `read` does; None if there is none."""
        result = self._complete()
        return None if result is None else result.with_stale(self._why_stale(result))

    def others_of_its_name(self) -> Iterator[tuple[RunFolder, RunResult]]:
        """The other finished runs beside it whose names differ in nothing but the hash."""
        stem = self.name.rpartition("-")[0]
        for path in sorted(self.path.parent.glob(f"{glob.escape(stem)}-*")):
            other = RunFolder(path)
            result = None if path == self.path else other.finished_result()
            if result is not None:
                yield other, result

    def _complete(self) -> RunResult | None:
        result = self._read()
        return result if result is not None and all(map(self._holds, result.files)) else None

    def _holds(self, name: str) -> bool:
        path = self.path / name
        return path.is_file() and path.stat().st_size > 0

    def read(self) -> RunResult:
        """The record, marked as stale if it should not be compared with current runs.

        Raises FileNotFoundError if there is none, NewerSchemaError if it is of a newer program.
        """
        result = self._read()
        if result is None:
            raise FileNotFoundError(f"{self.path / RESULT}: there is no finished run")
        return result.with_stale(self._why_stale(result))

    def _why_stale(self, result: RunResult) -> str | None:
        """Why this run, or a run that it chose answers from, should not be compared any more."""
        reason = self.stale
        if reason is None and result.routing is not None:
            for candidate in result.routing.candidates:
                for name in (candidate.run, *candidate.learned_from):
                    if RunFolder(self.path.parent / name).stale is not None:
                        return f"its candidate {candidate.name} is stale: {name}"
        return reason

    def _read(self) -> RunResult | None:
        content = atomic.read_json_or_none(self.path / RESULT)
        if content is None:
            return None
        try:
            return RunResult.from_json(content)
        except NewerSchemaError as error:
            raise NewerSchemaError(f"{self.path / RESULT}: {error}") from error
        except SchemaError as error:
            atomic.report_damage(self.path / RESULT, error)
            return None

    def first_output(self) -> str | None:
        """The output for the first question; None where there are no predictions."""
        content = atomic.read_json_or_none(self.path / PREDICTIONS)
        return content["golds"][0]["output"] if content and content["golds"] else None

    @property
    def stale(self) -> str | None:
        """Why this run should not be compared with current ones; None if it may."""
        reason = atomic.read_text_or_none(self.path / STALE)
        return None if reason is None else reason.strip()

    # --- writing -------------------------------------------------------------------------------

    def start(self, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Makes the folder, with the resolved configuration.

        What an interrupted run left is kept if the same code and versions (`provenance`) resume
        it; otherwise the folder is emptied.
        """
        begun = atomic.read_json_or_none(self.path / BEGUN)
        if begun != json.loads(json.dumps(provenance)):
            shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
        atomic.write_text(self.path / CONFIG, [text])
        atomic.write_json(self.path / BEGUN, provenance)

    def mark_stale(self, reason: str | None) -> None:
        """Marks a finished run as stale, with the reason, or as fresh."""
        path = self.path / STALE
        if reason is None:
            path.unlink(missing_ok=True)
        elif self.stale != reason:
            atomic.write_text(path, [reason, "\n"])

    def write_result(self, result: RunResult) -> None:
        """Writes the record, the last file of a run; then removes what an interruption needs."""
        files = tuple(name for name in MADE_FILES if (self.path / name).is_file())
        atomic.flush_tree(self.path)  # whoever sees the record sees all that it names
        atomic.write_json(self.path / RESULT, replace(result, files=files).to_json())
        remove_answers(self.path)
        for path in (self.path / BEGUN, self.path / STATUS, *self.path.glob("process-*.log")):
            path.unlink(missing_ok=True)

    def copy_files(self, other: RunFolder) -> None:
        """Copies another run's files and checkpoint, except its record and configuration."""
        for name in set(MADE_FILES) - {CONFIG}:
            if (other.path / name).is_file():
                shutil.copyfile(other.path / name, self.path / name)
        if (other.path / CHECKPOINT).is_dir():
            shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)
            shutil.copytree(other.path / CHECKPOINT, self.path / CHECKPOINT, copy_function=_link)

    def write_training_settings(self, settings: Mapping[str, Any]) -> None:
        """Writes beside the weights how their prompts were made; see `training_settings`."""
        atomic.write_json(self.path / CHECKPOINT / TRAINING_SETTINGS, settings)

    def write_rankings(self, rankings: Iterable[tuple[str, Ranking]]) -> None:
        """Writes `rankings.jsonl`: the id of each question with all hits, best first."""
        with (self.path / RANKINGS).open("w", encoding="utf-8") as file:
            for id, ranking in rankings:
                hits = zip(ranking.item_ids(), ranking.scores, strict=True)
                items = [{"id": item_id, "score": score} for item_id, score in hits]
                file.write(_json_line({"id": id, "items": items}))

    def write_feedback(
        self, rows: Iterable[tuple[str, str, int, float]], users: Mapping[str, str]
    ) -> None:
        """Writes `feedback.parquet`: question, item, rank from 0 on, reward, user."""
        import pyarrow as pa
        import pyarrow.parquet

        columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
        types = {"question": pa.string(), "item": pa.string(), "rank": pa.int32()}
        types["reward"] = pa.float64()
        arrays = [pa.array(c, t) for c, t in zip(columns, types.values(), strict=True)]
        table = pa.table(arrays, names=list(types))
        owners = pa.array([users[question] for question in columns[0]], pa.string())
        pyarrow.parquet.write_table(table.append_column("user", owners), self.path / FEEDBACK)

    def write_summaries(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Writes `summaries.jsonl`: the id and user of each question, the text."""
        with (self.path / SUMMARIES).open("w", encoding="utf-8") as file:
            for id, user, text in rows:
                file.write(_json_line({"id": id, "user": user, "summary": text}))

    def first_summaries(self, most: int) -> list[tuple[str, str]]:
        """The first ids and summaries; empty for a run of another mode."""
        path = self.path / SUMMARIES
        if not path.is_file():
            return []
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in islice(file, most)]
        return [(row["id"], row["summary"]) for row in rows]

    @contextmanager
    def prompts_file(self) -> Iterator[Callable[[Prompt], None]]:
        """Opens `prompts.jsonl`; yields a function that writes a prompt: passages and items."""
        with (self.path / PROMPTS).open("w", encoding="utf-8") as file:

            def write(prompt: Prompt) -> None:
                row = {"id": prompt.id, "passages": list(prompt.passages)}
                file.write(_json_line({**row, "items": _items(prompt.items)}))

            yield write

    def write_predictions(self, task: str, outputs: Iterable[tuple[str | int, str]]) -> None:
        """Writes `predictions.json` in the official format, ids as the question file has them."""
        golds = [{"id": id, "output": output} for id, output in outputs]
        atomic.write_json(self.path / PREDICTIONS, {"task": task, "golds": golds})

    def write_examples(
        self,
        columns: Mapping[str, Sequence[Any]],
        prompts: Sequence[Prompt],
        predictions: Sequence[Prediction],
        scores: Scores | None,
        unknown: Collection[str] = (),
    ) -> None:
        """Writes `examples.parquet`: `columns` of the questions, prompts, outputs and scores.

        Columns named in `unknown` have no values.
        """
        import pyarrow as pa
        import pyarrow.parquet

        floats = {n: pa.array(columns[n], pa.float64()) for n in NULLABLE_NUMBERS & columns.keys()}
        items = pa.array([[h.id for h in p.items] for p in prompts], pa.list_(pa.string()))
        item_scores = [[h.score for h in p.items] for p in prompts]
        table: dict[str, Any] = {
            **columns,
            "target": pa.array(columns["target"], pa.string()),
            **floats,
            "raw_output": pa.array([prediction.raw for prediction in predictions], pa.string()),
            "prediction": [prediction.output for prediction in predictions],
            **({} if scores is None else scores.per_example),
            "items": items,
            "item_scores": pa.array(item_scores, pa.list_(pa.float64())),
            "items_lost": [prompt.lost_items for prompt in prompts],
            "texts_cut": [prompt.cut_texts for prompt in prompts],
            "passages_cut": [prompt.cut_passages for prompt in prompts],
            "prompt_tokens": [prompt.tokens for prompt in prompts],
            "output_tokens": [prediction.tokens for prediction in predictions],
            "output_capped": [prediction.capped for prediction in predictions],
        }
        made = pa.table(table)
        for name in unknown:
            column = made.schema.get_field_index(name)
            nulls = pa.nulls(made.num_rows, made.schema.field(name).type)
            made = made.set_column(column, name, nulls)
        pyarrow.parquet.write_table(made, self.path / EXAMPLES)


def training_settings(checkpoint: str) -> dict[str, Any]:
    """How the prompts of a checkpoint of this project were made; empty for any other model."""
    content = atomic.read_json_or_none(Path(checkpoint) / TRAINING_SETTINGS)
    return content if isinstance(content, dict) else {}


def _link(source: str, target: str) -> None:
    """A second name for a file where the disk allows it, so that weights take no more room."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _items(hits: Iterable[Hit]) -> list[dict[str, Any]]:
    return [{"id": hit.id, "score": hit.score} for hit in hits]


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
