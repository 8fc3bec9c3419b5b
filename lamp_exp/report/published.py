"""Published numbers beside our own, and why the two may not be compared; the verb published.

`published.csv` holds the numbers with their source and its status: `primary` was read in the paper
or on the leaderboard itself, `second-hand` in another text. An empty field is not known, and `-`
says that the system does not have that choice: a router chooses among several retrievers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import starmap
from pathlib import Path

import pandas as pd

from lamp_exp.data.arguments import PARTS, SIZES
from lamp_exp.errors import InputError
from lamp_exp.options import OPTIONS, PERSONAL_GROUPS, changes_numbers, value_at
from lamp_exp.report.selection import METHODS, UNKNOWN, conditions_of, facet, shown
from lamp_exp.report.table import Cell, Table, number
from lamp_exp.results.record import Record
from lamp_exp.results.run_options import flat, usage_of
from lamp_exp.wording import count_of

SOURCES = {
    "2304.11406": "Salemi et al. 2024 (LaMP)",
    "2404.05970": "Salemi et al. 2024 (ROPG)",
    "2409.11901": "Liu et al. 2024 (PPlug)",
    "submit_2024_0122": "LaMP leaderboard, submission of 2024-01-22",
}
HEADS = ("task", "split", "part", "metric", "system", "source", "arxiv", "status")
MUST_EQUAL = ("split", "mode", "pool")  # besides the task and the metric
COMPONENTS = ("router", "adapter")  # `none` where a run has none
DOES_NOT_APPLY = "-"
SETUP = tuple(name for name in METHODS if name != "task")
SAME_AS = {"bm25_okapi": "bm25"}  # rank-bm25's scores, which the published runs used
USUAL_WEIGHTS = {"flan_t5_base": "google/flan-t5-base", "flan_t5_xxl": "google/flan-t5-xxl"}
PUBLISHED_OPTIONS: Mapping[str, object] = {  # by the papers; None is the default
    "max_length": 512, "training.lr": 5e-5, "training.weight_decay": 1e-4, "training.warmup": 0.05,
    "training.lora_rank": None, "training.patience": None, "trainer.max_epochs": None,
}  # fmt: skip
BM25 = (
    "bm25 here reads lower-cased words with an idf that is always positive; bm25_okapi has the "
    "scores of the published runs"
)


@dataclass(frozen=True, slots=True)
class Published:
    """A published number; the settings that its source does not say are empty."""

    source: str
    arxiv: str
    status: str
    system: str
    split: str
    part: str
    task: str
    mode: str
    model: str
    retriever: str
    k: str
    augmentation: str
    router: str
    adapter: str
    pool: str
    metric: str
    value: float

    @property
    def citation(self) -> str:
        who = SOURCES.get(self.arxiv, self.arxiv)
        second = ", second-hand" if self.status != "primary" else ""
        return f"{self.source}: {self.system} ({who}{second})"

    @property
    def vague(self) -> list[str]:
        """What its source leaves open."""
        missing = [name for name in SETUP if not getattr(self, name)]
        lines = [f"its source does not say the {' and the '.join(missing)}"] if missing else []
        return [*lines, *(["read second-hand"] if self.status != "primary" else [])]


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", nargs="+", default=[], metavar="KEY=VALUE",
        help=f"only these, by {', '.join(HEADS)}: task=lamp4 split=user",
    )  # fmt: skip


def tables(arguments: argparse.Namespace) -> list[Table]:
    order = ["split", "task", "metric", "part"]
    frame = pd.DataFrame(all_published()).sort_values(order, kind="stable")
    for key, values in conditions_of(arguments.where):
        names = [name for name in frame.columns if name != "value"]
        if key not in names:
            condition = f"{key}={','.join(values)}"
            raise InputError(
                f"{condition!r} is no condition: write key=value, of {', '.join(names)}"
            )
        frame = frame[frame[key].isin(values)]
    if frame.empty:
        raise InputError(f"nothing was published of {' '.join(arguments.where)}")
    heads = frame[list(HEADS)].itertuples(index=False, name=None)
    rows = [(head, {"value": number(value, 3)})
            for head, value in zip(heads, frame["value"], strict=True)]  # fmt: skip
    return [Table.of("Published numbers", HEADS, rows)]


# --- numbers beside our own --------------------------------------------------------------------


@cache
def all_published() -> tuple[Published, ...]:
    frame = pd.read_csv(Path(__file__).parent / "published.csv", dtype=str, keep_default_na=False)
    typed = frame.astype({"value": float})[[field.name for field in fields(Published)]]
    return tuple(starmap(Published, typed.itertuples(index=False, name=None)))


@cache
def _published_by_metric() -> Mapping[tuple[str, str], list[Published]]:
    """By task and metric."""
    found: dict[tuple[str, str], list[Published]] = {}
    for one in all_published():
        found.setdefault((one.task, one.metric), []).append(one)
    return found


def closest_published(record: Record, metric: str) -> Published | None:
    """The published number of the same system; None without one.

    Of several, one of the same part, and then the one whose settings are known best.
    """

    def distance(one: Published) -> tuple[bool, int]:
        return one.part != record.result.part, len(one.vague)

    return min(rivals(record, metric), key=distance, default=None)


def rivals(record: Record, metric: str) -> list[Published]:
    """All published numbers of the same system; they need not agree."""
    own = {"model": _published_model(record)}
    own |= {name: shown(facet(record, name)) for name in (*MUST_EQUAL, *SETUP)}
    own["retriever"] = SAME_AS.get(own["retriever"], own["retriever"])
    own |= {name: str(record.result.choices.get(name) or "none") for name in COMPONENTS}
    among = _published_by_metric().get((record.task, metric), [])
    return [one for one in among if all(_agrees(one, *choice) for choice in own.items())]


def _agrees(one: Published, name: str, own: str) -> bool:
    """Whether a published number may be of a run with that choice."""
    value = getattr(one, name)
    return value in (own, DOES_NOT_APPLY) or (name in SETUP and not value)


def _published_model(record: Record) -> str:
    """The model as the published numbers name it: the option, or the family of an API's model."""
    option = str(record.result.choices.get("model"))
    name = str(value_at(record.result.settings, "model.name"))
    return "gpt-3.5" if option == "openai" and name.startswith("gpt-3.5") else option


