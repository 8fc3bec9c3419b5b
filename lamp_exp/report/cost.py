"""The verb cost: tokens, seconds, memory, cache hits, and the price of models behind an API."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lamp_exp.errors import InputError, first_line
from lamp_exp.options import value_at
from lamp_exp.report.cli_arguments import add_runs, chosen
from lamp_exp.report.footers import group_table
from lamp_exp.report.selection import Group, grouped
from lamp_exp.report.table import Cell, Table, number, percent
from lamp_exp.results.record import Record

STAGES = ("rank", "prompts", "train", "predict", "score")
ESTIMATED = (
    "~: estimated; API $ goes by the tokens that the server counted, but for answers of which that "
    "is not known by the run's own count"
)
DEFAULT_PRICES = Path(__file__).parent / "prices.yaml"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument(
        "--prices", type=Path, default=DEFAULT_PRICES, metavar="FILE",
        help="YAML with date, and models: {NAME: {input: $, output: $}} for a million tokens",
    )  # fmt: skip


def tables(arguments: argparse.Namespace) -> list[Table]:
    prices = read_prices(arguments.prices)
    return [cost_table(chosen(arguments), prices)]


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens on one day."""

    date: str
    source: str
    models: Mapping[str, Mapping[str, float]]

    def of(self, record: Record) -> tuple[float | None, float]:
        """The cost of a run's questions and answers without any cache; None if not listed.

        With it, the share of answers whose tokens the server did not count: they have their share
        of the run's own counts.
        """
        listed = self.models.get(str(value_at(record.result.settings, "model.name")))
        if listed is None or "asked" not in record.result.model:
            return None, 0.0
        counts = record.result.counts
        nothing = {"prompt_tokens": 0, "completion_tokens": 0, "answers_without_usage": math.inf}
        usage = record.result.model.get("usage", nothing)  # older runs have none
        share = min(usage["answers_without_usage"] / max(record.questions, 1), 1.0)
        read = usage["prompt_tokens"] + share * counts["prompt_tokens"]
        written = usage["completion_tokens"] + share * counts["output_tokens"]
        return (read * listed["input"] + written * listed["output"]) / 1e6, share


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
    means = {
        group: pd.DataFrame([_costs(r, prices) for r in group.records], dtype=float).mean()
        for group in grouped(records).values()
    }
    rows = [(g, (g.first.main_metric,), _cells(g, of_group)) for g, of_group in means.items()]
    notes = [
        "tokens: a question's, by the tokenizer of the model that read it; means over seeds",
        "seconds of each stage; rank s: of the asked part; prompts s: where a model is fine-tuned, "
        "also of ranking train and making its prompts; ms a question: of prediction",
        "peak MB: of the process, in which a sweep's earlier jobs ran, too",
        "kept: the share of rankings and of distinct texts' vectors that were not computed anew",
        f"API $: list prices of {prices.date} ({prices.source}), all questions asked once; "
        "answers that were kept on disk cost nothing again",
    ]
    if any(of_group["estimated"] for of_group in means.values()):
        notes.append(ESTIMATED)
    return group_table("Cost", ("metric",), rows, notes)


def _costs(record: Record, prices: Prices) -> dict[str, float | None]:
    """What a run cost; None where its record does not say."""
    result, texts = record.result, record.result.retrieval
    rankings, (dollars, estimated) = texts.get("ranking_cache", {}), prices.of(record)
    return {
        "questions": record.questions,
        "prompt": result.counts.get("prompt_tokens"),
        "output": result.counts.get("output_tokens"),
        **{stage: result.seconds.get(stage) for stage in STAGES},
        "memory": result.peak_memory_mb,
        "rankings": _share(rankings.get("read", 0), rankings.get("made", 0)),
        "texts": _share(texts.get("texts_from_cache", 0), texts.get("texts_encoded", 0)),
        "dollars": dollars,
        "estimated": estimated,
    }


def _share(kept: int, made: int) -> float | None:
    return kept / (kept + made) if kept + made else None


def _cells(group: Group, means: pd.Series) -> dict[str, Any]:
    asked, dollars = means["questions"], number(means["dollars"])
    if means["estimated"]:
        dollars = Cell(f"~{dollars.text}", dollars.value, parts={"estimated": 1.0})
    return {
        "value": group.mean(group.first.main_metric),
        "prompt tokens": number(means["prompt"] / asked, 1),
        "answer tokens": number(means["output"] / asked, 1),
        **{f"{stage} s": number(means[stage], 2) for stage in STAGES},
        "ms a question": number(1000 * means["predict"] / asked, 1),
        "peak MB": number(means["memory"], 0),
        "rankings kept": percent(means["rankings"], 0),
        "texts kept": percent(means["texts"], 0),
        "API $": dollars,
    }


def tokens_per_question(group: Group) -> float:
    counts = [record.result.counts for record in group.records]
    total = [(c["prompt_tokens"] + c["output_tokens"]) / max(c["questions"], 1) for c in counts]
    return sum(total) / len(total)
