"""Golds as `check` reads them: what can be used is, and what cannot is found."""

from __future__ import annotations

import textwrap

from lamp_exp.contracts import Task
from lamp_exp.data import parse
from lamp_exp.data.findings import Findings
from lamp_exp.data.parse import is_id, is_value
from lamp_exp.data.source import Files, read_json
from lamp_exp.errors import InputError


def usable_golds(files: Files, task: Task, part: str, findings: Findings) -> dict[str, str] | None:
    """The golds that can be read, by id; None where there is no use of them."""
    file = files.outputs_file
    if not file.exists():
        code = "golds_not_public" if part == "test" else "golds_absent"
        findings.add(code, file=file.name)
        return None
    try:
        content = read_json(file)
    except InputError as error:
        findings.add("golds_unreadable", error=short(error).removeprefix(f"{file} "))
        return None
    if not isinstance(content, dict) or not isinstance(content.get("golds"), list):
        shape = 'must be {"task": "LaMP_n", "golds": [{"id", "output"}, ...]}'
        findings.add("golds_unreadable", error=shape)
        return None
    named = content.get("task")
    if named is not None and (not is_id(named) or str(named).replace("-", "_") != task.name):
        findings.add("golds_of_other_task", named=short(repr(named) if is_id(named) else "no text"))
    golds: dict[str, str] = {}
    for number, row in enumerate(content["golds"], 1):
        _gold(row, number, task, golds, findings)
    return golds


def _gold(row: object, number: int, task: Task, golds: dict[str, str], findings: Findings) -> None:
    id, output = (row.get("id"), row.get("output")) if isinstance(row, dict) else (None, None)
    if not is_id(id) or not is_value(output):
        findings.add("golds_malformed", at={"gold number": str(number)})
        return
    at = {"gold": str(id)}
    if str(id) in golds:
        findings.add("golds_repeated", at=at)
    if not task.is_valid_output(str(output)):
        findings.add("golds_impossible", at=at)
    golds[str(id)] = whole(str(output), findings)


def is_blank(value: object) -> bool:
    """Whether it is no value at all: null, or a text without a visible character."""
    return value is None or (isinstance(value, str) and not value.strip())


def whole(text: str, findings: Findings) -> str:
    """A text whose halves of characters are replaced, as loading does."""
    kept = parse.whole(text)
    if kept != text:
        findings.add("characters_broken")
    return kept


def short(text: object) -> str:
    """The beginning of a text that may be huge, on one line and fit for any screen."""
    printable = str(text)[:1000].encode("utf-8", "replace").decode()
    return textwrap.shorten(printable, 300, placeholder=" …")
