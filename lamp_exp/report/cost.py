"""The verb cost: tokens, seconds, memory, cache hits, and the price of models behind an API."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from lamp_exp.errors import InputError, first_line
from lamp_exp.report.cli_arguments import add_format, add_runs, chosen, write
from lamp_exp.report.footers import data_footers
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import Group, facet, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table, as_cell, number

STAGES = ("rank", "prompts", "train", "predict", "score")
ESTIMATED = (
    "~: estimated; API $ goes by the tokens that the server counted, but for answers of which that "
    "is not known by the run's own count"
)
DEFAULT_PRICES = Path(__file__).parent / "prices.yaml"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, the format, and the prices."""
    add_runs(parser)
    add_format(parser)
    parser.add_argument(
        "--prices", type=Path, default=DEFAULT_PRICES, metavar="FILE",
        help="YAML with date, and models: {NAME: {input: $, output: $}} for a million tokens",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Writes the table."""
    prices = read_prices(arguments.prices)
    write([cost_table(chosen(arguments), prices)], arguments)
    return 0


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars; `estimated` if the server's count of tokens is not known for all answers."""

    dollars: float
    estimated: bool


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens on one day."""

    date: str
    source: str
    models: Mapping[str, Mapping[str, float]]

    def of(self, record: Record) -> Price | None:
        """The cost of a run's questions and answers without any cache; None if not listed."""
        listed = self.models.get(str(facet(record, "weights")))
        if listed is None or "asked" not in record.result.model:
            return None
        read, written, estimated = _paid_tokens(record)
        return Price((read * listed["input"] + written * listed["output"]) / 1e6, estimated)


def _paid_tokens(record: Record) -> tuple[float, float, bool]:
    """Tokens of prompts and answers by the server's count, and whether some are estimated.

    Answers without such a count have their share of the run's own counts.
    """
    questions, counts = record.questions, record.result.counts
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "answers_without_usage": questions}
    usage = record.result.model.get("usage", nothing)  # older runs have none
    share = usage["answers_without_usage"] / max(questions, 1)
    read = usage["prompt_tokens"] + share * counts["prompt_tokens"]
    written = usage["completion_tokens"] + share * counts["output_tokens"]
    return read, written, share > 0


def read_prices(path: Path = DEFAULT_PRICES) -> Prices:
    """Reads a list of prices. Raises InputError for any other file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        models = {
            str(name): {way: _price(prices[way]) for way in ("input", "output")}
            for name, prices in content["models"].items()
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
    """A row per configuration: means over its seeds."""
    groups = in_order(grouped(records).values())
    names, heads = naming(groups)
    priced = [list(map(prices.of, group.records)) for group in groups]
    rows = [
        Row((*heads[group.configuration], group.first.main_metric), _cells(group, its))
        for group, its in zip(groups, priced, strict=True)
    ]
    columns = (
        "value", "prompt tokens", "answer tokens", *(f"{stage} s" for stage in STAGES),
        "ms a question", "peak MB", "rankings kept", "texts kept", "API $",
    )  # fmt: skip
    footers = [
        *data_footers(records),
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

    def mean_of(get: Any) -> float | None:
        values = [value for value in map(get, records) if value is not None]
        return mean(values) if values else None

    def per_question(count: str) -> float | None:
        if any(count not in record.result.counts for record in records):
            return None
        return mean(record.result.counts[count] for record in records) / asked

    seconds = [mean_of(lambda r, s=stage: r.result.seconds.get(s)) for stage in STAGES]
    predict = seconds[STAGES.index("predict")]
    return (
        number(group.mean(group.first.main_metric)),
        number(per_question("prompt_tokens"), 1),
        number(per_question("output_tokens"), 1),
        *(number(value, 2) for value in seconds),
        number(None if predict is None else 1000 * predict / asked, 1),
        number(mean_of(lambda r: r.result.peak_memory_mb), 0),
        _share(mean_of(_rankings_kept)),
        _share(mean_of(_texts_kept)),
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
    cache = record.result.retrieval.get("ranking_cache", {})
    total = cache.get("read", 0) + cache.get("made", 0)
    return cache["read"] / total if total else None


def _texts_kept(record: Record) -> float | None:
    facts = record.result.retrieval
    total = facts.get("texts_from_cache", 0) + facts.get("texts_encoded", 0)
    return facts["texts_from_cache"] / total if total else None
