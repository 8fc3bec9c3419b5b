"""The verb card: everything that is needed to repeat a run, without paths or keys."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.options import ANSWERING
from lamp_exp.report.cli_arguments import add_config_dir, add_named_runs, write_text
from lamp_exp.report.formats import render
from lamp_exp.report.loading import one_run
from lamp_exp.results.display import remarks
from lamp_exp.results.record import Record
from lamp_exp.results.redaction import scrubbed
from lamp_exp.results.schema import IMPORTED, RunResult

Card = dict[str, Any]
NOT_INSTALLED = {"python", "lamp-exp"}  # of the versions that a record names
LEFT_OUT = {"wandb"}  # folders of a run
PART_FACTS = ("source", "questions", "golds", "fingerprint")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_named_runs(parser, "run")
    add_config_dir(parser)
    add = parser.add_argument
    add("--format", choices=("md", "json"), help="default: json for an --out that ends so, or md")
    add("--out", type=Path, metavar="FILE", help="a file instead of the screen")


def run(arguments: argparse.Namespace) -> int:
    card = card_of(one_run(arguments.run, arguments.runs), arguments.config_dir)
    ending = arguments.out.suffix if arguments.out else ""
    as_json = (arguments.format or ending.lstrip(".")) == "json"
    text = f"{json.dumps(card, ensure_ascii=False, indent=1)}\n" if as_json else markdown(card)
    return write_text(text, arguments.out)


def markdown(card: Card) -> str:
    """The card as Markdown, for the appendix of a paper."""
    return render("card.md", **card)


def card_of(record: Record, config_dir: Path | None = None) -> Card:
    """The card as data; what the record does not say is None."""
    result = RunResult.from_json(scrubbed(record.result.to_json()))
    return {
        "run": record.name,
        "started": result.started,
        "stale": scrubbed(record.result.stale),
        "made_up_data": result.made_up_data,
        "imported": asdict(record.result.imported) if record.result.imported else None,
        **_command(record, config_dir),
        "seed": record.seed,
        "questions": record.questions,
        "metrics": dict(record.metrics),
        "no_metrics": None if record.metrics else _no_metrics(result),
        "tuned": asdict(result.tuned) if result.tuned else None,
        "remarks": remarks(result),
        "code": result.code.known(),
        "install": _install(result.versions),
        "versions": result.versions,
        "data": {
            "download": _download(result),
            "parts": {
                name: {fact: getattr(part, fact) for fact in PART_FACTS}
                for name, part in result.data.items()
            },
        },
        "machine": machine(result) | {"peak memory in MB": result.peak_memory_mb},
        "training": _training(result.training),
        "generation": result.model.get("generation"),
        "weights": result.model.get("weights"),
        "seconds": result.seconds,
        "counts": result.counts,
        "identity": record.name.rpartition("-")[2],
        "files": list(_files(record.folder)),
    }


def _no_metrics(result: RunResult) -> str:
    answers = result.mode in (*ANSWERING, IMPORTED)
    return "no golds are known" if answers else f"mode={result.mode} answers no question"


def _command(record: Record, config_dir: Path | None) -> dict[str, str | None]:
    if record.imported:
        return {"command": _import_command(record), "no_command": None}
    from lamp_exp.overrides import command_of, requested_settings  # loads Hydra

    settings = requested_settings(record.result)
    try:
        command = command_of(settings, record.result.choices, scrubbed, config_dir)
        return {"command": command, "no_command": None}
    except InputError as error:
        hint = "" if config_dir else " (--config-dir, if the run was given one)"
        return {"command": None, "no_command": f"{error}{hint}"}


def _import_command(record: Record) -> str | None:
    source = record.result.imported
    if source is None:  # the record was damaged: it says neither name nor file
        return None
    settings = scrubbed(record.result.settings)
    words = ["python", "-m", "lamp_exp.report", "import", str(source.file), "--task", record.task]
    options = {
        "name": source.name,
        "split": source.split,
        "part": source.part,
        "seed": source.seed,
        "data-dir": settings.get("data_dir"),
        "golds": source.golds,
        "description": source.description,
        "url": source.url,
    }
    for name, value in options.items():
        text = str(value)
        if value is not None:  # as one word if the value looks like an option itself
            words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return shlex.join(words)


def _install(versions: Mapping[str, str]) -> str:
    """The command that installs the libraries; versions without a local part such as `+cpu`."""
    pins = [
        f"{name}=={version.partition('+')[0]}"
        for name, version in versions.items()
        if name not in NOT_INSTALLED
    ]
    return shlex.join(["pip", "install", *pins])


def _download(result: RunResult) -> str | None:
    """The command that fetches the official files; None for the made-up sample."""
    if result.made_up_data:
        return None
    given = {"asked": result.part, "train": "train"}
    chosen_on = "train" if result.selection == "holdout" else "dev"
    parts = {given.get(name, chosen_on) for name in result.data}
    words = ["python", "-m", "lamp_exp.data", "download", "--task", str(result.choices["task"])]
    words += ["--split", result.split, "--part", *sorted(parts)]
    return shlex.join([*words, "--data-dir", result.settings.get("data_dir") or "LaMP"])


def machine(result: RunResult) -> Card:
    """What rounds differently on another machine."""
    training, trainer = result.training or {}, result.settings.get("trainer") or {}
    return {
        "device": result.model.get("device"),
        "threads": result.model.get("threads"),
        "processes": training.get("processes"),
        "precision": training.get("precision") or trainer.get("precision"),
        "retriever's device": result.retrieval.get("device"),
    }


def _training(training: Mapping[str, Any] | None) -> Card | None:
    if training is None:
        return None
    kept = ("best_epoch", "optimizer_steps", "effective_batch_size", "train_targets_cut")
    return {"epochs": len(training["epochs"]), **{name: training.get(name) for name in kept}}


def _files(folder: Path) -> Iterator[Card]:
    """All files of the run, weights included; neither hidden ones nor W&B's."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts)
        if path.is_file() and not hidden:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            yield {"name": "/".join(parts), "bytes": path.stat().st_size, "sha256": digest}
