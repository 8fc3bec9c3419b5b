"""Records of runs that never ran, written as real ones are: for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lamp_exp.results.folder import RunFolder
from lamp_exp.tasks import all_tasks
from lamp_exp.values import Hit, Prediction, Prompt

PROFILE = {
    "max_items": None, "keep": "newest", "before": None, "control": "none", "own_items": "keep",
}  # fmt: skip
WORDS = ("red", "green", "blue", "dog", "cat", "sun", "moon", "tree")
QUESTION = "Generate a headline for the following article: "


def make_run(
    output_dir: Path,
    task: str = "lamp4",
    *,
    split: str = "user",
    part: str = "dev",
    mode: str = "finetune",
    retriever: str = "bm25",
    k: int = 4,
    augmentation: str = "ipa",
    model: str = "flan_t5_base",
    seed: int = 0,
    questions: int = 40,
    per_user: int = 1,
    skill: float = 0.5,
    outputs: Sequence[str] = (),
    texts: Sequence[str] = (),
    first_id: int = 0,
    made_up: bool = False,
    limit: int | None = None,
    profile: Mapping[str, Any] = {},
    training: Mapping[str, Any] = {},
    data: str = "real",
    **changes: Any,
) -> Path:
    """A run whose answers are right with the chance `skill`; its folder.

    `outputs` are its first answers. With `texts` of the questions, prompts have items, and end so.
    """
    known = all_tasks()[task]
    chance = random.Random(f"{task}:{split}:{part}:{data}")
    targets = [_target(known, chance) for _ in range(questions)]
    mine = random.Random(f"{task}:{split}:{retriever}:{k}:{augmentation}:{seed}:{skill}:{profile}")
    answers = [t if mine.random() < skill else _target(known, mine) for t in targets]
    answers[: len(outputs)] = outputs
    options = {**PROFILE, **profile}
    settings = {
        "seed": seed, "limit": limit, "k": k, "split": split, "part": part, "fixes": "none",
        "model": {"name": f"google/{model}".replace("_", "-")}, "max_length": 512,
        "training": dict(training), "trainer": {"precision": "32-true"}, "profile": options,
        **changes.pop("settings", {}),
    }  # fmt: skip
    identity: dict[str, Any] = {
        "task": {"_target_": task}, "model": {"name": model}, "split": split, "part": part,
        "mode": mode, "seed": seed, "limit": limit, "fixes": "none", "k": k, "max_length": 512,
        "data": {"asked": f"{task}-{split}-{part}-{data}"}, "training": dict(training),
    }  # fmt: skip
    if k:
        identity |= {
            "retriever": {"_target_": retriever},
            "augmentation": {"_target_": augmentation},
            "profile": options,
            "document_dates": False,
        }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{task}-{split}-{part}-{mode}-{retriever if k else 'none'}-k{k}-s{seed}-{digest}"
    folder = RunFolder(output_dir / name)
    folder.start(settings, {})
    ids = [str(first_id + n) for n in range(questions)]
    hits = [[Hit(f"i{mine.randrange(12)}", 3.0 - rank) for rank in range(k)] for _ in ids]
    passages = [(f"question {id}",) for id in ids]
    if texts:
        passages = [_passages(*one, augmentation) for one in zip(texts, hits, strict=True)]
    prompts = [
        Prompt(id, shown, tuple(items), tokens=20)
        for id, shown, items in zip(ids, passages, hits, strict=True)
    ]
    predictions = [Prediction(i, o, tokens=3) for i, o in zip(ids, answers, strict=True)]
    scores = known.score(answers, targets)
    folder.write_prompts(prompts)
    folder.write_predictions(known.name, [(p.id, p.output) for p in predictions])
    columns = {
        "id": ids,
        "user": [f"u{n // per_user}" for n in range(questions)],
        "target": targets,
        "profile_size": [1 + chance.randrange(400) for _ in ids],
        "top_similarity": [3.0 if k else None for _ in ids],
    }
    folder.write_examples(columns, prompts, predictions, scores)
    choices = {"task": task, "retriever": retriever, "augmentation": augmentation, "model": model}
    folder.write_result(
        {
            "run": name, "started": "2026-11-25T12:00:00+00:00", "task": known.name,
            "choices": choices, "split": split, "part": part, "mode": mode, "k": k, "seed": seed,
            "monitor": [known.main_metric.name, known.main_metric.direction], "metrics": dict(scores.metrics), "notes": [],
            "fixes": "none", "selection": "dev" if mode == "finetune" else None,
            "profile": options, "made_up_data": made_up,
            "data": {"asked": {"source": "x.json", "fingerprint": identity["data"]["asked"],
                               "questions": questions, "golds": True, "odd": {}}},
            "counts": {"questions": questions, "prompt_tokens": 20 * questions,
                       "output_tokens": 3 * questions, "outputs_unreadable": scores.invalid_outputs},
            "seconds": {"rank": 0.5, "prompts": 0.25, "predict": 2.0, "score": 0.125},
            "peak_memory_mb": 700,
            "retrieval": {"ranking_cache": {"read": 30, "made": 10}},
            "model": {}, "training": None, "settings": settings, "identity": identity,
            "versions": {"python": "3.11"}, "code": {"fingerprint": "c"}, **changes,
        }
    )  # fmt: skip
    return folder.path


def make_grid(
    output_dir: Path, tasks: Sequence[str], ks: Sequence[int] = (1, 4), **options: Any
) -> None:
    """Each task with three retrievers, both augmentations and each k, and without a profile."""
    for task in tasks:
        make_run(output_dir, task, k=0, skill=0.3, **options)
        for name, way, k in product(("random", "bm25", "contriever"), ("ipa", "fid"), ks):
            make_run(output_dir, task, retriever=name, augmentation=way, k=k, **options)


def question_texts(questions: int) -> list[str]:
    """As long as those of LaMP-4 may be."""
    chance = random.Random("texts")
    return [QUESTION + " ".join(chance.choices(WORDS, k=60)) for _ in range(questions)]


def _passages(question: str, items: Sequence[Hit], augmentation: str) -> tuple[str, ...]:
    entries = [f'"{item.id}" is the title for "{" ".join(WORDS)}"' for item in items]
    if augmentation == "fid" and entries:
        return tuple(f"{entry}. {question}" for entry in entries)
    return (", and ".join(entries) + (". " if entries else "") + question,)


def _target(task: Any, chance: random.Random) -> str:
    labels = getattr(task, "labels", None)
    if labels:
        return str(chance.choice(labels))
    if task.name == "LaMP_3":
        return str(chance.randrange(1, 6))
    return " ".join(chance.choice(WORDS) for _ in range(4))
