"""`python -m lamp_exp.data sample`: the made-up sample as official files, at any size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data import sample
from lamp_exp.data.arguments import add_part_arguments, chosen_parts
from lamp_exp.data.official import MADE_UP
from lamp_exp.data.source import part_folder
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.storage.atomic import json_list, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to make, how much of it, and where."""
    parser.add_argument("--out", type=Path, required=True, help="the data folder to write")
    add_part_arguments(parser)
    parser.add_argument("--questions", type=int, help="of each part (default: 2000, 300, 300)")
    parser.add_argument("--items", type=int, default=sample.Size().items, help="of a profile, mean")
    parser.add_argument("--words", type=int, default=sample.Size().words, help="of a text")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace, tasks: Mapping[str, Task]) -> int:
    """Writes all parts asked for; a part that is there already is replaced when it is whole."""
    size = sample.Size(options.questions, options.items, options.words, options.seed)
    if min(size.questions or 1, size.items + 1, size.words) < 1:
        raise InputError("--questions and --words must be at least 1, --items at least 0")
    for name, split, part in chosen_parts(options, tasks):
        print(write_part(tasks[name], split, part, size, options.out))
    return 0


def write_part(task: Task, split: str, part: str, size: sample.Size, out: Path) -> Path:
    """One part, row by row; no outputs for test, as the benchmark publishes none."""
    folder = part_folder(out, split, task.folders[0], part)
    folder.mkdir(parents=True, exist_ok=True)
    golds: list[dict[str, str]] = []

    def questions() -> Iterator[dict[str, Any]]:
        rows = sample.rows(task, split, part, size)
        total = size.questions or sample.DEFAULT_QUESTIONS[part]
        for row, gold in progress(rows, total, f"{task.name} {split} {part}"):
            golds.append({"id": row["id"], "output": gold})
            yield {MADE_UP: True, **row}

    write_text(folder / f"{part}_questions.json", json_list(questions()))
    if part != "test":
        content = json.dumps({"task": task.name, "golds": golds}, ensure_ascii=False)
        write_text(folder / f"{part}_outputs.json", [content])
    return folder / f"{part}_questions.json"
