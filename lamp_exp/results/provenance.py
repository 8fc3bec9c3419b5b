"""Collects what a run was made with: versions, git commit, peak memory."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "lamp-exp", "torch", "transformers", "tokenizers", "pytorch-lightning", "hydra-core",
    "omegaconf", "sentence-transformers", "faiss-cpu", "rouge-score", "peft", "openai", "gguf",
    "accelerate", "numpy",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages that make the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one, or not installed but run from the checkout
    return found


def commit() -> dict[str, Any]:
    """The checkout's commit and whether files differ from it; empty for an installed wheel."""
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / ".git").exists():
        return {}

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "-uno")),
    }


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MB of 1,000,000 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
