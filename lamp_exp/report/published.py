"""Published numbers beside our own, and why the two may not be compared.

`published.csv` holds them with their source and its status: `primary` was read in the paper or on
the leaderboard itself, `second-hand` in another text. A field that is empty is not known.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lamp_exp.data.arguments import PARTS, SIZES
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import facet, flat, shown

SOURCES = {
    "2304.11406": "Salemi et al. 2024 (LaMP)",
    "2404.05970": "Salemi et al. 2024 (ROPG)",
    "submit_2024_0122": "LaMP leaderboard, submission of 2024-01-22",
}
MUST_EQUAL = ("split", "task", "mode")
SETUP = ("retriever", "k", "augmentation")
SAME_AS = {"bm25_okapi": "bm25"}  # rank-bm25's scores, which the published runs used
USUAL_WEIGHTS = {
    "flan_t5_base": ("google/flan-t5-base",), "flan_t5_xxl": ("google/flan-t5-xxl",),
}  # fmt: skip
PUBLISHED_OPTIONS: Mapping[str, object] = {  # as the papers tell them; what is None is as usual
    "max_length": 512, "training.lr": 5e-5, "training.weight_decay": 1e-4, "training.warmup": 0.05,
    "training.lora_rank": None, "training.patience": None, "trainer.max_epochs": None,
}  # fmt: skip
BM25 = (
    "bm25 here reads lower-cased words with an idf that is always positive; bm25_okapi has the "
    "scores of the published runs"
)


@dataclass(frozen=True, slots=True)
class Published:
    """One number as it was published."""

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
    def told(self) -> str:
        """The source and the system, for a footer."""
        whom = SOURCES.get(self.arxiv, self.arxiv)
        second = ", second-hand" if self.status != "primary" else ""
        return f"{self.source}: {self.system} ({whom}{second})"


@cache
def all_published() -> tuple[Published, ...]:
    """In the order of the file."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(_read, csv.DictReader(file)))


def _read(row: dict[str, str]) -> Published:
    return Published(value=float(row.pop("value")), **row)


def beside(record: Record, metric: str) -> Published | None:
    """The published number of the same system, if any: the one whose settings are known best."""
    return min(rivals(record, metric), key=lambda one: len(vague(one)), default=None)


def rivals(record: Record, metric: str) -> list[Published]:
    """All that were published of the same system; they need not agree."""
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
    """As the published numbers name it: the option, or the family of an API's model."""
    name = str(record.result["settings"].get("model", {}).get("name") or "")
    option = str(record.result["choices"].get("model"))
    return "gpt-3.5" if option == "openai" and name.startswith("gpt-3.5") else option


def vague(one: Published) -> list[str]:
    """What its source leaves open."""
    missing = unknown(one)
    lines = [f"its source does not say the {' and the '.join(missing)}"] if missing else []
    return [*lines, *(["read second-hand"] if one.status != "primary" else [])]


def unknown(one: Published) -> list[str]:
    """What its source does not say of the settings."""
    return [name for name in SETUP if not getattr(one, name)]


def caveats(record: Record, one: Published) -> list[str]:
    """Why the two numbers are not of the same thing; empty if nothing speaks against it."""
    result, faults = record.result, []
    if result["made_up_data"]:
        faults.append("ours is of the made-up sample, not of LaMP")
    if one.part != result["part"]:
        faults.append(f"published on {one.part}, ours on {result['part']}")
    if (limit := facet(record, "limit")) is not None:
        faults.append(f"ours is of the first {limit} questions only")
    changed = [name for name, value in result["profile"].items() if value != _usual(name)]
    if changed and result["k"]:
        faults.append(f"ours has other profiles ({', '.join(sorted(changed))})")
    if result["fixes"] != "none":
        faults.append("ours has the benchmark's defects mended (fixes)")
    if facet(record, "skip"):
        faults.append(f"ours passes over the best {facet(record, 'skip')} items")
    sizes = SIZES.get((one.task, one.split))
    expected = sizes and sizes[PARTS.index(result["part"])]
    if limit is None and not result["made_up_data"] and expected not in (None, record.questions):
        faults.append(f"ours has {record.questions} questions of the benchmark's {expected}")
    if facet(record, "document_dates"):
        faults.append("ours searches the dates of items, too (document_dates)")
    if changed := _other_settings(record):
        faults.append(f"ours has other settings: {', '.join(changed)}")
    return faults


def _other_settings(record: Record) -> list[str]:
    """Options in which a run departs from the published ones, or from what its names mean."""
    given, option = flat(record.result["settings"]), str(record.result["choices"].get("model"))
    changed = [
        f"{name}={given[name]}"
        for name, usual in PUBLISHED_OPTIONS.items()
        if given.get(name) not in (None, usual) and _heeded(record, name)
    ]
    weights = facet(record, "weights")
    if USUAL_WEIGHTS.get(option) and weights not in USUAL_WEIGHTS[option]:
        changed.append(f"model.name={weights}")
    if record.result["selection"] == "holdout":
        changed.append("selection=holdout")
    return changed


def _heeded(record: Record, name: str) -> bool:
    """Whether the option does anything in such a run."""
    learned = name.startswith(("training.", "trainer."))
    return not learned or bool(record.result["mode"] == "finetune")


def _usual(option: str) -> object:
    return {"keep": "newest", "control": "none", "own_items": "keep"}.get(option)
