"""The reproduction card: everything that is needed to repeat a run, and nothing of the machine."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.results.display import remarks
from lamp_exp.results.redaction import scrubbed
from lamp_exp.results.schema import RunResult

Card = dict[str, Any]
NOT_INSTALLED = {"python", "lamp-exp"}  # of the versions that a record names
LEFT_OUT = {"wandb"}  # of a run's folders


def card_of(record: Record) -> Card:
    """The card as data; what the record does not tell is None."""
    result = scrubbed(record.result)
    return {
        "run": record.name,
        "started": result["started"],
        "stale": result.get("stale"),
        "made_up_data": result["made_up_data"],
        "imported": record.result.get("imported"),
        **_command(record),
        "seed": record.seed,
        "questions": record.questions,
        "metrics": dict(record.metrics),
        "tuned": result.get("tuned"),
        "remarks": remarks(result),
        "code": result["code"],
        "install": _install(result["versions"]),
        "versions": result["versions"],
        "data": {
            "download": _download(result),
            "parts": {name: _part(origin) for name, origin in result["data"].items()},
        },
        "machine": _machine(result),
        "training": _training(result["training"]),
        "generation": result["model"].get("generation"),
        "weights": result["model"].get("weights"),
        "seconds": result["seconds"],
        "counts": result["counts"],
        "identity": record.name.rpartition("-")[2],
        "files": [_file(path, record.folder) for path in _files(record.folder)],
    }


def _command(record: Record) -> dict[str, str | None]:
    """What repeats it, or why there is no such command."""
    if record.imported:
        return {"command": _import_command(record), "no_command": None}
    from lamp_exp.overrides import command_of, settings_of  # loads Hydra

    settings, choices = (
        settings_of(RunResult.from_json(dict(record.result))),
        record.result["choices"],
    )
    try:
        return {"command": command_of(settings, choices, scrubbed), "no_command": None}
    except InputError as error:
        return {"command": None, "no_command": str(error)}


def _import_command(record: Record) -> str:
    told = record.result["imported"]
    words = ["python", "-m", "lamp_exp.report", "import", told["file"], "--task", record.task]
    data_dir = scrubbed(record.result["settings"]["data_dir"])
    options = {name: told[name] for name in ("name", "split", "part", "seed")}
    options |= {"data-dir": data_dir, "golds": told.get("golds")}
    options |= {name: told.get(name) for name in ("description", "url")}
    for name, value in options.items():
        words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: object) -> list[str]:
    """As one word where the value would be taken for an option; nothing where there is none."""
    if value is None:
        return []
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _install(versions: Mapping[str, str]) -> str:
    """As a package index knows them: without the local part of a version, such as `+cpu`."""
    pins = [
        f"{name}=={version.partition('+')[0]}"
        for name, version in versions.items()
        if name not in NOT_INSTALLED
    ]
    return shlex.join(["pip", "install", *pins])


def _download(result: Mapping[str, Any]) -> str | None:
    """What fetches the official files; None for the made-up sample, which the code makes."""
    if result["made_up_data"]:
        return None
    given = {"asked": result["part"], "train": "train"}
    chosen_on = "train" if result["selection"] == "holdout" else "dev"
    parts = {given.get(name, chosen_on) for name in result["data"]}
    words = ["python", "-m", "lamp_exp.data", "download", "--task", result["choices"]["task"]]
    words += ["--split", result["split"], "--part", *sorted(parts)]
    return shlex.join([*words, "--data-dir", result["settings"].get("data_dir") or "LaMP"])


def _part(origin: Mapping[str, Any]) -> Card:
    kept = ("source", "questions", "golds", "fingerprint")
    return {name: origin[name] for name in kept}


def _machine(result: Mapping[str, Any]) -> Card:
    settings, training = result["settings"], result["training"] or {}
    trainer = settings.get("trainer") or {}
    return {
        "device": result["model"].get("device"),
        "threads": result["model"].get("threads"),
        "processes": training.get("processes"),
        "precision": training.get("precision") or trainer.get("precision"),
        "retriever's device": result["retrieval"].get("device"),
        "peak memory in MB": result["peak_memory_mb"],
    }


def _training(training: Mapping[str, Any] | None) -> Card | None:
    if training is None:
        return None
    kept = ("best_epoch", "optimizer_steps", "effective_batch_size", "train_targets_cut")
    return {"epochs": len(training["epochs"]), **{name: training.get(name) for name in kept}}


def _files(folder: Path) -> list[Path]:
    """All files of the record, weights included; not what is hidden or W&B's."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        odd = parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts)
        found += [path] if path.is_file() and not odd else []
    return found


def _file(path: Path, folder: Path) -> Card:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name = path.relative_to(folder).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest}


def markdown(card: Card) -> str:
    """For a paper's appendix."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield from (f"# {card['run']}", "")
    if card["made_up_data"]:
        yield from ("**Made-up sample, not LaMP.**", "")
    if card["stale"]:
        yield from (f"**Stale:** {card['stale']}.", "")
    yield from _told_command(card)
    yield from _results(card)
    yield from _section("To be wary of", [f"- {line}" for line in card["remarks"]])
    yield from _section("Code", _code(card))
    yield from _section("Data", _data(card))
    yield from _section("Machine", _named(card["machine"]))
    yield from _section("Training", _named(card["training"] or {}))
    yield from _section("Generation", _named(card["generation"] or {}))
    yield from _section("Seconds", _named(card["seconds"]))
    yield from _section("Counts", _named(card["counts"]))
    rows = [[f"`{f['name']}`", f["bytes"], f"`{f['sha256']}`"] for f in card["files"]]
    yield from _section("Files", _table(["file", "bytes", "SHA-256"], rows))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Nothing at all where there is nothing to say."""
    content = list(lines)
    if content:
        yield from (f"## {title}", "", *content, "")


def _told_command(card: Card) -> Iterator[str]:
    if card["command"] is None:
        yield from _section("Command", [f"None: {card['no_command']}."])
        return
    lines = ["```bash", card["command"], "```"]
    if card["imported"]:
        told = [card["imported"].get("description"), card["imported"].get("url")]
        lines += ["", *(f"- {line}" for line in ("Predictions made elsewhere.", *told) if line)]
    elif "***" in card["command"]:
        lines += ["", "In the place of `***` stood an address or a key."]
    yield from _section("Command", lines)


def _results(card: Card) -> Iterator[str]:
    rows = [[name, f"{value!r}", card["questions"]] for name, value in card["metrics"].items()]
    lines = _table(["metric", "value", "n"], rows) if rows else ["No metrics: no golds are known."]
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


def _named(values: Mapping[str, Any]) -> list[str]:
    known = {name: value for name, value in values.items() if value is not None}
    return [f"- {name.replace('_', ' ').strip()}: {value}" for name, value in known.items()]


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
