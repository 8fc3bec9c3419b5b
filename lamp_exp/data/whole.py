"""Whether a downloaded file is a complete file of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamp_exp.data.parse import is_id, read_golds
from lamp_exp.data.stream import Broken, objects

HEAD = 2**20  # bytes in which a web page shows that it is one
LONGEST_QUESTION = 2**26  # characters; the longest real ones have some millions
LARGEST_OUTPUTS = 2**28  # bytes; the real ones have a few millions


def check(path: Path) -> None:
    """Raises Broken unless `path`, whatever its size, is complete JSON of the right shape."""
    with path.open("rb") as file:
        if file.read(HEAD).lstrip().startswith(b"<"):
            raise Broken("a web page, not JSON")
    try:
        if "_questions.json" in path.name:
            check_questions(path)
        else:
            check_outputs(path)
    except RecursionError as error:
        raise Broken("it is nested too deeply") from error
    except ValueError as error:  # of JSON, of UTF-8, of numbers too long, of the outputs' shape
        raise Broken(str(error)) from error


def is_whole(path: Path) -> bool:
    """Whether `check` has no objection."""
    try:
        check(path)
    except Broken:
        return False
    return True


def check_questions(path: Path, longest: int = LONGEST_QUESTION) -> None:
    """Reads the list object by object: some files are larger than memory."""
    number = 0
    with path.open(encoding="utf-8", newline="") as file:
        for number, question in enumerate(objects(file, longest), 1):
            try:
                _refuse_odd(question)
            except Broken as error:
                raise Broken(f"question {number}: {error}") from error
    if not number:
        raise Broken("it holds no questions")


def check_outputs(path: Path) -> None:
    """Loads it; the task must be the folder's."""
    if path.stat().st_size > LARGEST_OUTPUTS:
        raise Broken("too large for an outputs file")
    task, golds = read_golds(json.loads(path.read_text(encoding="utf-8")), "the outputs")
    if task is not None and task not in path.parts:
        raise Broken(f"it is of task {task}")
    if not golds:
        raise Broken("it holds no golds")


def _refuse_odd(question: dict[str, Any]) -> None:
    """What makes an object a question, of whatever task."""
    id, profile = question.get("id"), question.get("profile")
    if not is_id(id):
        raise Broken(f"its `id` must be text or a whole number, not {id!r}")
    if "input" not in question:
        raise Broken("it has no `input`")
    if not isinstance(profile, list) or not all(isinstance(item, dict) for item in profile):
        raise Broken("its `profile` must be a list of objects")
