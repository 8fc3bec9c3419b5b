"""The identity of a run: all that changes its numbers, and nothing else.

The identity is a flat mapping from option names to values. Options at their default are left out,
a component enters by the name of its option and by options that differ from its YAML, and folders
of weights by their content. No path, device, thread, process or logger is part of it. It is a
contract: a new option or a moved class must not rename a run, which `tests/test_run_names.py`
checks with run folders of an earlier release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lamp_exp.experiment.experiment import Configuration
from lamp_exp.options import (
    GROUPS,
    NAME_ORDER,
    OPTIONS,
    SUMMARIES,
    TUNE,
    Option,
    Usage,
    changes_numbers,
)
from lamp_exp.storage.contents import folder_fingerprint

CONTENT_OPTIONS = {"name", "tokenizer"}  # of components: a folder stands for its content


def identity_options(configuration: Configuration, usage: Usage, k: int | str) -> dict[str, Any]:
    """The part of the identity that the configuration decides: everything but the data.

    `k` is the number of items really used, or `tune`.
    """
    values: dict[str, Any] = {}
    for name, group in GROUPS.items():
        if group.changes_numbers and group.applies(usage) and not group.by_values:
            values[name] = configuration.choices[name]
    for name, option in OPTIONS.items():
        if option.changes_numbers and option.applies(usage) and option.always_named:
            values[name] = configuration.value(name)
    for name, value in configuration.changed.items():
        if changes_numbers(name, usage):
            values[name] = by_content(name, value)
    if usage.makes_prompts:
        values["k"] = k
    if k != TUNE:
        values.pop("k_values", None)
    return values


def by_content(name: str, value: Any) -> Any:
    """The value of an option for an identity: of a folder that a component names, its content."""
    last = name.rpartition(".")[2]
    return (
        folder_fingerprint(value) if last in CONTENT_OPTIONS and isinstance(value, str) else value
    )


def deciding_options(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A component's options that decide its results, and those of components inside it.

    Folders stand for their content.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found[name] = deciding_options(group, value)
        elif name not in GROUPS[group].runtime:
            found[name] = by_content(name, value)
    return found


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that change with any value of the identity."""
    content = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def run_name(identity: Mapping[str, Any], usage: Usage, choices: Mapping[str, str]) -> str:
    """The choices in words, then the hash: `lamp4-user-dev-finetune-bm25-k4-fid-tiny-s0-1a2b3c4d`.

    Where no items are ranked, `none` stands for the retriever; a router stands in its place.
    """
    words = []
    for name in (*NAME_ORDER, "seed"):
        if name in OPTIONS:
            words += _option_word(OPTIONS[name], identity)
        elif name == "retriever" and usage.mode != SUMMARIES:
            words.append(_method_word(usage, choices))
        elif name in identity:
            words.append(GROUPS[name].run_name.format(identity[name]))
    return "-".join([*words, identity_hash(identity)])


def _method_word(usage: Usage, choices: Mapping[str, str]) -> str:
    if usage.routes:
        return choices["router"]
    return choices["retriever"] if usage.retrieves else "none"


def _option_word(option: Option, identity: Mapping[str, Any]) -> list[str]:
    if option.run_name is None or option.name not in identity:
        return []
    return [option.run_name.format(identity[option.name])]
