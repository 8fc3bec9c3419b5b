"""Prints a finished run's metrics and warnings to the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from lamp_exp.options import ANSWERING, FEEDBACK
from lamp_exp.results.folder import PROMPTS, RANKINGS
from lamp_exp.results.schema import RunResult
from lamp_exp.wording import count_of

Words = tuple[str, str]  # for one, for several
MAIN_FILES = {"rank": RANKINGS, "prompts": PROMPTS}  # by mode: what was made

# Counts that a reader must know, whatever the metrics are: in words for one, and for several.
WARNINGS = {
    "empty_profiles": ("question with an empty profile", "questions with an empty profile"),
    "prompts_that_lost_items": (
        "prompt without room for all its items", "prompts without room for all their items",
    ),
    "passages_cut": ("passage cut at max_length", "passages cut at max_length"),
    "outputs_at_the_token_limit": (
        "output cut at max_new_tokens", "outputs cut at max_new_tokens",
    ),
    "choices_by_fallback": (
        "question that the router's rule decides for no candidate: the fallback answered",
        "questions that the router's rule decides for no candidate: the fallback answered",
    ),
    "outputs_unreadable": ("output that is no answer", "outputs that are no answer"),
    "outputs_without_their_reasoning": (
        "output whose reasoning was removed", "outputs whose reasoning was removed",
    ),
    "outputs_with_reasoning": (
        "output with reasoning, which model.strip_reasoning=true removes",
        "outputs with reasoning, which model.strip_reasoning=true removes",
    ),
    "outputs_refused": ("output that refuses to answer", "outputs that refuse to answer"),
    "outputs_filtered": (
        "output that the server's filter stopped", "outputs that the server's filter stopped",
    ),
    "outputs_out_of_range": (
        "output outside the scale, scored as it is",
        "outputs outside the scale, scored as they are",
    ),
    "references_without_scorable_token": (
        "reference that ROUGE cannot score", "references that ROUGE cannot score",
    ),
    "profiles_that_hold_the_question": (
        "profile that holds the question itself (a leak)",
        "profiles that hold the question itself (a leak)",
    ),
    "summaries_lost": (
        "prompt that the summary did not fit into", "prompts that their summary did not fit into",
    ),
    "summaries_cut": (
        "summary cut to fit into its prompt", "summaries cut to fit into their prompts",
    ),
    "summaries_empty": (
        "profile that the summary says nothing of", "profiles that the summary says nothing of",
    ),
    "items_dated_after_the_question": (
        "profile item dated after its question", "profile items dated after their question",
    ),
    "questions_with_fewer_neighbours": (
        "question with fewer neighbours than profile.neighbours",
        "questions with fewer neighbours than profile.neighbours",
    ),
}  # fmt: skip
ODDITIES = {  # of a part's texts
    "repeated_item_ids": (
        "profile item under an id that an earlier one has",
        "profile items under an id that an earlier one has",
    ),
    "null_fields": (
        "profile field that is null (or NaN), read as an empty text",
        "profile fields that are null (or NaN), read as empty texts",
    ),
    "texts_with_broken_characters": ("text with half a character", "texts with half a character"),
    "misworded_inputs": (
        "input that does not follow the task's wording",
        "inputs that do not follow the task's wording",
    ),
}
REWARDS = {
    "mean_reward_of_first_item": "first item",
    "mean_reward_of_best_item": "best item",
    "mean_reward": "all items",
}
FEEDBACK_WARNINGS = {
    "questions_without_items": (
        "question without items, which has no feedback",
        "questions without items, which have no feedback",
    ),
    "questions_with_equal_rewards": (
        "question whose items all have the same reward",
        "questions whose items all have the same reward",
    ),
    "items_that_did_not_fit": (
        "item that did not fit into the prompt of the feedback",
        "items that did not fit into the prompt of the feedback",
    ),
}
UNKNOWN_SHARE = 0.03  # of the tokens that a model or an encoder reads: more are a warning


def show(result: RunResult, baseline: RunResult | None, sample_output: str | None = None) -> None:
    """Prints the metrics, beside the baseline's if it is finished, and the warnings.

    `sample_output` is shown where no output is a valid answer.
    """
    console = Console(soft_wrap=True)
    console.print(_title(result), style="bold", highlight=False)
    if result.metrics is not None:
        console.print(_metrics(result, baseline))
    elif result.mode in MAIN_FILES:
        console.print(f"{result.mode}: see {MAIN_FILES[result.mode]} in the folder below")
    elif result.mode in ANSWERING:
        console.print("no golds for this part: predictions only, no metrics")
    elif result.mode == FEEDBACK:
        console.print(_rewards(result.learned[-1]))
    for line in remarks(result):
        console.print(line, style="yellow", highlight=False)
    if sample_output is not None and all_invalid(result):
        shown = textwrap.shorten(sample_output, 100, placeholder=" …") or "(nothing)"
        line = f"no output is a valid answer; the first is: {shown}"
        console.print(line, highlight=False, markup=False)
        if "decoding" in result.model and any(f.labels for f in result.metric_facts.values()):
            console.print("model.decoding=labels writes labels only", highlight=False)


def show_summaries(summaries: Iterable[tuple[str, str]]) -> None:
    """Prints the summaries of some questions' profiles."""
    console = Console(soft_wrap=True)
    for id, text in summaries:
        console.print(f"question {id}:", style="bold", highlight=False)
        console.print(text or "(nothing)", highlight=False, markup=False)


