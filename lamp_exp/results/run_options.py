"""The options that decide a run's numbers, read from its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from lamp_exp.options import GROUPS, OPTIONS, PERSONAL_GROUPS, TUNE, Usage, changes_numbers
from lamp_exp.results.folder import CHECKPOINT
from lamp_exp.results.schema import IMPORTED, RunResult

CONTENT = "folder:"  # how an identity begins the hash of a local folder


def run_options(result: RunResult) -> dict[str, Any]:
    """All options that decide a run's numbers but the seed, with their values, by dotted name.

    They are read from the choices and the resolved settings, which records of every schema
    version have, so that old and new runs of one configuration have equal options. An option that
    is newer than the record has its default. A folder of weights stands for its content.
    """
    if result.mode == IMPORTED:
        return _imported_options(result)
    usage = usage_of(result)
    settings = flat(result.settings)
    values: dict[str, Any] = {
        name: result.choices.get(name)
        for name, group in GROUPS.items()
        if group.changes_numbers and not group.by_values and group.applies(usage)
    }
    nested = {
        group.partition("@")[2]: name for group, name in result.choices.items() if "@" in group
    }
    known = {name: option.default for name, option in OPTIONS.items()} | settings
    values |= {n: v for n, v in known.items() if _decides(n) and changes_numbers(n, usage)}
    values |= {name: choice for name, choice in nested.items() if changes_numbers(name, usage)}
    values |= {n: v for n, v in _folder_contents(result).items() if n in values}
    values |= {**_part_options(result), "k": result.k}
    values.pop("k_values", None)
    if result.routing is not None:
        return _routed_options(values, result)
    if result.tuned is not None:
        return {**values, "k": TUNE, "k_values": [point["k"] for point in result.tuned.curve]}
    return values


def usage_of(result: RunResult) -> Usage:
    """What the run did, which decides the options that mattered to it."""
    if result.routing is not None:
        return replace(Usage.of(result.mode, True, TUNE), routes=True)
    others = set(PERSONAL_GROUPS) & result.identity.keys()  # a group that is not used is left out
    groups = {one.get("group", "retriever") for one in result.learned}
    learns, writes = "retriever" in groups, "summary" in groups
    general = () if result.adapter.get("uses_profile", True) else {"adapter"}
    return Usage.of(result.mode, True, result.k, learns, others, writes, general)


def _routed_options(values: Mapping[str, Any], result: RunResult) -> dict[str, Any]:
    """The candidates have retrievers and numbers of items of their own, and the router has none.

    A digest of the candidates' identities, but for data and seed, stands for all that they are.
    """
    own = {n: v for n, v in values.items() if not _of_candidates(n)}
    apart = {
        name: {k: v for k, v in identity.items() if k != "seed" and not k.startswith("data.")}
        for name, identity in result.identity["candidates"].items()
    }
    digest = hashlib.sha256(json.dumps(apart, sort_keys=True).encode()).hexdigest()[:8]
    return {**own, "router.candidates": digest}


def _of_candidates(name: str) -> bool:
    return name.partition(".")[0] in ("retriever", "k", "skip") or (
        name.startswith("router.candidates")
    )


def _imported_options(result: RunResult) -> dict[str, Any]:
    choices = {name: result.choices[name] for name in ("task", "model")}
    golds = {name: value for name, value in result.identity.items() if name == "golds"}
    limit = {"limit": result.settings.get("limit")}
    return {**choices, **_part_options(result), **limit, **golds}


def _part_options(result: RunResult) -> dict[str, Any]:
    """The mode, and the questions."""
    named = {name: getattr(result, name) for name in ("split", "part", "mode", "fixes")}
    data = {f"data.{name}": part.fingerprint for name, part in result.data.items()}
    return named | data


def _decides(name: str) -> bool:
    """Seeds are no part of a configuration; the classes of components are named by choices."""
    last = name.rpartition(".")[2]
    return last != "seed" and not last.startswith("_") and name not in GROUPS


def _folder_contents(result: RunResult) -> dict[str, Any]:
    """Options that name a local folder, with the hash of its content.

    Of a routed run, those in which all candidates agree, since its own identity has only theirs.
    """
    known = flat(result.identity)
    if result.routing is not None:
        first, *others = [flat(one) for one in result.identity["candidates"].values()]
        known |= {n: v for n, v in first.items() if all(one.get(n) == v for one in others)}
    return {
        name: value
        for name, value in known.items()
        if isinstance(value, str) and value.startswith(CONTENT)
    }


def baseline_options(result: RunResult, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of the same run without any personal part; None if this has none."""
    if not usage_of(result).personal:
        return None
    usage = Usage.baseline(result.mode)
    kept = {n: v for n, v in options.items() if changes_numbers(n, usage)}
    kept.pop("data.learning", None)  # what personal parts learned from
    return kept | {"k": 0}


def configuration_key(options: Mapping[str, Any]) -> str:
    """A text that is equal for equal options; 1 and 1.0 are equal."""
    content = {name: _as_number(value) for name, value in options.items()}
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names; a value that is no mapping has the name itself."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def model_name(result: RunResult) -> str | None:
    """The name of a run's model as reports show it, which is no path of a machine.

    `model.display_name` if it is given; `random` of weights that were drawn; of a checkpoint, the
    name of its run; of another folder, its last part; else the hub id. None if it is not known.
    """
    model = result.settings.get("model") or {}
    drawn = "random" if model.get("fresh") is not None else None
    name = result.model.get("weights") or model.get("name") or drawn
    if model.get("display_name") or name is None:
        return model.get("display_name")
    path = PurePath(name)
    if path.name == CHECKPOINT and path.parent.name:
        return path.parent.name
    hashed = str(result.identity.get("model.name")).startswith(CONTENT)
    is_folder = hashed or path.is_absolute() or name[0] in "~." or len(path.parts) > 2
    return path.name if is_folder else str(name)
