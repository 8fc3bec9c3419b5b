"""Two records of one run: whether their numbers agree, and what else differs between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lamp_exp.report.loading import Record

SHOWN = 5  # of the questions that were answered otherwise
FILES = {  # what a run is judged by: the last of them that it has
    "rankings": "rankings.jsonl", "prompts": "prompts.jsonl", "predictions": "predictions.json",
}  # fmt: skip


@dataclass(frozen=True)
class Repeat:
    """A run, and the same run once more."""

    first: Record
    again: Record

    @property
    def agrees(self) -> bool:
        """Whether metrics and predictions are the same (without a model: prompts, or rankings)."""
        *_, judged = [name for name in FILES if name in self.contents]
        return not self.metrics and not self.contents[judged]

    @cached_property
    def metrics(self) -> dict[str, tuple[float | None, float | None]]:
        """Those that differ, be it in the last digit: then, and now."""
        names = dict.fromkeys([*self.first.metrics, *self.again.metrics])
        pairs = {
            name: (self.first.metrics.get(name), self.again.metrics.get(name)) for name in names
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @cached_property
    def contents(self) -> dict[str, list[str]]:
        """For each kind of file, the ids of the questions for which they differ."""
        return {
            kind: sorted(id for id in then.keys() | now.keys() if then.get(id) != now.get(id))
            for kind, name in FILES.items()
            if (then := _rows(self.first.folder / name)) is not None
            and (now := _rows(self.again.folder / name)) is not None
        }

    def differences(self) -> Iterator[str]:
        """What may explain it: code, libraries, data, machine."""
        then, now = self.first.result, self.again.result
        if then["code"]["fingerprint"] != now["code"]["fingerprint"]:
            yield f"code: {_commit(then)} then, {_commit(now)} now"
        yield from _changed("version of", then["versions"], now["versions"])
        yield from _changed("data of", _prints(then), _prints(now))
        yield from _changed("", _machine(then), _machine(now))

    def lines(self) -> Iterator[str]:
        """All of it, for a person; the verdict is the last line."""
        yield from self._told_metrics()
        for kind, ids in self.contents.items():
            yield from self._told_contents(kind, ids)
        differences = list(self.differences())
        yield from differences
        if not differences:
            yield "the same code, versions, data, threads and device"
        verdict = "agree" if self.agrees else "DIFFER"
        yield f"the numbers {verdict}: {self.first.name}"

    def _told_metrics(self) -> Iterator[str]:
        for name, (then, now) in self.metrics.items():
            yield f"{name}: {then} then, {now} now"
        if self.first.metrics and not self.metrics:
            told = ", ".join(f"{name} {value}" for name, value in self.first.metrics.items())
            yield f"metrics are equal to the last digit: {told}"

    def _told_contents(self, kind: str, ids: list[str]) -> Iterator[str]:
        if not ids:
            yield f"{kind} are identical"
            return
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        named = ", ".join(map(repr, ids[:SHOWN]))
        yield f"{kind} differ for {len(ids)} questions: {named}{more}"
        if kind == "predictions":
            then, now = (_rows(one.folder / FILES[kind]) or {} for one in (self.first, self.again))
            for id in ids[:SHOWN]:
                yield f"  {id}: {then.get(id)!r} then, {now.get(id)!r} now"


def _rows(path: Path) -> dict[str, Any] | None:
    """By question; None where the run has no such file."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return {str(row["id"]): row["output"] for row in json.loads(text)["golds"]}
    return {str(row["id"]): row for row in map(json.loads, text.splitlines())}


def _commit(result: Mapping[str, Any]) -> str:
    code = result["code"]
    commit = str(code.get("commit") or "an installed package")[:12]
    return f"{commit}{' with changes' if code.get('changed') else ''} ({code['fingerprint']})"


def _prints(result: Mapping[str, Any]) -> dict[str, Any]:
    return {part: origin["fingerprint"] for part, origin in result["data"].items()}


def _machine(result: Mapping[str, Any]) -> dict[str, Any]:
    """What rounds otherwise on another one."""
    model, training = result["model"], result["training"] or {}
    return {
        "threads": model.get("threads"),
        "device": model.get("device"),
        "retriever's device": result["retrieval"].get("device"),
        "processes": training.get("processes"),
        "precision": training.get("precision"),
    }


def _changed(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            told = f"{what} {name}".strip()
            yield f"{told}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
