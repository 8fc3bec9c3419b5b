"""Sweeps and runs of the real command, and what they left on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Fine-tunes the tiny T5 for a second, after which its answers depend on the seed.
SHORT = (
    "experiment=first", "task=lamp3", "limit=150", "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
)  # fmt: skip
Runs = dict[str, dict[str, Any]]


def command(*words: str) -> list[str]:
    """A sweep as it is given in a shell."""
    return [sys.executable, "-m", "lamp_exp", "-m", *words]


def sweep(
    folder: Path, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a sweep to its end, in `folder`."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(*words), cwd=folder, env={**os.environ, **(env or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def finished_run(command: Sequence[str]) -> Path:
    """Runs a command of one run to its end, which must be a good one; the run's folder."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Path(ended.stdout.splitlines()[-1])


def finished_here(lamp_exp: Callable[..., tuple[int, str, str]], command: Sequence[str]) -> Path:
    """The same within this process, which saves seconds of imports. `lamp_exp` is the fixture."""
    assert list(command[1:3]) == ["-m", "lamp_exp"], command
    code, out, err = lamp_exp(*command[3:])
    assert code == 0, err
    return Path(out.splitlines()[-1])


def runs(folder: Path) -> Runs:
    """By run, what must not depend on who started it: metrics, the losses of training, answers."""
    found = {}
    for path in sorted(folder.glob("outputs/*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found[path.parent.name] = {
            "metrics": result["metrics"],
            "epochs": result["training"] and result["training"]["epochs"],
            "answers": (path.parent / "predictions.json").read_text(encoding="utf-8"),
        }
    return found


def written(folder: Path) -> dict[Path, int]:
    """When each file of each run was last written, in nanoseconds."""
    files = [path for path in folder.glob("outputs/lamp*/**/*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}
