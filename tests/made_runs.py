"""Finished runs of any size, written as runs write them, with numbers made up by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamp_exp.record import RunFolder
from lamp_exp.types import Hit, Prediction, Prompt, Scores

WORDS = [
    "river", "market", "broker", "witness", "honest", "plain", "secret", "evening", "harbour",
    "engine", "garden", "verdict", "council", "winter", "signal", "bridge", "lawyer", "recipe",
]  # fmt: skip
MAIN = {
    "lamp1": ("accuracy", "max"), "lamp2": ("accuracy", "max"), "lamp3": ("mae", "min"),
}  # fmt: skip
QUESTION = "Generate a headline for the following article: "


def write_run(
    folder: Path,
    task: str = "lamp4",
    retriever: str = "bm25",
    augmentation: str = "ipa",
    k: int = 4,
    n: int = 20,
    seed: int = 0,
    predictions: Sequence[str] | None = None,
    **changes: Any,
) -> RunFolder:
    """One run of `n` questions, of three to a user; `changes` are of its `result.json`."""
    metric, better = MAIN.get(task, ("rouge_1", "max"))
    dice = random.Random(f"{task} {retriever} {augmentation} {k} {seed}")
    help_ = 0 if k == 0 else 0.04 * (1 + ["random", "bm25", "contriever"].index(retriever))
    scores = [_score(dice, metric, help_ * (1 + 0.1 * k)) for _ in range(n)]
    shown = retriever if k else "none"
    name = f"{task}-user-dev-zeroshot-{shown}-k{k}-{augmentation}-tiny-s{seed}"
    run = RunFolder(folder / name)
    run.start({"task": task}, {"code": "made"})
    prompts = [_prompt(row, k, augmentation) for row in range(n)]
    answers = list(predictions or ())[:n]
    answers += [_text(dice, 3) for _ in range(n - len(answers))]
    outputs = [Prediction(p.id, text, tokens=5) for p, text in zip(prompts, answers, strict=True)]
    run.write_prompts(prompts)
    run.write_predictions(task, ((p.id, p.output) for p in outputs))
    run.write_examples(_columns(n), prompts, outputs, _scores(metric, scores))
    result = _result(task, retriever, augmentation, k, n, seed, (metric, better))
    metrics = dict(_scores(metric, scores).metrics)
    run.write_result({**result, "run": name, "metrics": metrics, **changes})
    return run


def write_grid(folder: Path, tasks: Sequence[str], n: int, ks: Sequence[int] = (1, 4, 16)) -> None:
    """Each task with three retrievers, both augmentations and each k, and without a profile."""
    for task in tasks:
        write_run(folder, task, k=0, n=n)
        for retriever in ("random", "bm25", "contriever"):
            for augmentation in ("ipa", "fid"):
                for k in ks:
                    write_run(folder, task, retriever, augmentation, k, n)


def _score(dice: random.Random, metric: str, help_: float) -> float:
    value = min(1.0, max(0.0, dice.gauss(0.35 + help_, 0.2)))
    if metric == "accuracy":
        return float(dice.random() < value)
    return float(round(4 * (1 - value))) if metric == "mae" else value


def _scores(metric: str, values: Sequence[float]) -> Scores:
    second = {"rouge_1": "rouge_l"}.get(metric)
    columns = {metric: list(values)}
    if second:
        columns[second] = [value * 0.9 for value in values]
    return Scores({name: sum(v) / max(len(v), 1) for name, v in columns.items()}, columns)


def _text(dice: random.Random, length: int) -> str:
    return " ".join(dice.choices(WORDS, k=length))


def _prompt(row: int, k: int, augmentation: str) -> Prompt:
    dice = random.Random(f"question {row}")
    question = QUESTION + _text(dice, 60)
    entries = [f'"{_text(dice, 4)}" is the title for "{_text(dice, 40)}"' for _ in range(k)]
    items = tuple(Hit(f"{row}-{n}", 9.5 - n / 3) for n in range(k))
    if augmentation == "fid" and k:
        passages = tuple(f"{entry}. {question}" for entry in entries)
    else:
        passages = (", and ".join(entries) + (". " if k else "") + question,)
    return Prompt(str(10000 + row), passages, items, tokens=60 + 50 * k)


def _columns(n: int) -> dict[str, list[Any]]:
    dice = random.Random("columns")
    return {
        "id": [str(10000 + row) for row in range(n)],
        "user": [f"u{row // 3}" for row in range(n)],
        "target": [_text(dice, 3) for _ in range(n)],
        "profile_size": [dice.randint(1, 400) for _ in range(n)],
    }


def _result(
    task: str, retriever: str, augmentation: str, k: int, n: int, seed: int, monitor: Any
) -> dict[str, Any]:
    profile = {
        "max_items": None, "keep": "newest", "before": None, "control": "none",
        "own_items": "keep",
    }  # fmt: skip
    identity = {"task": task, "split": "user", "part": "dev", "mode": "zeroshot", "k": k,
                "seed": seed, "model": "tiny", "fixes": "none"}  # fmt: skip
    if k:
        identity |= {"retriever": retriever, "augmentation": augmentation, "profile": profile,
                     "document_dates": False}  # fmt: skip
    return {
        "started": f"2026-11-25T12:{k:02d}:00+00:00",
        "task": task, "split": "user", "part": "dev", "mode": "zeroshot", "k": k, "seed": seed,
        "choices": {"task": task, "retriever": retriever, "augmentation": augmentation,
                    "model": "tiny"},
        "monitor": list(monitor), "notes": [], "fixes": "none", "selection": "dev",
        "profile": profile, "made_up_data": True,
        "data": {"asked": {"source": "made-up", "fingerprint": f"{task}-{n}", "odd": {}}},
        "counts": {"questions": n, "prompt_tokens": n * (60 + 50 * k), "output_tokens": 5 * n},
        "seconds": {"rank": 0.1 * k, "predict": 1.5 + k}, "retrieval": {},
        "settings": {"limit": None, "model": {"name": None}}, "identity": identity,
    }  # fmt: skip
