"""One folder per run: enough to repeat it and to compare it, in open formats.

result.json       settings, metrics, seconds, counts, versions; written last, so that a
folder that has it is whole
predictions.json  the official format
examples.parquet  one row a question
config.yaml       the resolved configuration
run.log           what was logged; with the traceback, if it failed
stale.txt         why it should not be compared any more, if code or data have changed
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lamp_exp.errors import InputError
from lamp_exp.results.journal import remove_answers
from lamp_exp.results.schema import RunResult
from lamp_exp.storage.atomic import replace_folder, write_whole
from lamp_exp.values import Hit, Prediction, Prompt, Scores

log = logging.getLogger("lamp_exp")
RESULT = "result.json"
BEGUN = "begun.json"  # by what code and versions, until the run is finished
STATUS = "status.json"  # of a job of a sweep, and of a run that failed as one
STALE = "stale.txt"
IMPORTED = "imported"  # the mode of runs whose predictions were made elsewhere
LASTING = (  # what a whole run has, as far as its mode makes them
    "config.yaml", "rankings.jsonl", "prompts.jsonl", "predictions.json", "examples.parquet",
)  # fmt: skip
MEASURES = {"newest_item_days", "profile_days", "top_similarity"}  # of questions; may all be null
ANEW = ".new"
CHECKPOINT, TRAINED = "checkpoint", "lamp_exp.json"
PACKAGES = (
    "lamp-exp", "torch", "transformers", "tokenizers", "pytorch-lightning", "hydra-core",
    "omegaconf", "sentence-transformers", "faiss-cpu", "rouge-score", "peft", "openai", "numpy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where one run is written; its name ends with the run's identity."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, also while it is made anew beside a finished one."""
        return self.path.name.removeprefix(".").removesuffix(ANEW)

    def anew(self) -> RunFolder:
        """A folder beside this one, so that a finished run stays until another has succeeded."""
        return RunFolder(self.path.with_name(f".{self.name}{ANEW}"))

    def replace(self, finished: RunFolder) -> None:
        """Takes the place of a finished run."""
        replace_folder(self.path, finished.path)

    @property
    def finished(self) -> bool:
        """Whether a whole run lies there: its last file, and all that it names."""
        if not (self.path / RESULT).is_file():
            return False
        return all((self.path / name).is_file() for name in self.result().get("files", ()))

    @contextmanager
    def lock(self, wait: bool = True) -> Iterator[None]:
        """Held by the one process that may write here; another waits, and says so.

        Without `wait`, raises InputError if another has it.
        """
        locks = self.path.parent / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{self.path.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            told = f"{self.path} is being written by another process"
            if not wait:
                raise InputError(told) from error
            log.info("%s: waiting for it", told)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def start(self, settings: Mapping[str, Any], maker: Mapping[str, Any]) -> None:
        """A folder with the resolved configuration.

        What a run that was broken off left there is kept if the same `maker` (code, versions)
        goes on with it; otherwise the folder is emptied.
        """
        if self._begun_by() != maker:
            shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
        (self.path / "config.yaml").write_text(text, encoding="utf-8")
        write_json(self.path / BEGUN, maker)

    def _begun_by(self) -> Any:
        try:
            return json.loads((self.path / BEGUN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def mark(self, stale: str | None) -> None:
        """Marks a finished run as stale, with the reason, or as fresh."""
        path = self.path / STALE
        if stale is None:
            path.unlink(missing_ok=True)
        elif self.stale != stale:
            write_whole(path, [stale, "\n"])

    @property
    def stale(self) -> str | None:
        """Why this run should not be compared with those of now, if so."""
        path = self.path / STALE
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def result(self) -> dict[str, Any]:
        """What was written last; `stale` says why it should not be compared any more, if so."""
        content: dict[str, Any] = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return {**content, "stale": self.stale} if self.stale else content

    def read(self) -> RunResult:
        """The record, marked as stale if it should not be compared with current runs."""
        content = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return RunResult.from_json(content).with_stale(self.stale)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """The last file of a run, whole or not at all; then what was kept for a break may go."""
        names = [name for name in LASTING if (self.path / name).is_file()]
        write_json(self.path / RESULT, {**result, "files": names})
        remove_answers(self.path)
        for path in (
            self.path / BEGUN,
            self.path / STATUS,
            *self.path.glob("process-*.log"),
        ):
            path.unlink(missing_ok=True)

    def write_training_settings(self, settings: Mapping[str, Any]) -> None:
        """Beside the weights, how they were trained; see `training_settings`."""
        write_json(self.path / CHECKPOINT / TRAINED, settings)

    def write_rankings(self, pairs: Iterable[tuple[str, list[Hit]]]) -> None:
        """`rankings.jsonl`: questions' ids with all hits and scores, best first; as they come."""
        rows = ({"id": id, "items": _items(hits)} for id, hits in pairs)
        _write_lines(self.path / "rankings.jsonl", rows)

    def write_prompts(self, prompts: Iterable[Prompt]) -> None:
        """`prompts.jsonl`: the passages as the tokenizer is given them, and what is in them."""
        rows = (
            {"id": p.id, "passages": list(p.passages), "items": _items(p.items)} for p in prompts
        )
        _write_lines(self.path / "prompts.jsonl", rows)

    def write_predictions(self, task: str, outputs: Iterable[tuple[str | int, str]]) -> None:
        """`predictions.json`: the official format, ids as the question file has them."""
        golds = [{"id": id, "output": output} for id, output in outputs]
        write_json(self.path / "predictions.json", {"task": task, "golds": golds})

    def write_examples(
        self,
        columns: Mapping[str, Sequence[Any]],
        prompts: Sequence[Prompt],
        predictions: Sequence[Prediction],
        scores: Scores | None,
        unknown: Collection[str] = (),
    ) -> None:
        """`examples.parquet`: `columns` of the questions, what was shown, answered and scored.

        Of columns that are `unknown` there is no value.
        """
        import pyarrow as pa
        import pyarrow.parquet

        table: dict[str, Any] = {
            **columns,
            "target": pa.array(columns["target"], pa.string()),
            **{name: pa.array(columns[name], pa.float64()) for name in MEASURES & columns.keys()},
            "prediction": [prediction.output for prediction in predictions],
            **({} if scores is None else scores.per_example),
            "items": pa.array([[h.id for h in p.items] for p in prompts], pa.list_(pa.string())),
            "item_scores": pa.array(
                [[h.score for h in p.items] for p in prompts], pa.list_(pa.float64())
            ),
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
            nothing = pa.nulls(made.num_rows, made.schema.field(name).type)
            made = made.set_column(column, name, nothing)
        pyarrow.parquet.write_table(made, self.path / "examples.parquet")


def training_settings(checkpoint: str) -> dict[str, Any]:
    """How a checkpoint of this project was trained; nothing for any other."""
    path = Path(checkpoint) / TRAINED
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _items(hits: Iterable[Hit]) -> list[dict[str, Any]]:
    return [{"id": hit.id, "score": hit.score} for hit in hits]


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_whole(path, [json.dumps(content, ensure_ascii=False, indent=1), "\n"])


def versions() -> dict[str, str]:
    """Python's and of the packages that make the numbers, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one, or not installed but run from the checkout
    return found


def commit() -> dict[str, Any]:
    """The checkout's commit and whether files differ from it; nothing for an installed wheel."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return {}

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "-uno")),
    }


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MB of 1,000,000 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
