"""The metrics of LaMP as pure functions; each returns the aggregate and the value per example.

Source: the benchmark's evaluation code, except that ROUGE is a plain mean instead of a
bootstrap's median, so that a score does not depend on chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lamp_exp.types import Scores

LOWEST, HIGHEST = 1.0, 5.0  # the scale of LaMP-3's ratings
ABSURD = 1e6


def classification(outputs: Sequence[str], targets: Sequence[str], labels: Sequence[str]) -> Scores:
    """Accuracy, and macro F1 over the fixed `labels`: an unknown output is a wrong class."""
    pairs = [(o.strip(), t.strip()) for o, t in zip(outputs, targets, strict=True)]
    correct = [float(output == target) for output, target in pairs]
    f1 = mean([_f1_of(label, pairs) for label in labels])
    unreadable = sum(output not in labels for output, _ in pairs)
    metrics = {"accuracy": mean(correct), "f1": f1}
    return Scores(metrics, {"accuracy": correct}, unreadable)


def _f1_of(label: str, pairs: Sequence[tuple[str, str]]) -> float:
    found = sum(output == label == target for output, target in pairs)
    named = sum(output == label for output, _ in pairs)
    wanted = sum(target == label for _, target in pairs)
    return 2 * found / (named + wanted) if named + wanted else 0.0


def rating(outputs: Sequence[str], targets: Sequence[str]) -> Scores:
    """MAE and RMSE; an unreadable output counts as the end of the scale farther from the gold.

    A number beyond `ABSURD` is no rating but a model that repeats digits: unreadable, where the
    official code would let it swamp the mean.
    """
    errors, unreadable = [], 0
    for output, target in zip(outputs, targets, strict=True):
        gold, value = float(target), read_number(output)
        unreadable += value is None
        errors.append(abs((_farthest(gold) if value is None else value) - gold))
    rmse = math.sqrt(mean([error * error for error in errors]))
    return Scores({"mae": mean(errors), "rmse": rmse}, {"mae": errors}, unreadable)


def read_number(text: str) -> float | None:
    """`text` as a number of ordinary size, or None."""
    try:
        value = float(text)
    except ValueError:  # any text may come from a model; the caller counts it
        return None
    return value if abs(value) <= ABSURD else None  # neither infinite nor no number


def _farthest(gold: float) -> float:
    return max((LOWEST, HIGHEST), key=lambda end: abs(end - gold))


def rouge(outputs: Sequence[str], targets: Sequence[str]) -> Scores:
    """ROUGE-1 and ROUGE-L (F, no stemmer) by rouge-score; empty outputs count as zero.

    Its tokenizer knows ASCII letters and digits only: references without any are counted in
    `notes`, as their score can only be zero.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    scored = [
        scorer.score(target.strip(), output.strip())
        for output, target in zip(outputs, targets, strict=True)
    ]
    rouge_1 = [row["rouge1"].fmeasure for row in scored]
    rouge_l = [row["rougeL"].fmeasure for row in scored]
    blind = sum(not any(_scorable(c) for c in target) for target in targets)
    return Scores(
        {"rouge_1": mean(rouge_1), "rouge_l": mean(rouge_l)},
        {"rouge_1": rouge_1, "rouge_l": rouge_l},
        unreadable=sum(not output.strip() for output in outputs),
        notes={"references_without_scorable_token": blind} if blind else {},
    )


def _scorable(character: str) -> bool:
    return character.isascii() and character.isalnum()


def mean(values: Sequence[float]) -> float:
    """The plain mean; NaN of nothing, since nothing was measured."""
    return math.fsum(values) / len(values) if values else math.nan
