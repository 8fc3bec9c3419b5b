"""The content of `result.json`: one typed value, with one writer and one reader.

`RunResult.to_json` and `RunResult.from_json` are the only places that know the file's keys.
Records of older schema versions are read, too; `schema_version` says which one a record has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from lamp_exp.contracts import Metric
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks

SCHEMA_VERSION = 2
IMPORTED = "imported"  # the mode of runs whose predictions were made elsewhere


class SchemaError(InputError):
    """The content of a `result.json` is not a record; the message says which part."""


class NewerSchemaError(SchemaError):
    """The record was written by a newer version of this program."""


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """What reports must know of a metric; see `lamp_exp.contracts.Metric`."""

    higher_is_better: bool
    aggregate: str = Metric.aggregate
    column: str | None = Metric.column
    labels: tuple[str, ...] = Metric.labels
    binary: bool = Metric.binary
    lowest: float | None = Metric.lowest
    highest: float | None = Metric.highest
    description: str = Metric.description

    @classmethod
    def of(cls, metric: Metric) -> MetricFacts:
        return cls(**{f.name: getattr(metric, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Where a part's questions come from; `odd` counts what was unusual but usable in it."""

    source: str
    fingerprint: str
    questions: int
    golds: bool
    odd: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """The code that made a run: its fingerprint, and the commit if it was run from a checkout."""

    fingerprint: str
    commit: str | None = None
    changed: bool | None = None

    def known(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class TunedK:
    """How `k=tune` chose: the value of the main metric on dev for each k, and the chosen run."""

    k: int
    curve: tuple[Mapping[str, Any], ...]
    run: str


@dataclass(frozen=True, slots=True)
class RoutedCandidate:
    """A candidate of a routed run.

    `options` are those that differ from the routed run's, `run` is its run on the asked part and
    `learned_from` are its runs on train, if the router learned from them. `value` is its main
    metric on the asked part, None without golds. `chosen` is the number of questions for which it
    was chosen.
    """

    name: str
    options: Mapping[str, Any]
    run: str
    chosen: int
    value: float | None = None
    learned_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """How a router chose among candidates.

    `success_rate` is the share of questions for which no candidate did better than the chosen one.
    `best_single` is the candidate with the best main metric on the asked part, `oracle` and `worst`
    are the main metric of the best and the worst choices. All of these are None without golds.
    `left_out` names candidates that cannot run on these data, with the reason. `facts` are the
    router's own.
    """

    candidates: tuple[RoutedCandidate, ...]
    left_out: Mapping[str, str]
    facts: Mapping[str, Any]
    success_rate: float | None = None
    best_single: str | None = None
    oracle: float | None = None
    worst: float | None = None


@dataclass(frozen=True, slots=True)
class ImportSource:
    """Where imported predictions come from; `file` and `golds` are file names."""

    name: str
    split: str
    part: str
    seed: int
    description: str | None = None
    url: str | None = None
    file: str | None = None
    golds: str | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """The record of one finished run.

    `choices` are the names of the chosen group options, `settings` the whole resolved
    configuration, `identity` all that decides the numbers. `flagged_questions` names the first
    questions behind a count, such as those whose profile holds the question itself. Of imported
    predictions, `k`, the retriever and the augmentation are None. `licence` names the licence of
    texts that may not be passed on. `learned` holds the facts of each artefact that its components
    had learned, `bound` says that it has read the golds of the questions that it answers. `adapter`
    says how many users have one, and what that took. `routing` says how a router chose among the
    answers of several runs, whose items and k are theirs. `stale` says why the run should not be
    compared with current ones; it is not part of the file.
    """

    run: str
    started: str
    task: str
    choices: Mapping[str, str | None]
    split: str
    part: str
    mode: str
    k: int | None
    seed: int
    main_metric: str
    metrics: Mapping[str, float] | None
    metric_facts: Mapping[str, MetricFacts]
    notes: tuple[str, ...]
    fixes: str
    selection: str | None
    profile: Mapping[str, Any]
    made_up_data: bool
    data: Mapping[str, PartFacts]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    peak_memory_mb: int | None
    retrieval: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    versions: Mapping[str, str]
    code: CodeVersion
    files: tuple[str, ...] = ()
    flagged_questions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tuned: TunedK | None = None
    imported: ImportSource | None = None
    routing: Routing | None = None
    licence: str = ""
    learned: tuple[Mapping[str, Any], ...] = ()
    bound: bool = False
    adapter: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    stale: str | None = None

    @property
    def main_value(self) -> float | None:
        """The value of the main metric; None where no targets were known."""
        return None if self.metrics is None else self.metrics[self.main_metric]

    def with_stale(self, reason: str | None) -> RunResult:
        """The same record, marked as stale."""
        return replace(self, stale=reason)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`, as plain JSON values."""
        content = asdict(self)
        del content["stale"]
        for name in ("tuned", "imported", "routing"):
            if content[name] is None:
                del content[name]
        content["code"] = self.code.known()
        direction = "max" if self.metric_facts[self.main_metric].higher_is_better else "min"
        content["monitor"] = [content.pop("main_metric"), direction]
        return content

    @classmethod
    def from_json(cls, content: object) -> RunResult:
        """The record of a `result.json` of any schema version. Raises SchemaError."""
        if not isinstance(content, dict):
            raise SchemaError(f"it holds a {type(content).__name__}, not an object")
        try:
            return cls(**_typed(content))
        except NewerSchemaError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SchemaError(f"{type(error).__name__}: {error}") from error


def _typed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record from the file's keys; keys of newer versions are left out."""
    version = content.get("schema_version", 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"schema_version {version} is newer than this program's {SCHEMA_VERSION}"
        )
    known = {f.name for f in fields(RunResult)} - {"stale"}
    values = {name: value for name, value in content.items() if name in known}
    metric, direction = content["monitor"]
    values["main_metric"] = metric
    values["schema_version"] = version
    stored = content.get("metric_facts")
    values["metric_facts"] = (
        {name: MetricFacts(**{**f, "labels": tuple(f["labels"])}) for name, f in stored.items()}
        if stored is not None
        else _facts_of_version_1(content, metric, direction)
    )
    values["data"] = {name: PartFacts(**part) for name, part in content["data"].items()}
    values["code"] = CodeVersion(**content["code"])
    if "licence" not in content and not content["made_up_data"]:
        task = all_tasks().get(content["choices"]["task"])
        values["licence"] = task.licence if task else ""
    for name in ("notes", "files", "learned"):
        values[name] = tuple(content.get(name, ()))
    flagged = content.get("flagged_questions", {})
    values["flagged_questions"] = {name: tuple(ids) for name, ids in flagged.items()}
    if "tuned" in content:
        tuned = content["tuned"]
        values["tuned"] = TunedK(tuned["k"], tuple(tuned["curve"]), tuned["run"])
    if "routing" in content:
        values["routing"] = _routing(content["routing"])
    if "imported" in content:
        values["imported"] = ImportSource(**content["imported"])
    return values


def _routing(content: Mapping[str, Any]) -> Routing:
    candidates = (
        RoutedCandidate(**{**one, "learned_from": tuple(one["learned_from"])})
        for one in content["candidates"]
    )
    return Routing(**{**content, "candidates": tuple(candidates)})


def _facts_of_version_1(
    content: Mapping[str, Any], main_metric: str, direction: str
) -> dict[str, MetricFacts]:
    """Records of version 1 say the main metric's direction only: the rest is the task's."""
    task = all_tasks().get(content["choices"]["task"])
    known = {metric.name: MetricFacts.of(metric) for metric in task.metrics} if task else {}
    names = dict.fromkeys([main_metric, *(content["metrics"] or ())])
    return {n: known.get(n, MetricFacts(direction == "max", "mean", n)) for n in names}
