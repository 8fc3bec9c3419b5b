"""`python -m lamp_exp.data check`: what is wrong or odd in LaMP files, before it costs a run."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamp_exp.contracts import Task
from lamp_exp.data.arguments import add_part_arguments
from lamp_exp.data.examine import Examined, Measure, Target, examine
from lamp_exp.data.findings import ERROR, NOTE, WARNING, Finding, shortened
from lamp_exp.data.part_comparison import compare_parts, compare_size
from lamp_exp.data.source import parts_there
from lamp_exp.data.stream import read_objects
from lamp_exp.errors import InputError, first_line
from lamp_exp.storage.atomic import write_text
from lamp_exp.wording import count_of

STYLES = {ERROR: "red", WARNING: "yellow", NOTE: "dim"}
PEEK = 20  # questions that tell the two LaMP-2 apart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which parts, where to, and how texts are measured."""
    add = parser.add_argument
    add("--data-dir", required=True, help="where the official files lie")
    add_part_arguments(parser)
    add("--json", metavar="FILE", help="write the report there, too; - for stdout and no table")
    measured = "a folder or hub id: lengths are told in its tokens instead of in words"
    add("--tokenizer", metavar="NAME", help=measured)


def run(options: argparse.Namespace, tasks: Mapping[str, Task]) -> int:
    """Checks what is there; 1 if there are errors, 0 if nothing is worse than a warning."""
    targets = find_targets(options, tasks)
    measure = token_counts(options.tokenizer) if options.tokenizer else word_counts
    unit = "tokens" if options.tokenizer else "words"
    examined = [examine(target, measure) for target in targets]
    groups: dict[tuple[str, str], list[Examined]] = {}
    for one in examined:
        compare_size(one)
        groups.setdefault((one.target.option, one.target.split), []).append(one)
    for parts in groups.values():
        compare_parts(parts)
    if options.json:
        report = json.dumps({"files": [as_json(one, unit) for one in examined]}, indent=1)
        _write(report, options.json)
    if options.json != "-":
        show(examined, unit)
    return 1 if _severities(examined)[ERROR] else 0


def find_targets(options: argparse.Namespace, tasks: Mapping[str, Task]) -> list[Target]:
    by_file: dict[Path, list[Target]] = {}
    for name, split, part, files in parts_there(options, tasks):
        target = Target(name, tasks[name], split, part, files)
        by_file.setdefault(files.questions_file, []).append(target)
    # The two LaMP-2 may share a folder: a file is of the one whose wording it has.
    return [max(rivals, key=_likeness) if rivals[1:] else rivals[0] for rivals in by_file.values()]


def _likeness(target: Target) -> int:
    """How many of the first inputs follow the task's wording."""
    path, like = target.files.questions_file, 0
    try:
        for row in itertools.islice(read_objects(path), PEEK):
            input = row.get("input")
            like += isinstance(input, str) and target.task.follows_template(input)
    except InputError:
        return like  # what is wrong with the file is told when it is examined
    return like


def word_counts(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def token_counts(name: str) -> Measure:
    """Counts tokens, special ones included, as a prompt's budget does."""
    transformers = importlib.import_module("transformers")  # takes seconds: only when asked for
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        reason = shortened(first_line(error))
        raise InputError(
            f"--tokenizer {name}: none could be loaded from it ({reason}): give a local folder, or "
            "a hub id and a network"
        ) from error
    return lambda texts: [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]


def as_json(one: Examined, unit: str) -> dict[str, Any]:
    """The machine-readable report of one part; the sizes of profiles are in items."""
    lengths = {name.replace(" ", "_"): summary(counts) for name, counts in one.lengths.items()}
    return {
        "file": str(one.target.files.questions_file),
        "task": one.target.option,
        "split": one.target.split,
        "part": one.target.part,
        "questions": one.questions,
        "findings": [asdict(found) for found in one.findings.sorted()],
        "lengths": {"unit": unit, **lengths},
    }


def summary(counts: Mapping[int, int]) -> dict[str, float] | None:
    """Mean, 95th percentile (by nearest rank) and maximum of counted values; None without any."""
    total = sum(counts.values())
    if not total:
        return None
    below = 0
    for p95 in sorted(counts):
        below += counts[p95]
        if below >= 0.95 * total:
            break
    mean = sum(value * count for value, count in counts.items()) / total
    return {"mean": round(mean, 1), "p95": p95, "max": max(counts)}


def _write(report: str, place: str) -> None:
    if place == "-":
        print(report)
        return
    try:
        write_text(Path(place).expanduser(), [report, "\n"])
    except OSError as error:
        raise InputError(f"--json {error}") from error


def show(examined: Sequence[Examined], unit: str) -> None:
    """A table for each part, and a line for all of them."""
    console = Console(markup=False, highlight=False, emoji=False)
    for one in examined:
        target = one.target
        questions = count_of(one.questions, "question")
        title = f"{target.option}, split {target.split}, {target.part}: {questions}"
        console.print(Text(title, style="bold"))
        console.print(Text(str(target.files.questions_file)), soft_wrap=True)
        console.print(_findings_table(one.findings.sorted()))
        if any(one.lengths.values()):
            console.print(_lengths_table(one, unit))
        console.print()
    counts = _severities(examined)
    told = ", ".join(count_of(counts[severity], severity) for severity in (ERROR, WARNING, NOTE))
    line = f"{count_of(len(examined), 'file')} checked; kinds of findings: {told}"
    console.print(Text(line, style="bold"))


def _findings_table(findings: Sequence[Finding]) -> Table:
    table = Table()
    table.add_column("severity")
    table.add_column("count", justify="right")
    table.add_column("finding")
    for found in findings:
        meaning = Text.assemble((found.code, "bold"), f": {found.meaning}", (_places(found), "dim"))
        severity = Text(found.severity, STYLES[found.severity])
        table.add_row(severity, str(found.count), meaning)
    return table


def _places(found: Finding) -> str:
    """The first places in words; what all are is said once where that is all of it."""
    kinds = {tuple(place) for place in found.first}
    if len(kinds) == 1 and len(*kinds) == 1:
        (what,) = kinds.pop()
        told = f"{what} " + ", ".join(f"{place[what][:60]!r}" for place in found.first)
    else:
        told = "; ".join(
            ", ".join(f"{what} {value[:60]!r}" for what, value in place.items())
            for place in found.first
        )
    return f" [{told}{', ...' if found.count > len(found.first) else ''}]" if told else ""


def _lengths_table(one: Examined, unit: str) -> Table:
    table = Table()
    table.add_column(f"lengths ({unit}; a profile's in items)")
    for name in ("mean", "p95", "max"):
        table.add_column(name, justify="right")
    for name, counts in one.lengths.items():
        if told := summary(counts):
            table.add_row(name, f"{told['mean']:.1f}", str(told["p95"]), str(told["max"]))
    return table


def _severities(examined: Sequence[Examined]) -> Counter[str]:
    return Counter(found.severity for one in examined for found in one.findings.sorted())
