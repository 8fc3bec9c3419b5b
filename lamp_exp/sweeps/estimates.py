"""How long runs and artefacts of a kind have taken, and how large they are: for forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lamp_exp.progress import as_bytes, duration
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import RunResult
from lamp_exp.storage import atomic
from lamp_exp.storage.artefacts import UNITS, read_artefact

Kind = tuple[str, str, str]  # task, mode, model: such runs take about equally long per question
NO_ESTIMATE = "no estimate"


@dataclass(frozen=True, slots=True)
class Rate:
    """The seconds and bytes of a question of a run, or a unit of an artefact, over `number` ones.

    Seconds are None where nothing has told them.
    """

    number: int
    seconds: float | None
    bytes: float

    def of(self, units: int) -> Estimate:
        seconds = None if self.seconds is None else self.seconds * units
        return Estimate(seconds, self.bytes * units)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and bytes; None where there is no estimate."""

    seconds: float | None = None
    bytes: float | None = None

    def __str__(self) -> str:
        known = [f"about {duration(self.seconds)}"] if self.seconds is not None else []
        known += [as_bytes(round(self.bytes))] if self.bytes is not None else []
        return ", ".join(known) or NO_ESTIMATE


@dataclass(frozen=True)
class Experience:
    """The rates of what is finished in an output folder."""

    runs: dict[Kind, Rate]
    artefacts: dict[str, Rate]  # by kind

    @classmethod
    def of(cls, output_dir: Path) -> Experience:
        finished = [
            (folder.path, result)
            for folder in map(RunFolder, sorted(output_dir.glob("*")))
            if (result := folder.finished_result())
        ]
        results = [result for _, result in finished]
        return cls(_run_rates(finished), _artefact_rates(output_dir, results))

    def of_artefact(self, kind: str, units: int) -> Estimate:
        return self.artefacts[kind].of(units) if kind in self.artefacts else Estimate()


def kind_of(result: RunResult) -> Kind:
    return str(result.choices["task"]), result.mode, str(result.choices["model"])


def _run_rates(finished: list[tuple[Path, RunResult]]) -> dict[Kind, Rate]:
    """Routed and tuned runs are left out: their numbers are those of other runs."""
    found: dict[Kind, list[tuple[float, int, int]]] = {}
    for path, result in finished:
        if result.routing is None and result.tuned is None:
            questions = sum(part.questions for part in result.data.values())
            one = (sum(result.seconds.values()), _size(path), questions)
            found.setdefault(kind_of(result), []).append(one)
    return {kind: _rate(known) for kind, known in found.items()}


def _artefact_rates(output_dir: Path, results: list[RunResult]) -> dict[str, Rate]:
    told = {
        str(fact["artefact"]): float(fact["seconds"])
        for result in results
        for fact in result.learned
        if fact.get("made_now") and "seconds" in fact
    }
    found: dict[str, list[tuple[float | None, int, int]]] = {}
    for path, kind, seconds, units in _finished_artefacts(output_dir / ".cache" / "artefacts"):
        seconds = told.get(path.name, seconds)
        found.setdefault(kind, []).append((seconds, _size(path), units))
    return {kind: _rate(known) for kind, known in found.items()}


def _finished_artefacts(folder: Path) -> Iterator[tuple[Path, str, float | None, int]]:
    """Each with its kind, the seconds that its facts tell, and its units."""
    for path in sorted(folder.glob("[!.]*")):
        try:
            content = read_artefact(path)
        except (FileNotFoundError, atomic.Damaged):
            continue
        units = content.get("units", 0)
        if (path / UNITS).is_dir():
            units = sum(one.is_dir() for one in (path / UNITS).iterdir())
        if units:
            yield path, content["kind"], content["facts"].get("seconds"), units


def _rate(known: list[tuple[float | None, int, int]] | list[tuple[float, int, int]]) -> Rate:
    timed = [(seconds, units) for seconds, _, units in known if seconds is not None]
    all_units = max(sum(units for *_, units in known), 1)
    seconds = None
    if timed:
        seconds = sum(one for one, _ in timed) / max(sum(units for _, units in timed), 1)
    return Rate(len(known), seconds, sum(size for _, size, _ in known) / all_units)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
