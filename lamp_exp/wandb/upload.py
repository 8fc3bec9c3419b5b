"""What W&B receives of a finished run: its numbers, its predictions and its record."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_exp.environment import environment
from lamp_exp.results.candidates import CHOSEN, PROBABILITY
from lamp_exp.results.folder import RESULT
from lamp_exp.results.redaction import scrubbed
from lamp_exp.results.schema import RunResult
from lamp_exp.storage.atomic import write_json, write_text
from lamp_exp.wandb.session import Session

if TYPE_CHECKING:
    from wandb import Artifact, Table

TABLE = "predictions"


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """The number of rows in the table (0: no table), and whether the record is uploaded."""

    table_rows: int
    artifact: bool


def upload(session: Session, result: RunResult, folder: Path, options: UploadOptions) -> None:
    """Sends the choices as config, the numbers as summary, the other files as an artifact."""
    run: Any = session.run
    choices = {name: value for name, value in result.choices.items() if "/" not in name}
    run.config.update({"choices": choices})
    table, row_counts = predictions_table(folder / "examples.parquet", options.table_rows)
    run.summary.update({**summary(result), **row_counts})
    session.store.mkdir()
    staging = {"WANDB_DATA_DIR": str(session.store)}  # keeps waiting files with the run
    with environment(staging, unless_set=True):
        artifact = _artifact(result, folder, session.store, table, options.artifact)
    if artifact.manifest.entries:
        for entry in artifact.manifest.entries.values():
            inside = os.path.relpath(str(entry.local_path), session.store)
            entry.local_path = str(session.store_path_for_wandb() / inside)
        run.log_artifact(artifact)
    if table is not None:
        bound: Any = table
        bound.bind_to_run(run, TABLE, "summary")  # else W&B stores it in a second artifact
        run.summary[TABLE] = table


def summary(result: RunResult) -> dict[str, Any]:
    """The record's numbers, unrounded: `final/<metric>`, `seconds/<stage>`, `counts/<name>`.

    The main metric is also `main/<task>`, for a workspace's chart of each task. Of a routed run,
    `routing/share/<candidate>` and what the choices were worth.
    """
    groups = {"final": result.metrics or {}, "seconds": result.seconds, "counts": result.counts}
    numbers = {f"{group}/{n}": v for group, values in groups.items() for n, v in values.items()}
    if result.main_value is not None:
        numbers[f"main/{result.choices['task']}"] = result.main_value
    numbers |= _routing_numbers(result)
    return {**numbers, "k": result.k, "made_up_data": result.made_up_data}


def _routing_numbers(result: RunResult) -> dict[str, Any]:
    """Shares and values of the candidates; where golds are known, what choosing was worth."""
    routing = result.routing
    if routing is None:
        return {}
    chosen = sum(one.chosen for one in routing.candidates)
    numbers: dict[str, Any] = {
        f"share/{one.name}": one.chosen / chosen for one in routing.candidates
    }
    numbers |= {f"value/{one.name}": one.value for one in routing.candidates}
    numbers |= {
        name: getattr(routing, name) for name in ("success_rate", "best_single", "oracle", "worst")
    }
    if routing.oracle is not None and result.main_value is not None:
        higher = result.metric_facts[result.main_metric].higher_is_better
        numbers["regret"] = (routing.oracle - result.main_value) * (1 if higher else -1)
    return {f"routing/{name}": value for name, value in numbers.items() if value is not None}


def predictions_table(file: Path, rows: int) -> tuple[Table | None, dict[str, int]]:
    """The first `rows` predictions with their scores, and how many are in it and left out."""
    import pyarrow.parquet
    import wandb

    examples = pyarrow.parquet.ParquetFile(file)
    names = examples.schema_arrow.names
    scores = names[names.index("prediction") + 1 : names.index("items")]
    routed = [name for name in (CHOSEN, PROBABILITY) if name in names]
    columns = ["id", "user", "target", "prediction", *scores, *routed]
    shown = min(rows, examples.metadata.num_rows)
    counts = {"table/rows": shown, "table/rows_left_out": examples.metadata.num_rows - shown}
    if not shown:
        return None, counts
    content = next(examples.iter_batches(shown, columns=columns)).to_pylist()
    return wandb.Table(columns, [[row[name] for name in columns] for row in content]), counts


def _artifact(
    result: RunResult, folder: Path, store: Path, table: Table | None, with_record: bool
) -> Artifact:
    """The record without what identifies this machine, and the table; no weights, no data."""
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", result.run), "record")
    if table is not None:
        artifact.add(table, TABLE)
    if with_record:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        write_json(store / "result.json", scrubbed(content))
        text = yaml.safe_dump(scrubbed(result.settings), sort_keys=False, allow_unicode=True)
        write_text(store / "config.yaml", [text])
        artifact.add_file(str(store / "result.json"), policy="immutable")
        artifact.add_file(str(store / "config.yaml"), policy="immutable")
        artifact.add_file(str(folder / "predictions.json"))
    return artifact
