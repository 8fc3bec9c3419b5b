"""Footers on what makes methods comparable: reader, k, what learned from what, choices on dev."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamp_exp.report.selection import WEIGHTS, Group, aside
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.record import Record
from lamp_exp.results.schema import RunResult
from lamp_exp.wording import count_of

Rows = Mapping[str, Sequence[Group]]  # the groups of a row, one a task, by the row's name


def hygiene_footers(rows: Rows, usual_k: str) -> list[str]:
    """The reader, k, what learned from what, and what was chosen on the part that is scored."""
    lines = [*_readers(rows)]
    if usual_k:
        lines.append(f"k={usual_k} items in all rows that show items, unless a row says otherwise")
    return [*lines, *_learned(rows), *_choices(rows)]


def _readers(rows: Rows) -> Iterator[str]:
    """The reader of the tasks, and how it was fine-tuned if its run is there."""
    readers = {g.first.task: g for groups in rows.values() for g in groups}
    tasks: dict[str, list[str]] = {}
    for task, group in readers.items():
        trained = _run_of_weights(group.first)
        how = "" if trained is None else f", {_training(trained)}"
        tasks.setdefault(f"{group.shown(WEIGHTS)}{how}", []).append(task)
    for reader, own in tasks.items():
        where = f" of {', '.join(own)}" if len(tasks) > 1 else ""
        yield f"reader of all rows{where}: {reader}"


def _run_of_weights(record: Record) -> RunResult | None:
    """The run that made the weights, if they are a checkpoint of a run beside this one."""
    name = (record.result.settings.get("model") or {}).get("name")
    run = str(name).rpartition("/")[0].rpartition("/")[2]
    folder = RunFolder(record.folder.parent / run)
    return folder.finished_result() if run else None


def _training(result: RunResult) -> str:
    epochs = len((result.training or {}).get("epochs", ()))
    chosen = "dev" if result.selection == "dev" else "held-out users of train"
    shown = f"items of {result.choices['retriever']}, k={result.k}" if result.k else "no items"
    return (
        f"fine-tuned on train of the {result.split} split with {shown}; "
        f"the best of {count_of(epochs, 'epoch')} chosen on {chosen}"
    )


# --- what learned from what --------------------------------------------------------------------


def _learned(rows: Rows) -> Iterator[str]:
    """A line for each row that learned something, of its first task."""
    for name, groups in rows.items():
        if words := list(_learned_words(groups[0].first)):
            task = groups[0].first.task
            yield f"{name} ({task}) learned from {'; '.join(words)}"


def _learned_words(record: Record) -> Iterator[str]:
    for fact in record.result.learned:
        questions = count_of(fact.get("questions", 0), "question")
        match fact.get("group"), fact.get("kind"):
            case _, "feedback":
                seen = ", which had seen their golds" if fact.get("saw_these_golds") else ""
                part = "the asked part" if record.result.bound else "train"
                yield f"a reader's results on {questions} of {part}{seen}"
            case "router", _:
                trained = _run_of_weights(record)
                same = trained is not None and trained.split == record.result.split
                had = ", whose golds the reader had seen" if same else ""
                yield f"the candidates' results on {questions} of train{had}"
            case "summary", _:
                yield "the user's profile, of which a model wrote a summary"
            case "adapter", _ if "questions" in fact:
                yield f"{questions} of train, with their golds"
            case "adapter", _:
                yield "the profiles of the users who are asked, never their golds"
        if "chosen_epoch" in fact:
            yield _chosen_epoch(fact)


def _chosen_epoch(fact: Mapping[str, Any]) -> str:
    known = fact.get("questions_held_out")
    held_out = "questions" if known is None else count_of(known, "question")
    last = max((one.get("epoch", n) for n, one in enumerate(fact.get("curve", ()))), default=0)
    chosen = f"epoch {fact['chosen_epoch']} of {last}"
    return f"{chosen} chosen on {held_out} of held-out users of train"


# --- choices on dev ----------------------------------------------------------------------------


def _choices(rows: Rows) -> Iterator[str]:
    """How many choices were made on the part that is scored, or on dev."""
    for name, groups in rows.items():
        for group in groups:
            if group.first.result.tuned is not None:
                values = count_of(len(group.first.result.tuned.curve), "value")
                yield f"{name} ({group.first.task}): k chosen from {values} on dev"
                break
    first = next(group for groups in rows.values() for group in groups).first
    systems = sum(not aside(groups[0]) for groups in rows.values())
    if first.result.part == "dev" and systems > 1:
        yield (
            f"dev: {systems} rows are compared on it, and whoever takes the best of them chooses "
            "on dev: report it on test"
        )
