"""What runs cost: tokens, seconds, memory, cache hits, and money for models behind an API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from lamp_exp.errors import InputError, first_line
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table, as_cell, number
from lamp_exp.report.wording import data_words

STAGES = ("rank", "prompts", "train", "predict", "score")
ESTIMATED = (
    "~: estimated; API $ goes by the tokens that the server counted, but for answers of which that "
    "is not known by the run's own count"
)
USUAL = Path(__file__).parent / "prices.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars; `estimated` where the server's own count of tokens is not known for all answers."""

    dollars: float
    estimated: bool


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens, of a day."""

    date: str
    source: str
    models: Mapping[str, Mapping[str, float]]

    def of(self, record: Record) -> Price | None:
        """What a run's questions and answers cost, had none been kept; None if it is not listed."""
        name = str(record.result["settings"].get("model", {}).get("name"))
        listed = self.models.get(name)
        if listed is None or "asked" not in record.result["model"]:
            return None
        read, written, estimated = _paid_tokens(record)
        return Price((read * listed["input"] + written * listed["output"]) / 1e6, estimated)


def _paid_tokens(record: Record) -> tuple[float, float, bool]:
    """Tokens of prompts and answers by the server's count, and whether some are estimated.

    Answers without such a count have their share of the run's own counts.
    """
    questions, counts = record.questions, record.result["counts"]
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "answers_without_usage": questions}
    usage = record.result["model"].get("usage", nothing)  # runs of older versions have none
    share = usage["answers_without_usage"] / max(questions, 1)
    read = usage["prompt_tokens"] + share * counts["prompt_tokens"]
    written = usage["completion_tokens"] + share * counts["output_tokens"]
    return read, written, share > 0


def read_prices(path: Path = USUAL) -> Prices:
    """A list of prices; raises InputError for a file that is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        models = {
            str(name): {way: _price(both[way]) for way in ("input", "output")}
            for name, both in content["models"].items()
        }
        return Prices(str(content["date"]), str(content.get("source", path.name)), models)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no list of prices ({type(error).__name__}: {first_line(error)}): "
            "it needs date, and models: {NAME: {input: $, output: $}} for a million tokens"
        ) from error


def _price(given: Any) -> float:
    price = float(given)
    if not (math.isfinite(price) and price >= 0):
        raise ValueError(f"{given} is no price")
    return price


def cost_table(records: Sequence[Record], prices: Prices) -> Table:
    """A row for each configuration, the mean over its seeds."""
    groups = in_order(grouped(records).values())
    names, heads = naming(groups)
    priced = [list(map(prices.of, group.records)) for group in groups]
    rows = [
        Row((*heads[group.configuration], group.first.result["monitor"][0]), _cells(group, its))
        for group, its in zip(groups, priced, strict=True)
    ]
    columns = (
        "value", "prompt tokens", "answer tokens", *(f"{stage} s" for stage in STAGES),
        "ms a question", "peak MB", "rankings kept", "texts kept", "API $",
    )  # fmt: skip
    footers = [
        *data_words(records),
        "tokens: a question's, by the tokenizer of the model that read it; means over seeds",
        "seconds of each stage; train includes its own ranking and prompts' use, not their making; "
        "ms a question: of prediction",
        "peak MB: of the process, in which a sweep's earlier jobs ran, too",
        "kept: the share of rankings and of distinct texts' vectors that were not computed anew",
        f"API $: list prices of {prices.date} ({prices.source}), all questions asked once; "
        "answers that were kept on disk cost nothing again",
    ]
    if any(one and one.estimated for its in priced for one in its):
        footers.append(ESTIMATED)
    return Table("Cost", (*names, "metric"), columns, tuple(rows), tuple(footers))


def _cells(group: Group, priced: Sequence[Price | None]) -> tuple[Cell, ...]:
    records = group.records
    asked = mean(record.questions for record in records)

    def over(get: Any) -> float | None:
        values = [value for value in map(get, records) if value is not None]
        return mean(values) if values else None

    def a_question(count: str) -> float | None:
        counts = [record.result["counts"].get(count) for record in records]
        return None if None in counts else mean(counts) / asked

    seconds = [over(lambda r, s=stage: r.result["seconds"].get(s)) for stage in STAGES]
    predict = seconds[STAGES.index("predict")]
    return (
        number(group.mean(group.first.result["monitor"][0])),
        number(a_question("prompt_tokens"), 1),
        number(a_question("output_tokens"), 1),
        *(number(value, 2) for value in seconds),
        number(None if predict is None else 1000 * predict / asked, 1),
        number(over(lambda r: r.result.get("peak_memory_mb")), 0),
        _share(over(_rankings_kept)),
        _share(over(_texts_kept)),
        _dollars([price for price in priced if price]),
    )


def _dollars(known: Sequence[Price]) -> Cell:
    """The mean over seeds, marked where it is an estimate."""
    if not known:
        return as_cell(None)
    value = mean(price.dollars for price in known)
    estimated = any(price.estimated for price in known)
    parts = {"estimated": 1.0} if estimated else {}
    return Cell(f"{'~' if estimated else ''}{value:.4f}", value, parts=parts)


def _share(value: float | None) -> Cell:
    return as_cell(None) if value is None else Cell(f"{value:.0%}", value)


def _rankings_kept(record: Record) -> float | None:
    cache = record.result["retrieval"].get("ranking_cache", {})
    total = cache.get("read", 0) + cache.get("made", 0)
    return cache["read"] / total if total else None


def _texts_kept(record: Record) -> float | None:
    told = record.result["retrieval"]
    total = told.get("texts_from_cache", 0) + told.get("texts_encoded", 0)
    return told["texts_from_cache"] / total if total else None