def all_invalid(result: RunResult) -> bool:
    """Whether no output of the run was a valid answer."""
    invalid = sum(result.counts.get(f"outputs_{n}", 0) for n in ("unreadable", "out_of_range"))
    return 0 < result.counts["questions"] == invalid


def _title(result: RunResult) -> str:
    data = "made-up sample, " if result.made_up_data else ""
    return f"{result.run} ({data}{count_of(result.counts['questions'], 'question')})"


def _metrics(result: RunResult, baseline: RunResult | None) -> Table:
    table = Table()
    table.add_column("metric")
    table.add_column("this run", justify="right")
    others = baseline.metrics if baseline else None
    if others:
        table.add_column("without profile (k=0)", justify="right")
        table.add_column("difference", justify="right")
    for name, value in (result.metrics or {}).items():
        row = [name, f"{value:.4f}"]
        if others:
            row += [f"{others[name]:.4f}", f"{value - others[name]:+.4f}"]
        table.add_row(*row)
    return table


def _rewards(feedback: Mapping[str, Any]) -> Table:
    """The mean rewards of the items of a feedback's questions."""
    table = Table()
    table.add_column("mean reward, one item in the prompt")
    table.add_column("this run", justify="right")
    for name, text in REWARDS.items():
        value = feedback[name]
        table.add_row(text, "–" if value is None else f"{value:.4f}")
    return table


def remarks(result: RunResult) -> list[str]:
    """What a reader of a run's numbers must know, with counts."""
    counted = [count_of(count, *words) for words, count in _counted(result)]
    odd = [f"in {part}: {count_of(count, *words)}" for part, words, count in _odd(result)]
    return [*_notes(result), *counted, *dict.fromkeys(odd)]


def _remark_kinds(result: RunResult) -> list[str]:
    """The same without counts, so that the remarks of many runs can be tallied."""
    counted = [many for (_, many), _ in _counted(result)]
    odd = [f"in {part}: {many}" for part, (_, many), _ in _odd(result)]
    return [*_notes(result), *counted, *dict.fromkeys(odd)]


def tallied_remarks(results: Iterable[RunResult]) -> list[tuple[str, int]]:
    """Each kind of remark with the number of runs that have it, the most frequent first."""
    kinds = (kind for result in results for kind in dict.fromkeys(_remark_kinds(result)))
    return Counter(kinds).most_common()


def _notes(result: RunResult) -> Iterator[str]:
    yield from result.notes
    if (limit := result.settings.get("limit")) is not None:
        drawn = result.settings.get("limit_sample") == "random"
        which = "questions drawn by seed" if drawn else "the first questions of each part"
        yield f"only {which} (limit={limit})"
    if own := result.model.get("own_generation"):
        options = ", ".join(f"{name}={value}" for name, value in sorted(own.items()))
        yield f"the model's own generation_config.json sets {options}"
    if any(facts.get("saw_these_golds") for facts in result.learned):
        yield "the reader of the feedback was fine-tuned on the golds that it rewards"
    for facts in result.learned:
        if facts.get("chosen_epoch") == 0:
            reason = "no epoch was better on the held-out users"
            if not facts["questions_learned_from"]:
                reason = "no question had different rewards"
            yield f"the {facts['kind']} is as it was before learning: {reason}"


def _counted(result: RunResult) -> Iterator[tuple[Words, int]]:
    for name, words in WARNINGS.items():
        if result.counts.get(name):
            yield words, result.counts[name]
    for facts in result.learned:
        for name, words in FEEDBACK_WARNINGS.items():
            if facts["kind"] == "feedback" and facts.get(name):
                yield words, facts[name]
    learned = () if result.bound else result.learned  # a bound's feedback reads the asked part
    read = [result.retrieval, *(facts.get("read_to_rank", {}) for facts in learned)]
    encoders = [one for counts in read for one in _encoders(counts)]
    if cut := sum(facts["texts_cut"] for facts in encoders):
        yield ("text cut by the encoder", "texts cut by the encoder"), cut
    pairs = [(f.get("unknown_tokens", 0), f.get("tokens_read", 0)) for f in encoders]
    if unknown := sum(unknown for unknown, read in pairs if unknown > UNKNOWN_SHARE * read):
        yield _unknown("texts that the encoder reads"), unknown
    unknown = result.counts.get("unknown_tokens", 0)
    if unknown > UNKNOWN_SHARE * result.counts.get("prompt_tokens", 0):
        yield _unknown("prompts"), unknown


def _encoders(retrieval: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a retriever, or each of those that it is built of, records of the texts it encodes."""
    if "texts_cut" in retrieval:
        yield retrieval
    for facts in retrieval.values():
        if isinstance(facts, Mapping):
            yield from _encoders(facts)


def _unknown(where: str) -> Words:
    rest = f"in {where}: is it the right tokenizer for these data?"
    return f"unknown token {rest}", f"unknown tokens {rest}"


def _odd(result: RunResult) -> Iterator[tuple[str, Words, int]]:
    """What is unusual in each part: the part, what, and how often."""
    selection = "users of train" if result.selection == "holdout" else "dev"
    names = {"asked": result.part, "train": "train", "selection": selection}
    for name, part in result.data.items():
        for what, count in part.odd.items():
            if what != "empty_profiles":  # a warning of its own
                plain = what.replace("_", " ")  # of another version's records
                yield names.get(name, name), ODDITIES.get(what, (plain, plain)), count
