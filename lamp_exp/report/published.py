"""Published numbers beside our own, and why the two may not be compared; the verb published.

`published.csv` holds the numbers with their source and its status: `primary` was read in the paper
or on the leaderboard itself, `second-hand` in another text. An empty field is not known.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from lamp_exp.data.arguments import PARTS, SIZES
from lamp_exp.errors import InputError
from lamp_exp.options import OPTIONS
from lamp_exp.report.cli_arguments import add_format, write
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import facet, shown
from lamp_exp.report.table import Row, Table, number
from lamp_exp.results.run_options import flat

SOURCES = {
    "2304.11406": "Salemi et al. 2024 (LaMP)",
    "2404.05970": "Salemi et al. 2024 (ROPG)",
    "submit_2024_0122": "LaMP leaderboard, submission of 2024-01-22",
}
HEADS = ("task", "split", "part", "metric", "system", "source", "arxiv", "status")
MUST_EQUAL = ("split", "task", "mode")
SETUP = ("retriever", "k", "augmentation")
SAME_AS = {"bm25_okapi": "bm25"}  # rank-bm25's scores, which the published runs used
USUAL_WEIGHTS = {
    "flan_t5_base": ("google/flan-t5-base",), "flan_t5_xxl": ("google/flan-t5-xxl",),
}  # fmt: skip
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
    """A published number."""

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
    metric: str
    value: float

    @property
    def citation(self) -> str:
        """The source and the system, for a footer."""
        who = SOURCES.get(self.arxiv, self.arxiv)
        second = ", second-hand" if self.status != "primary" else ""
        return f"{self.source}: {self.system} ({who}{second})"


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which numbers, and the format."""
    parser.add_argument(
        "--where", nargs="+", default=[], metavar="KEY=VALUE",
        help=f"only these, by {', '.join(HEADS)}: task=lamp4 split=user",
    )  # fmt: skip
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the list."""
    found = [one for one in all_published() if all(_meets(one, c) for c in arguments.where)]
    if not found:
        raise InputError(f"nothing was published of {' '.join(arguments.where)}")
    found.sort(key=lambda one: (one.split, one.task, one.metric))
    rows = [Row(tuple(str(getattr(o, h)) for h in HEADS), (number(o.value, 3),)) for o in found]
    write([Table("Published numbers", HEADS, ("value",), tuple(rows))], arguments)
    return 0


def _meets(one: Published, condition: str) -> bool:
    key, sign, values = condition.partition("=")
    names = [field.name for field in fields(Published) if field.name != "value"]
    if not sign or key not in names:
        raise InputError(f"{condition!r} is no condition: write key=value, of {', '.join(names)}")
    return str(getattr(one, key)) in values.split(",")


# --- numbers beside our own --------------------------------------------------------------------


@cache
def all_published() -> tuple[Published, ...]:
    """All published numbers, in the order of the file."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(_read, csv.DictReader(file)))


def _read(row: dict[str, str]) -> Published:
    return Published(value=float(row.pop("value")), **row)


def closest_published(record: Record, metric: str) -> Published | None:
    """The published number of the same system whose settings are known best; None without one."""
    return min(rivals(record, metric), key=lambda one: len(vague(one)), default=None)


def rivals(record: Record, metric: str) -> list[Published]:
    """All published numbers of the same system; they need not agree."""
    own = {name: shown(facet(record, name)) for name in (*MUST_EQUAL, *SETUP)}
    own["retriever"] = SAME_AS.get(own["retriever"], own["retriever"])
    model = model_name(record)
    return [
        one
        for one in all_published()
        if one.metric == metric and one.model == model and _fits(one, own)
    ]


def _fits(one: Published, own: Mapping[str, str]) -> bool:
    if any(getattr(one, name) != own[name] for name in MUST_EQUAL):
        return False
    return all(getattr(one, name) in ("", own[name]) for name in SETUP)


def model_name(record: Record) -> str:
    """The model as the published numbers name it: the option, or the family of an API's model."""
    name = str(facet(record, "weights") or "")
    option = str(record.result.choices.get("model"))
    return "gpt-3.5" if option == "openai" and name.startswith("gpt-3.5") else option


def vague(one: Published) -> list[str]:
    """What the source of a number leaves open."""
    missing = unknown(one)
    lines = [f"its source does not say the {' and the '.join(missing)}"] if missing else []
    return [*lines, *(["read second-hand"] if one.status != "primary" else [])]


def unknown(one: Published) -> list[str]:
    """The settings that the source does not say."""
    return [name for name in SETUP if not getattr(one, name)]


def caveats(record: Record, one: Published) -> list[str]:
    """Why a published number is not comparable with the record's; empty if it may be."""
    result, faults = record.result, []
    if result.made_up_data:
        faults.append("ours is of the made-up sample, not of LaMP")
    if one.part != result.part:
        faults.append(f"published on {one.part}, ours on {result.part}")
    if (limit := facet(record, "limit")) is not None:
        faults.append(f"ours is of the first {limit} questions only")
    if (changed := _changed_profile(record)) and record.personal:
        faults.append(f"ours has other profiles ({', '.join(changed)})")
    if result.fixes != "none":
        faults.append("ours has the benchmark's defects mended (fixes)")
    if facet(record, "skip"):
        faults.append(f"ours passes over the best {facet(record, 'skip')} items")
    sizes = SIZES.get((one.task, one.split))
    expected = sizes and sizes[PARTS.index(result.part)]
    if limit is None and not result.made_up_data and expected not in (None, record.questions):
        faults.append(f"ours has {record.questions} questions of the benchmark's {expected}")
    if facet(record, "document_dates"):
        faults.append("ours searches the dates of items, too (document_dates)")
    if other := _other_settings(record):
        faults.append(f"ours has other settings: {', '.join(other)}")
    return faults


def _changed_profile(record: Record) -> list[str]:
    """The options of the profile that are not at their default."""
    return sorted(
        name
        for name, value in record.result.profile.items()
        if f"profile.{name}" in OPTIONS and value != OPTIONS[f"profile.{name}"].default
    )


def _other_settings(record: Record) -> list[str]:
    """Options in which a run departs from the published ones, or from what its names mean."""
    given, option = flat(record.result.settings), str(record.result.choices.get("model"))
    changed = [
        f"{name}={given[name]}"
        for name, usual in PUBLISHED_OPTIONS.items()
        if given.get(name) not in (None, usual) and _matters(record, name)
    ]
    weights = facet(record, "weights")
    if USUAL_WEIGHTS.get(option) and weights not in USUAL_WEIGHTS[option]:
        changed.append(f"model.name={weights}")
    if record.result.selection == "holdout":
        changed.append("selection=holdout")
    return changed


def _matters(record: Record, name: str) -> bool:
    """Whether the option has an effect in such a run."""
    return not name.startswith(("training.", "trainer.")) or record.result.mode == "finetune"
