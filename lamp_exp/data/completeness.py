"""Whether a downloaded file is a complete file of the benchmark."""

from __future__ import annotations

from pathlib import Path

from lamp_exp.data.official import QuestionReader, RaiseFaults, parse_outputs
from lamp_exp.data.stream import Broken, objects, open_text, parse_json

HEAD = 2**20  # bytes in which a web page shows that it is one
LONGEST_QUESTION = 2**26  # characters; the longest real ones have some millions
LARGEST_OUTPUTS = 2**28  # bytes; the real ones have a few millions


def check_complete(path: Path) -> None:
    """Raises Broken unless `path` is complete JSON of the right shape, whatever its size."""
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
    except ValueError as error:  # of JSON, of UTF-8, of numbers too long, of the content's shape
        raise Broken(str(error)) from error


def is_complete(path: Path) -> bool:
    """Whether `check_complete` raises nothing."""
    try:
        check_complete(path)
    except Broken:
        return False
    return True


def check_questions(path: Path, longest: int = LONGEST_QUESTION) -> None:
    """Reads the questions one by one, of whatever task: some files are larger than memory."""
    reader = QuestionReader(RaiseFaults("the questions"))
    with open_text(path) as file:
        for question in objects(file, longest):
            reader.question(question)
    if not reader.ids:
        raise Broken("it holds no questions")


def check_outputs(path: Path) -> None:
    """Reads the outputs; if they name a task, it must be the folder's."""
    if path.stat().st_size > LARGEST_OUTPUTS:
        raise Broken("too large for an outputs file")
    outputs = parse_outputs(parse_json(path.read_bytes()), "the outputs")
    if outputs.task is not None and outputs.task not in path.parts:
        raise Broken(f"it is of task {outputs.task}")
    if not outputs.by_id:
        raise Broken("it holds no golds")
