"""`python -m lamp_exp.score GOLDS.json PREDICTIONS.json`: the official scores of any two files.

Both are in the official format, `{"task": "LaMP_n", "golds": [{"id", "output"}, ...]}`, wherever
they come from. Prints one JSON object; a mistake ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.official import format_ids, parse_outputs, read_json
from lamp_exp.environment import run_command
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks
from lamp_exp.wording import count_of


def score_files(
    golds_file: Path, predictions_file: Path, task: str | None = None
) -> dict[str, Any]:
    """The official metrics, and the number of outputs that are no answers.

    Every gold must have its prediction and the other way round. Raises InputError that names
    the ids, or says what is wrong with a file.
    """
    golds = parse_outputs(read_json(golds_file), str(golds_file))
    predictions = parse_outputs(read_json(predictions_file), str(predictions_file))
    if golds.task and predictions.task and golds.task != predictions.task:
        raise InputError(
            f"{golds_file} is of task {golds.task}, {predictions_file} of {predictions.task}"
        )
    refuse_other_ids(golds.by_id, predictions.by_id)
    name = task or golds.task or predictions.task
    if name is None:
        raise InputError(f"{golds_file} names no `task`: add it, or give --task lamp1 … lamp7")
    found = choose_task(name, golds.by_id, predictions.by_id)
    outputs = [predictions.by_id[id] for id in golds.by_id]
    scores = found.score(outputs, list(golds.by_id.values()))
    return {
        "task": found.name,
        "questions": len(outputs),
        "metrics": dict(scores.metrics),
        "unreadable": scores.invalid_outputs,
        "notes": dict(scores.notes),
    }


def refuse_other_ids(
    golds: Collection[str], predictions: Collection[str], missing_kind: str = "gold"
) -> None:
    """Raises InputError unless both have the same ids: a partial join is no score.

    `missing_kind` is what predictions with other ids lack.
    """
    missing = [id for id in golds if id not in predictions]
    extra = [id for id in predictions if id not in golds]
    faults = []
    if missing:
        faults.append(f"no prediction for {count_of(len(missing), 'id')}: {format_ids(missing)}")
    if extra:
        predictions_found = count_of(len(extra), "prediction")
        faults.append(f"{predictions_found} without a {missing_kind}: {format_ids(extra)}")
    if faults:
        raise InputError("; ".join(faults))
    if not golds:
        raise InputError("there are no golds to score")


def choose_task(name: str, golds: Mapping[str, str], predictions: Mapping[str, str]) -> Task:
    """The task of that name to which the golds are answers.

    LaMP_2 is two tasks of one name: the labels of the golds decide.
    """
    option = name.replace("-", "_").lower()
    tasks = all_tasks()
    candidates = [task for key, task in tasks.items() if option in (key, task.name.lower())]
    if not candidates:
        raise InputError(f"{name!r} is no task: choose one of {', '.join(tasks)}")
    for task in candidates:
        if all(map(task.is_valid_output, golds.values())):
            return task
    task = candidates[0]
    id, gold = next(pair for pair in golds.items() if not task.is_valid_output(pair[1]))
    fault = f"the gold {gold!r} of id {id!r} is no answer to {task.name}"
    if all(map(task.is_valid_output, predictions.values())):
        fault += ", but all predictions are: are the two files swapped?"
    raise InputError(fault)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.score", description=__doc__)
    parser.add_argument("golds", type=Path, help="the benchmark's outputs file")
    parser.add_argument("predictions", type=Path, help="a file of the same format")
    parser.add_argument("--task", help="lamp1 … lamp7, lamp2_news; by default as the files say")
    options = parser.parse_args(arguments)
    try:
        result = score_files(options.golds, options.predictions, options.task)
    except InputError as error:
        print(f"lamp_exp.score: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
