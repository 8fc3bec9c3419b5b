"""The verb card: everything that is needed to repeat a run, without paths or keys."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_config_dir, add_named_runs, write_text
from lamp_exp.report.loading import Record, one_run
from lamp_exp.results.display import remarks
from lamp_exp.results.redaction import scrubbed
from lamp_exp.results.schema import CodeVersion, PartFacts, RunResult

Card = dict[str, Any]
NOT_INSTALLED = {"python", "lamp-exp"}  # of the versions that a record names
LEFT_OUT = {"wandb"}  # folders of a run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run, and the format."""
    add_named_runs(parser, "run")
    add_config_dir(parser)
    add = parser.add_argument
    add("--format", choices=("md", "json"), default="md", help="default: md")
    add("--out", type=Path, metavar="FILE", help="a file instead of the screen")


def run(arguments: argparse.Namespace) -> int:
    """Writes the card."""
    card = card_of(one_run(arguments.run, arguments.runs), arguments.config_dir)
    as_json = arguments.format == "json"
    text = f"{json.dumps(card, ensure_ascii=False, indent=1)}\n" if as_json else markdown(card)
    write_text(text, arguments.out)
    return 0


# --- the card as data --------------------------------------------------------------------------


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
        "tuned": asdict(result.tuned) if result.tuned else None,
        "remarks": remarks(result),
        "code": _code_facts(result.code),
        "install": _install(result.versions),
        "versions": result.versions,
        "data": {
            "download": _download(result),
            "parts": {name: _part(part) for name, part in result.data.items()},
        },
        "machine": _machine(result),
        "training": _training(result.training),
        "generation": result.model.get("generation"),
        "weights": result.model.get("weights"),
        "seconds": result.seconds,
        "counts": result.counts,
        "identity": record.name.rpartition("-")[2],
        "files": [_file(path, record.folder) for path in _files(record.folder)],
    }


def _command(record: Record, config_dir: Path | None) -> dict[str, str | None]:
    """The command that repeats the run, or why there is none."""
    if record.imported:
        return {"command": _import_command(record), "no_command": None}
    from lamp_exp.overrides import command_of, requested_settings  # loads Hydra

    settings = requested_settings(record.result)
    try:
        command = command_of(settings, record.result.choices, scrubbed, config_dir)
        return {"command": command, "no_command": None}
    except InputError as error:
        return {"command": None, "no_command": str(error)}


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
        words += _option(name, value)
    return shlex.join(words)


def _code_facts(code: CodeVersion) -> Card:
    return {name: value for name, value in asdict(code).items() if value is not None}


def _option(name: str, value: object) -> list[str]:
    """The option and its value, as one word if the value looks like an option itself."""
    if value is None:
        return []
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


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


def _part(part: PartFacts) -> Card:
    kept = ("source", "questions", "golds", "fingerprint")
    return {name: getattr(part, name) for name in kept}


def _machine(result: RunResult) -> Card:
    training, trainer = result.training or {}, result.settings.get("trainer") or {}
    return {
        "device": result.model.get("device"),
        "threads": result.model.get("threads"),
        "processes": training.get("processes"),
        "precision": training.get("precision") or trainer.get("precision"),
        "retriever's device": result.retrieval.get("device"),
        "peak memory in MB": result.peak_memory_mb,
    }


def _training(training: Mapping[str, Any] | None) -> Card | None:
    if training is None:
        return None
    kept = ("best_epoch", "optimizer_steps", "effective_batch_size", "train_targets_cut")
    return {"epochs": len(training["epochs"]), **{name: training.get(name) for name in kept}}


def _files(folder: Path) -> list[Path]:
    """All files of the run, weights included; neither hidden ones nor W&B's."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts)
        found += [path] if path.is_file() and not hidden else []
    return found


def _file(path: Path, folder: Path) -> Card:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name = path.relative_to(folder).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest}


# --- the card as text --------------------------------------------------------------------------


def markdown(card: Card) -> str:
    """The card as Markdown, for the appendix of a paper."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield from (f"# {card['run']}", "")
    if card["made_up_data"]:
        yield from ("**Made-up sample, not LaMP.**", "")
    if card["stale"]:
        yield from (f"**Stale:** {card['stale']}.", "")
    yield from _command_section(card)
    yield from _results(card)
    yield from _section("To be careful about", [f"- {line}" for line in card["remarks"]])
    yield from _section("Code", _code(card))
    yield from _section("Data", _data(card))
    yield from _section("Machine", _list(card["machine"]))
    yield from _section("Training", _list(card["training"] or {}))
    yield from _section("Generation", _list(card["generation"] or {}))
    yield from _section("Seconds", _list(card["seconds"]))
    yield from _section("Counts", _list(card["counts"]))
    rows = [[f"`{f['name']}`", f["bytes"], f"`{f['sha256']}`"] for f in card["files"]]
    yield from _section("Files", _table(["file", "bytes", "SHA-256"], rows))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A section with its title; nothing if it has no lines."""
    content = list(lines)
    if content:
        yield from (f"## {title}", "", *content, "")


def _command_section(card: Card) -> Iterator[str]:
    if card["command"] is None:
        yield from _section("Command", [f"None: {card['no_command']}."])
        return
    lines = ["```bash", card["command"], "```"]
    if card["imported"]:
        notes = [
            "Predictions made elsewhere.",
            card["imported"]["description"],
            card["imported"]["url"],
        ]
        lines += ["", *(f"- {line}" for line in notes if line)]
    elif "***" in card["command"]:
        lines += ["", "In the place of `***` stood an address or a key."]
    yield from _section("Command", lines)


def _results(card: Card) -> Iterator[str]:
    rows = [[name, f"{value!r}", card["questions"]] for name, value in card["metrics"].items()]
    lines = (
        _table(["metric", "value", "questions"], rows)
        if rows
        else ["No metrics: no golds are known."]
    )
    if card["tuned"]:
        points = ", ".join(f"k={one['k']}: {one['value']!r}" for one in card["tuned"]["curve"])
        lines += ["", f"k={card['tuned']['k']} was the best on dev ({points})."]
    yield from _section("Results", [*lines, "", f"Seed {card['seed']}. Begun {card['started']}."])


def _code(card: Card) -> Iterator[str]:
    code = card["code"]
    if "commit" in code:
        changed = ", **with changes that were not committed**" if code["changed"] else ""
        yield f"- commit `{code['commit']}`{changed}"
    else:
        yield f"- lamp-exp {card['versions'].get('lamp-exp', 'of an unknown version')}, installed"
    yield f"- fingerprint of the code behind the numbers: `{code['fingerprint']}`"
    yield f"- identity of the run: `{card['identity']}`"
    yield f"- Python {card['versions']['python']}"
    yield from ("", "```bash", card["install"], "```")


def _data(card: Card) -> Iterator[str]:
    rows = [
        [name, part["questions"], "yes" if part["golds"] else "no", f"`{part['fingerprint']}`"]
        for name, part in card["data"]["parts"].items()
    ]
    yield from _table(["part", "questions", "golds", "fingerprint"], rows)
    if card["data"]["download"]:
        yield from ("", "```bash", card["data"]["download"], "```")
    else:
        yield from ("", "The sample is made by the code of this commit.")


def _list(values: Mapping[str, Any]) -> list[str]:
    known = {name: value for name, value in values.items() if value is not None}
    return [f"- {name.replace('_', ' ').strip()}: {value}" for name, value in known.items()]


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
