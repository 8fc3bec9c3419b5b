"""What a result depends on: settings without their place, and files by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lamp_exp.storage.contents import folder_fingerprint

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
