"""Records of runs that never ran, written as real ones are: for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.options import PERSONAL_GROUPS
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import (
    IMPORTED,
    SCHEMA_VERSION,
    CodeVersion,
    ImportSource,
    MetricFacts,
    PartFacts,
    RunResult,
)
from lamp_exp.tasks import all_tasks
from lamp_exp.values import Hit, Prediction, Prompt

PROFILE = {
    "max_items": None, "keep": "newest", "before": None, "control": "none", "own_items": "keep",
}  # fmt: skip
WRITTEN = (
    "config.yaml", "rankings.jsonl", "feedback.parquet", "prompts.jsonl", "predictions.json",
    "examples.parquet",
)  # fmt: skip
WORDS = ("red", "green", "blue", "dog", "cat", "sun", "moon", "tree")
QUESTION = "Generate a headline for the following article: "


def make_run(
    output_dir: Path,
    task: str | Task = "lamp4",
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
    settings: Mapping[str, Any] = {},
    data: str = "real",
    schema: int = SCHEMA_VERSION,
    **changes: Any,
) -> Path:
    """A run whose answers are right with the chance `skill`; its folder.

    `outputs` are its first answers. With `texts` of the questions, prompts have items, and end so.
    A `task` that is none of LaMP's has the option `own`. `changes` are fields of the record.
    """
    option = task if isinstance(task, str) else "own"
    known = all_tasks()[task] if isinstance(task, str) else task
    run = f"{retriever}:{k}:{augmentation}:{seed}:{skill}:{profile}"
    targets, answers = _answers(known, option, split, part, data, questions, outputs, skill, run)
    mine = random.Random(f"{task}:{split}:{retriever}:{k}:{augmentation}:{seed}")
    choices = {"task": option, "retriever": retriever, "augmentation": augmentation, "model": model}
    choices |= changes.pop("choices", {})
    resolved = {
        "seed": seed, "limit": limit, "k": k, "split": split, "part": part, "fixes": "none",
        "mode": mode, "model": {"name": f"google/{model}".replace("_", "-")}, "max_length": 512,
        "training": dict(training), "trainer": {"precision": "32-true"},
        "profile": {**PROFILE, **profile}, **settings,
    }  # fmt: skip
    asked = f"{option}-{split}-{part}-{data}"
    identity = _identity(schema, choices, resolved, asked)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    shown = retriever if k else "none"
    folder = RunFolder(output_dir / f"{option}-{split}-{part}-{mode}-{shown}-k{k}-s{seed}-{digest}")
    folder.start(resolved, {})
    ids = [str(first_id + n) for n in range(questions)]
    hits = [[Hit(f"i{mine.randrange(12)}", 3.0 - rank) for rank in range(k)] for _ in ids]
    prompts = _prompts(ids, hits, texts, augmentation)
    predictions = [Prediction(i, o, tokens=3) for i, o in zip(ids, answers, strict=True)]
    scores = known.score(answers, targets)
    _write_prompts(folder.path, prompts)
    folder.write_predictions(known.name, [(p.id, p.output) for p in predictions])
    chance = random.Random(f"sizes:{option}:{split}:{part}:{data}")
    columns = {
        "id": ids,
        "user": [f"u{n // per_user}" for n in range(questions)],
        "target": targets,
        "profile_size": [1 + chance.randrange(400) for _ in ids],
        "top_similarity": [3.0 if k else None for _ in ids],
    }
    folder.write_examples(columns, prompts, predictions, scores)
    result = RunResult(
        run=folder.name, started="2026-11-25T12:00:00+00:00", task=known.name, choices=choices,
        split=split, part=part, mode=mode, k=k, seed=seed, main_metric=known.main_metric.name,
        metrics=dict(scores.metrics),
        metric_facts={metric.name: MetricFacts.of(metric) for metric in known.metrics},
        notes=(), fixes="none", selection="dev" if mode == "finetune" else None,
        profile=resolved["profile"], made_up_data=made_up, licence="" if made_up else known.licence,
        data={"asked": PartFacts("x.json", asked, questions, True, {})},
        counts={"questions": questions, "prompt_tokens": 20 * questions,
                "output_tokens": 3 * questions, "outputs_unreadable": scores.invalid_outputs},
        seconds={"rank": 0.5, "prompts": 0.25, "predict": 2.0, "score": 0.125},
        peak_memory_mb=700, retrieval={"ranking_cache": {"read": 30, "made": 10}},
        model={}, training=None, settings=resolved, identity=identity,
        versions={"python": "3.11"}, code=CodeVersion("c"),
    )  # fmt: skip
    write_record(folder.path, replace(result, **changes), schema)
    return folder.path


def make_import(output_dir: Path, name: str, task: str = "lamp4", **options: Any) -> Path:
    """Predictions that were made elsewhere, by a system of that name; the run's folder."""
    unknown = {"retriever": None, "augmentation": None, "model": name}
    run = make_run(output_dir, task, mode=IMPORTED, k=0, choices=unknown, seconds={}, **options)
    result = RunFolder(run).read()
    identity = {"mode": IMPORTED, "task": task, "model.name": name}
    source = ImportSource(name, result.split, result.part, result.seed)
    imported = replace(result, k=None, imported=source, selection=None, identity=identity)
    write_record(run, imported)
    return run