def caveats(record: Record, one: Published) -> Iterator[str]:
    """Why a published number is not comparable with the record's; nothing if it may be."""
    result, limit = record.result, facet(record, "limit")
    if result.made_up_data:
        yield "ours is of the made-up sample, not of LaMP"
    if one.part != result.part:
        yield f"published on {one.part}, ours on {result.part}"
    if limit is not None:
        yield f"ours is of the first {count_of(limit, 'question')} only"
    if (changed := _changed_profile(record)) and record.reads_profile:
        yield f"ours has other profiles ({', '.join(changed)})"
    for group in PERSONAL_GROUPS:
        if (choice := facet(record, group)) not in ("none", UNKNOWN, getattr(one, group, "none")):
            yield f"ours has {group}={choice}"
    if result.fixes != "none":
        yield "ours has the benchmark's defects mended (fixes)"
    if skipped := facet(record, "skip"):
        yield f"ours passes over the best {count_of(skipped, 'item')}"
    sizes = SIZES.get((one.task, one.split))
    expected = sizes and sizes[PARTS.index(result.part)]
    if limit is None and not result.made_up_data and expected not in (None, record.questions):
        yield f"ours has {count_of(record.questions, 'question')} of the benchmark's {expected}"
    if facet(record, "document_dates"):
        yield "ours searches the dates of items, too (document_dates)"
    if other := _other_settings(record):
        yield f"ours has other settings: {', '.join(other)}"


def published_cell(one: Published, faults: Sequence[str], digits: int = 4) -> Cell:
    """The number with its marks: † where there are `faults` of the comparison, ‡ if it is vague."""
    marks = ("†" if faults else "") + ("‡" if one.vague else "")
    note = "; ".join([*faults, *one.vague])
    return Cell(f"{one.value:.{digits}f}{marks}", one.value, note=note)


def _changed_profile(record: Record) -> list[str]:
    """The options of the profile that are not at their default, but for `pool`, which is equal."""
    defaults = {name: option.default for name, option in OPTIONS.items()}
    profile = record.result.profile
    names = profile.keys() - {"pool"}
    return sorted(n for n in names if profile[n] != defaults.get(f"profile.{n}", profile[n]))


def _other_settings(record: Record) -> list[str]:
    """Options in which a run departs from the published ones, or from what its names mean."""
    given, usage = flat(record.result.settings), usage_of(record.result)
    changed = [
        f"{name}={given[name]}"
        for name, usual in PUBLISHED_OPTIONS.items()
        if given.get(name) not in (None, usual) and changes_numbers(name, usage)
    ]
    own = record.result.identity.items()
    changed += [f"{name}={shown(value)}" for name, value in own if name.startswith("adapter.")]
    usual_weights = USUAL_WEIGHTS.get(str(record.result.choices.get("model")))
    if usual_weights not in (None, given.get("model.name")):
        changed.append(f"model.name={shown(given.get('model.name'))}")
    if record.result.selection == "holdout":
        changed.append("selection=holdout")
    return changed


def published_footers(numbers: Iterable[tuple[Record, str, Published]]) -> list[str]:
    """The sources of published numbers beside records' metrics, and what their marks mean."""
    numbers = list(numbers)
    lines = [f"published: {one.citation}" for _, _, one in numbers]
    lines += [
        f"also published, {record.task} {metric}: {other.value:g} ({other.citation})"
        for record, metric, one in numbers
        for other in rivals(record, metric)
        if other.value != one.value and other.part == one.part
    ]
    lines += [BM25 for record, *_ in numbers if facet(record, "retriever") == "bm25"]
    faults = dict.fromkeys(fault for record, _, one in numbers for fault in caveats(record, one))
    left_open = dict.fromkeys(line for _, _, one in numbers for line in one.vague)
    lines += [f"†: not comparable with ours: {'; '.join(faults)}"] if faults else []
    lines += [f"‡: {'; or '.join(left_open)}"] if left_open else []
    return list(dict.fromkeys(lines))
