"""What a finished run tells W&B: its numbers, its predictions and its record."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_exp.environment import environment
from lamp_exp.results.folder import write_json
from lamp_exp.results.redaction import scrubbed
from lamp_exp.wandb.session import Session

if TYPE_CHECKING:
    from wandb import Artifact, Table

TABLE = "predictions"


@dataclass(frozen=True, slots=True)
class Options:
    """How much of a result is shared: the table's rows (0: no table), and the record or not."""

    table_rows: int
    artifact: bool


def send(session: Session, result: Mapping[str, Any], folder: Path, options: Options) -> None:
    """The choices go to W&B's config, the numbers to its summary, the rest into an artifact."""
    run: Any = session.run
    choices = {name: value for name, value in result["choices"].items() if "/" not in name}
    run.config.update({"choices": choices})
    table, told = predictions_table(folder / "examples.parquet", options.table_rows)
    run.summary.update({**summary(result), **told})
    session.store.mkdir()
    waiting = {"WANDB_DATA_DIR": str(session.store)}  # what waits to be sent stays with the run
    with environment(waiting, unless_set=True):
        made = _artifact(result, folder, session.store, table, options.artifact)
    if made.manifest.entries:
        _hide_places(made, session)
        run.log_artifact(made)
    if table is not None:
        shown: Any = table
        shown.bind_to_run(run, TABLE, "summary")  # bound: it is not stored once more
        run.summary[TABLE] = table


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The record's numbers, unrounded: `final/<metric>`, `seconds/<stage>`, `counts/<what>`.

    The main metric is also `main/<task>`, so that workspaces can show one bar chart a task.
    """
    metrics, main = result["metrics"] or {}, result["monitor"][0]
    groups = {"final": metrics, "seconds": result["seconds"], "counts": result["counts"]}
    if main in metrics:
        groups["main"] = {result["choices"]["task"]: metrics[main]}
    numbers = {
        f"{group}/{n}": value for group, named in groups.items() for n, value in named.items()
    }
    return {**numbers, "k": result["k"], "made_up_data": result["made_up_data"]}


def predictions_table(file: Path, rows: int) -> tuple[Table | None, dict[str, int]]:
    """The first `rows` answers with their scores, and how many are in it and left out."""
    import pyarrow.parquet
    import wandb

    examples = pyarrow.parquet.ParquetFile(file)
    names = examples.schema_arrow.names
    scores = names[names.index("prediction") + 1 : names.index("items")]
    columns = ["id", "user", "target", "prediction", *scores]
    shown = min(rows, examples.metadata.num_rows)
    told = {"table/rows": shown, "table/rows_left_out": examples.metadata.num_rows - shown}
    if not shown:
        return None, told
    content = next(examples.iter_batches(shown, columns=columns)).to_pylist()
    return wandb.Table(columns, [[row[name] for name in columns] for row in content]), told


def _artifact(
    result: Mapping[str, Any], folder: Path, store: Path, table: Table | None, record: bool
) -> Artifact:
    """The record without what names this machine, and the table; neither weights nor data."""
    import wandb

    made = wandb.Artifact(re.sub(r"[^\w.-]", "-", str(result["run"])), "record")
    if table is not None:
        made.add(table, TABLE)
    if record:
        write_json(store / "result.json", scrubbed(result))
        text = yaml.safe_dump(scrubbed(result["settings"]), sort_keys=False, allow_unicode=True)
        (store / "config.yaml").write_text(text, encoding="utf-8")
        made.add_file(str(store / "result.json"), policy="immutable")
        made.add_file(str(store / "config.yaml"), policy="immutable")
        made.add_file(str(folder / "predictions.json"))
    return made


def _hide_places(made: Artifact, session: Session) -> None:
    for entry in made.manifest.entries.values():
        inside = os.path.relpath(str(entry.local_path), session.store)
        entry.local_path = str(session.stored() / inside)
