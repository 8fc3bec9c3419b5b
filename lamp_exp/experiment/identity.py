"""What a result depends on: settings without their place, and files by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

# Options that change how a run is carried out, but not its numbers.
RUNTIME = {
    "retriever": {"device", "batch_tokens"},
    "model": {"base_url", "key_variable", "concurrency", "retries", "timeout"},
    "trainer": {
        "accelerator", "strategy", "enable_progress_bar", "enable_model_summary",
        "log_every_n_steps",
    },
}  # fmt: skip


def identity(what: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that change with any of the values."""
    content = json.dumps(what, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def essence(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A group's options without those of the runtime; folders stand for their content."""
    kept = {name: value for name, value in options.items() if name not in RUNTIME.get(group, ())}
    for name in kept.keys() & {"name", "tokenizer"}:
        kept[name] = folder_fingerprint(str(kept[name]))
    return kept


@lru_cache  # a sweep asks for the same folder again and again
def folder_fingerprint(name: str) -> str:
    """A local folder stands for its content, wherever it lies; any other name for itself.

    All of it counts: adapters, say, change weights far from a file's beginning only.
    """
    folder = Path(name)
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder)}:{content}:".encode())
    return f"folder:{digest.hexdigest()[:16]}"