def make_rankings(output_dir: Path, rankings: Mapping[str, Sequence[str]], **options: Any) -> Path:
    """A run of mode=rank: the items of each question, best first."""
    run = make_run(output_dir, mode="rank", questions=len(rankings), metrics=None, **options)
    rows = [
        {"id": id, "items": [{"id": item, "score": -float(n)} for n, item in enumerate(items)]}
        for id, items in rankings.items()
    ]
    (run / "rankings.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_record(run, RunFolder(run).read())
    return run


def make_feedback(
    output_dir: Path,
    rewards: Mapping[str, Mapping[str, float]],
    users: Mapping[str, str],
    **options: Any,
) -> Path:
    """A run of mode=feedback: the rewards of each question's items, in the base's order."""
    settings = {"feedback": {"items": 16, "reward": "metric"}}
    given = {"questions": len(rewards), "metrics": None, "settings": settings, **options}
    run = make_run(output_dir, mode="feedback", **given)
    rows = [
        (id, item, rank, reward)
        for id, items in rewards.items()
        for rank, (item, reward) in enumerate(items.items())
    ]
    RunFolder(run).write_feedback(rows, users)
    write_record(run, RunFolder(run).read())
    return run


def write_record(run: Path, result: RunResult, schema: int = SCHEMA_VERSION) -> None:
    """Writes `result.json` with the files that are there, as a run of that schema version does."""
    files = [name for name in WRITTEN if (run / name).is_file()]
    content = {**result.to_json(), "files": files}
    if schema == 1:
        for name in ("schema_version", "metric_facts"):
            del content[name]
    (run / "result.json").write_text(json.dumps(content), encoding="utf-8")


def change_record(run: Path, **changes: Any) -> None:
    """Changes fields of a run's record."""
    write_record(run, replace(RunFolder(run).read(), **changes, stale=None))


def _identity(
    schema: int, choices: Mapping[str, Any], settings: Mapping[str, Any], asked: str
) -> dict[str, Any]:
    """Not complete, but different for runs that differ."""
    k, used = settings["k"], ("split", "part", "mode", "seed", "limit", "fixes", "k", "training")
    identity = {name: settings[name] for name in used} | {"data.asked": asked}
    identity |= {name: choices[name] for name in ("task", "model")} | {"settings": dict(settings)}
    inside = {n: choices[n] for n in PERSONAL_GROUPS if choices.get(n) not in (None, "none")}
    if k:
        identity |= {name: choices[name] for name in ("retriever", "augmentation")}
    if k or inside:
        identity |= {**inside, "profile": settings["profile"]}
    if schema > 1:
        return identity
    components = {n: {"_target_": identity[n]} for n in choices if n in identity}
    return {**identity, **components, "data": {"asked": asked}}


def _answers(
    task: Task, option: str, split: str, part: str, data: str, questions: int,
    outputs: Sequence[str], skill: float, run: str,
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Targets, and answers of which a share of `skill` is right."""
    chance = random.Random(f"{option}:{split}:{part}:{data}")
    targets = [_target(task, chance) for _ in range(questions)]
    mine = random.Random(f"{option}:{split}:{run}")
    answers = [t if mine.random() < skill else _target(task, mine) for t in targets]
    answers[: len(outputs)] = outputs
    return targets, answers


def _prompts(
    ids: Sequence[str], hits: Sequence[Sequence[Hit]], texts: Sequence[str], augmentation: str
) -> list[Prompt]:
    passages = [(f"question {id}",) for id in ids]
    if texts:
        passages = [_passages(*one, augmentation) for one in zip(texts, hits, strict=True)]
    rows = zip(ids, passages, hits, strict=True)
    return [Prompt(id, shown, tuple(items), tokens=20) for id, shown, items in rows]


def _write_prompts(run: Path, prompts: Sequence[Prompt]) -> None:
    rows = [
        {"id": p.id, "passages": list(p.passages),
         "items": [{"id": hit.id, "score": hit.score} for hit in p.items]}
        for p in prompts
    ]  # fmt: skip
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    (run / "prompts.jsonl").write_text(text, encoding="utf-8")


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


def _target(task: Task, chance: random.Random) -> str:
    if task.labels:
        return str(chance.choice(task.labels))
    if task.name == "LaMP_3":
        return str(chance.randrange(1, 6))
    return " ".join(chance.choice(WORDS) for _ in range(4))
