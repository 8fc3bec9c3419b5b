"""`python -m lamp_exp.wandb sync`: sends what runs have kept on disk for Weights & Biases, once.

Only runs whose record is whole are sent, by W&B's own `wandb sync`, one after the other. What
was sent is known by W&B's own mark beside it (`.wandb.synced`), not by the command's exit code,
which is 0 also when it has failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from lamp_exp.errors import InputError
from lamp_exp.results.folder import RunFolder
from lamp_exp.wandb.session import UNSENT, neutral_link, one_line, remove_link

CUT_OFF = "ends with an incomplete record"  # what W&B says of a killed run, having sent the rest


@dataclass(frozen=True, slots=True)
class Kept:
    """One run of W&B on disk: the whole of a run, or what a killed one had logged so far."""

    folder: Path

    @property
    def log(self) -> Path:
        """The file that W&B wrote."""
        return next(self.folder.glob("run-*.wandb"))

    @property
    def mark(self) -> Path:
        """Is there once it has been sent."""
        return self.log.with_name(f"{self.log.name}.synced")

    def send(self, seconds: float) -> str | None:
        """Sends it; what went wrong, or None. Paths in it are relative to its own folder."""
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "wandb", "sync", "--include-online", "."]
            environment = {
                "WANDB_ERROR_REPORTING": "false", **os.environ,
                "WANDB_MODE": "online", "WANDB_DIR": scratch,
            }  # fmt: skip
            try:
                told = subprocess.run(
                    command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                    capture_output=True, text=True, timeout=seconds, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"not sent within {seconds:g} s"
        said = told.stdout + told.stderr
        if CUT_OFF in said:
            self.mark.touch()
        return None if self.mark.exists() else _reason(said)


@contextmanager
def linked(run: Kept) -> Iterator[None]:
    """An online run knows its files by a link, which may be gone, or lead where it lay before."""
    note = run.folder / UNSENT
    named = note.read_text(encoding="utf-8") if note.is_file() else ""
    if named:
        neutral_link(run.folder / "record", Path(named))
    yield
    if run.mark.exists():
        note.unlink(missing_ok=True)
        if named:
            remove_link(Path(named))


def _reason(said: str) -> str:
    lines = [line.removeprefix("wandb: ").strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines or ["wandb sync said nothing"]
    return errors[-1].removeprefix("ERROR ")


def kept(run: Path) -> list[Kept]:
    """What a run's folder still has to send, oldest first."""
    found = [
        *run.glob("wandb/offline-run-*"),
        *(f.parent for f in run.glob(f"wandb/run-*/{UNSENT}")),
    ]
    runs = [Kept(folder) for folder in found if any(folder.glob("run-*.wandb"))]
    waiting = [one for one in runs if not one.mark.exists()]
    return sorted(waiting, key=lambda one: one.folder.name.removeprefix("offline-"))


def sync(runs: Path, dry_run: bool, seconds: float) -> list[str]:
    """Sends all that is finished below `runs`, telling line by line; the failures."""
    folders = sorted(path.parent for path in runs.glob("*/wandb"))
    waiting = {folder: found for folder in folders if (found := kept(folder))}
    if not waiting:
        print(f"nothing in {runs} waits to be sent")
    failed = []
    for folder, found in waiting.items():
        failed += _send_run(RunFolder(folder), found, dry_run, seconds)
    return failed


def _send_run(run: RunFolder, waiting: list[Kept], dry_run: bool, seconds: float) -> list[str]:
    """Under the run's lock, so that neither a run nor another sync works on it meanwhile."""
    try:
        with run.lock(wait=False):
            if run.finished:
                return [f for one in waiting if (f := _send(run, one, dry_run, seconds))]
            print(f"{run.path.name}: skipped, its record is not whole (no result.json)")
    except InputError:
        print(f"{run.path.name}: skipped, it is still being written")
    return []


def _send(run: RunFolder, one: Kept, dry_run: bool, seconds: float) -> str | None:
    name = f"{run.path.name} ({one.folder.name})"
    if dry_run:
        print(f"{name}: would be sent")
        return None
    with linked(one):
        fault = one.send(seconds)
    print(f"{name}: {fault or 'sent'}", flush=True)
    return f"{name}: {fault}" if fault else None


def refuse_unready(runs: Path, dry_run: bool) -> None:
    """Raises InputError where nothing could be sent: no folder, no key, no server."""
    if not runs.is_dir():
        raise InputError(f"there is no folder {runs}: name the runs' output_dir with --runs")
    if dry_run:
        return
    if not os.environ.get("WANDB_API_KEY"):
        raise InputError("set the environment variable WANDB_API_KEY to your key of W&B")
    address = _server()
    try:
        httpx2.get(address, timeout=20)
    except httpx2.HTTPError as error:
        raise InputError(f"{address} cannot be reached ({one_line(error)})") from error


def _server() -> str:
    """Where wandb would send to: WANDB_BASE_URL, or what its settings file says."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    from wandb.sdk.wandb_setup import singleton

    return str(singleton().settings.base_url)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 2 if nothing could be tried, 1 if some runs could not be sent."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.wandb sync", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("outputs"), help="output_dir of the runs")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be sent")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run")
    options = parser.parse_args(arguments)
    try:
        refuse_unready(options.runs, options.dry_run)
        failed = sync(options.runs, options.dry_run, options.timeout)
    except InputError as error:
        print(f"lamp_exp.wandb sync: {error}", file=sys.stderr)
        return 2
    for line in failed:
        print(f"lamp_exp.wandb sync: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
