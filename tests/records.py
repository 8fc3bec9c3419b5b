"""Records of runs that never ran, written as real ones are: for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamp_exp.record import RunFolder
from lamp_exp.tasks import all_tasks
from lamp_exp.types import Hit, Prediction, Prompt

PROFILE = {
    "max_items": None, "keep": "newest", "before": None, "control": "none", "own_items": "keep",
}  # fmt: skip
WORDS = ("red", "green", "blue", "dog", "cat", "sun", "moon", "tree")


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
    outputs: Sequence[str] | None = None,
    made_up: bool = False,
    limit: int | None = None,
    profile: Mapping[str, Any] = {},
    training: Mapping[str, Any] = {},
    data: str = "real",
    **changes: Any,
) -> Path:
    """A run whose answers are right with the chance `skill`; its folder."""
    known = all_tasks()[task]
    chance = random.Random(f"{task}:{split}:{part}:{data}")
    targets = [_target(known, chance) for _ in range(questions)]
    mine = random.Random(f"{task}:{split}:{retriever}:{k}:{augmentation}:{seed}:{skill}:{profile}")
    if outputs is None:
        outputs = [t if mine.random() < skill else _target(known, mine) for t in targets]
    options = {**PROFILE, **profile}
    settings = {
        "seed": seed, "limit": limit, "k": k, "split": split, "part": part, "fixes": "none",
        "model": {"name": f"google/{model}".replace("_", "-")}, "max_length": 512,
        "training": dict(training), "trainer": {"precision": "32-true"}, "profile": options, **changes.pop("settings", {}),
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
    ids = [str(n) for n in range(questions)]
    hits = [[Hit(f"i{mine.randrange(12)}", 3.0 - rank) for rank in range(k)] for _ in ids]
    prompts = [Prompt(i, (f"question {i}",), tuple(h), tokens=20) for i, h in zip(ids, hits)]  # noqa: B905
    predictions = [Prediction(i, o, tokens=3) for i, o in zip(ids, outputs, strict=True)]
    scores = known.score(outputs, targets)
    folder.write_prompts(prompts)
    folder.write_predictions(known.name, [(p.id, p.output) for p in predictions])
    columns = {
        "id": ids,
        "user": [f"u{n // per_user}" for n in range(questions)],
        "target": targets,
        "profile_size": [1 + chance.randrange(60) for _ in ids],
        "top_similarity": [3.0 if k else None for _ in ids],
    }
    folder.write_examples(columns, prompts, predictions, scores)
    choices = {"task": task, "retriever": retriever, "augmentation": augmentation, "model": model}
    folder.write_result(
        {
            "run": name, "started": "2026-11-25T12:00:00+00:00", "task": known.name,
            "choices": choices, "split": split, "part": part, "mode": mode, "k": k, "seed": seed,
            "monitor": list(known.monitor), "metrics": dict(scores.metrics), "notes": [],
            "fixes": "none", "selection": "dev" if mode == "finetune" else None,
            "profile": options, "made_up_data": made_up,
            "data": {"asked": {"source": "x.json", "fingerprint": identity["data"]["asked"],
                               "questions": questions, "golds": True, "odd": {}}},
            "counts": {"questions": questions, "prompt_tokens": 20 * questions,
                       "output_tokens": 3 * questions, "outputs_unreadable": scores.unreadable},
            "seconds": {"rank": 0.5, "prompts": 0.25, "predict": 2.0, "score": 0.125},
            "peak_memory_mb": 700,
            "retrieval": {"ranking_cache": {"read": 30, "made": 10}},
            "model": {}, "training": None, "settings": settings, "identity": identity,
            "versions": {"python": "3.11"}, "code": {"fingerprint": "c"}, **changes,
        }
    )  # fmt: skip
    return folder.path


def _target(task: Any, chance: random.Random) -> str:
    labels = getattr(task, "labels", None)
    if labels:
        return str(chance.choice(labels))
    if task.name == "LaMP_3":
        return str(chance.randrange(1, 6))
    return " ".join(
        chance.choice(["red", "green", "blue", "dog", "cat", "sun", "moon", "tree"])
        for _ in range(4)
    )
