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
from lamp_exp.data.parse import read_golds, some
from lamp_exp.data.source import read_json
from lamp_exp.environment import end_with_the_reader, prepare_process
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks


def score_files(
    golds_file: Path, predictions_file: Path, task: str | None = None
) -> dict[str, Any]:
    """The official metrics, and what was unreadable.

    Every gold must have its prediction and the other way round. Raises InputError that names
    the ids, or says what is wrong with a file.
    """
    gold_task, golds = read_golds(read_json(golds_file), str(golds_file))
    predicted_task, predictions = read_golds(read_json(predictions_file), str(predictions_file))
    if gold_task and predicted_task and gold_task != predicted_task:
        raise InputError(
            f"{golds_file} is of task {gold_task}, {predictions_file} of {predicted_task}"
        )
    refuse_other_ids(golds, predictions)
    name = task or gold_task or predicted_task
    if name is None:
        raise InputError(f"{golds_file} names no `task`: add it, or give --task lamp1 … lamp7")
    chosen = choose_task(name, golds, predictions)
    scores = chosen.score([predictions[id] for id in golds], list(golds.values()))
    return {
        "task": chosen.name,
        "questions": len(golds),
        "metrics": dict(scores.metrics),
        "unreadable": scores.invalid_outputs,
        "notes": dict(scores.notes),
    }


def refuse_other_ids(
    golds: Collection[str], predictions: Collection[str], lacks: str = "gold"
) -> None:
    """A partial join is no score. `lacks` says what predictions with other ids are without."""
    missing = [id for id in golds if id not in predictions]
    extra = [id for id in predictions if id not in golds]
    faults = [f"no prediction for {len(missing)} ids: {some(missing)}"] if missing else []
    faults += [f"{len(extra)} predictions without a {lacks}: {some(extra)}"] if extra else []
    if faults:
        raise InputError("; ".join(faults))
    if not golds:
        raise InputError("there are no golds to score")


def choose_task(name: str, golds: Mapping[str, str], predictions: Mapping[str, str]) -> Task:
    """The task of that name whose answers the golds can be."""
    wanted = name.replace("-", "_").lower()
    tasks = all_tasks()
    # LaMP_2 is two tasks of one name: the labels of the golds tell which.
    candidates = [task for key, task in tasks.items() if wanted in (key, task.name.lower())]
    if not candidates:
        raise InputError(f"{name!r} is no task: choose one of {', '.join(tasks)}")
    for task in candidates:
        if all(map(task.is_valid_output, golds.values())):
            return task
    task = candidates[0]
    odd = next(id for id, gold in golds.items() if not task.is_valid_output(gold))
    fault = f"the gold {golds[odd]!r} of id {odd!r} is no answer to {task.name}"
    if all(map(task.is_valid_output, predictions.values())):
        fault += ", but all predictions are: are the two files swapped?"
    raise InputError(fault)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
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
    prepare_process()
    end_with_the_reader()
    sys.exit(main())
