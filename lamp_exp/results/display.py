"""What a person sees at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

# Counts that a reader must know, whatever the metrics say.
WARNINGS = {
    "empty_profiles": "questions with an empty profile",
    "prompts_that_lost_items": "prompts without room for all their items",
    "passages_cut": "passages cut at max_length",
    "outputs_at_the_token_limit": "outputs cut at max_new_tokens",
    "outputs_unreadable": "outputs that are no answer",
    "references_without_scorable_token": "references that ROUGE cannot score",
    "profiles_that_hold_the_question": "profiles that hold the question itself (a leak)",
    "items_dated_after_the_question": "profile items dated after their question",
}


def show(result: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> None:
    """The metrics, beside the run without a profile if it is known, and what to be wary of."""
    console = Console(soft_wrap=True)
    console.print(_title(result), style="bold", highlight=False)
    if result["metrics"] is not None:
        console.print(_metrics(result, baseline))
    elif result["mode"] in ("finetune", "zeroshot"):
        console.print("no golds for this part: predictions only, no metrics")
    for line in remarks(result):
        console.print(line, style="yellow", highlight=False)


def _title(result: Mapping[str, Any]) -> str:
    data = "made-up sample, " if result["made_up_data"] else ""
    questions = result["counts"]["questions"]
    return f"{result['run']} ({data}{questions} questions)"


def _metrics(result: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> Table:
    table = Table()
    table.add_column("metric")
    table.add_column("this run", justify="right")
    if baseline:
        table.add_column("without profile (k=0)", justify="right")
        table.add_column("difference", justify="right")
    for name, value in result["metrics"].items():
        row = [name, f"{value:.4f}"]
        if baseline:
            other = baseline["metrics"][name]
            row += [f"{other:.4f}", f"{value - other:+.4f}"]
        table.add_row(*row)
    return table


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What a reader of a run's numbers must know, with how often it is so."""
    counts = result["counts"]
    counted = [f"{counts[name]} {words}" for name, words in WARNINGS.items() if counts.get(name)]
    odd = [f"{where}: {count} {what}" for where, what, count in _odd(result)]
    cut = result["retrieval"].get("texts_cut")
    cuts = [f"{cut} texts cut by the encoder"] if cut else []
    return [*result["notes"], *counted, *cuts, *odd]


def warnings(result: Mapping[str, Any]) -> list[str]:
    """The same without their numbers, so that those of many runs can be counted."""
    counted = [words for name, words in WARNINGS.items() if result["counts"].get(name)]
    cuts = ["texts cut by the encoder"] if result["retrieval"].get("texts_cut") else []
    odd = [f"{where}: {what}" for where, what, _ in _odd(result)]
    return [*result["notes"], *counted, *cuts, *odd]


def _odd(result: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """What is odd in each part: the part, what, and how often."""
    return [
        (name, what.replace("_", " "), count)
        for name, origin in result["data"].items()
        for what, count in origin["odd"].items()
        if what != "empty_profiles"
    ]
