"""`python -m lamp_exp.wandb sync`: sends the runs that are kept on disk for Weights & Biases, once.

Only finished runs are sent, one after the other, by W&B's own `wandb sync`. A run counts as sent if
W&B's mark lies beside it (`.wandb.synced`), since `wandb sync` exits with 0 also after a failure.
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

from lamp_exp.environment import environment
from lamp_exp.errors import InputError, first_line
from lamp_exp.results.folder import RunFolder
from lamp_exp.wandb.session import QUIET, UNSENT, make_link, remove_link, require_key

CUT_OFF = "ends with an incomplete record"  # W&B's message for a killed run; it sends the rest


@dataclass(frozen=True, slots=True)
class WandbRun:
    """One run of W&B on disk, in W&B's own format."""

    folder: Path

    @property
    def log(self) -> Path:
        """The file that W&B wrote."""
        return next(self.folder.glob("run-*.wandb"))

    @property
    def mark(self) -> Path:
        """The file that exists once the run has been sent."""
        return self.log.with_name(f"{self.log.name}.synced")

    def send(self, seconds: float) -> str | None:
        """Sends the run; returns what went wrong, or None."""
        with _link_restored(self), tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "wandb", "sync", "--include-online", "."]
            variables = {
                "WANDB_ERROR_REPORTING": "false", **os.environ,
                "WANDB_MODE": "online", "WANDB_DIR": scratch,
            }  # fmt: skip
            try:
                done = subprocess.run(  # in the run's folder, to which the paths of files relate
                    command, cwd=self.folder, env=variables, stdin=subprocess.DEVNULL,
                    capture_output=True, text=True, timeout=seconds, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"not sent within {seconds:g} s"
            output = done.stdout + done.stderr
            if CUT_OFF in output:
                self.mark.touch()
            return None if self.mark.exists() else _error_in(output)


@contextmanager
def _link_restored(run: WandbRun) -> Iterator[None]:
    """Restores the link by which an online run knows its files; removes it once they are sent."""
    note = run.folder / UNSENT
    link = note.read_text(encoding="utf-8") if note.is_file() else ""
    if link:
        make_link(run.folder / "record", Path(link))
    yield
    if run.mark.exists():
        note.unlink(missing_ok=True)
        if link:
            remove_link(Path(link))


def _error_in(output: str) -> str:
    lines = [line.removeprefix("wandb: ").strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines or ["wandb sync printed nothing"]
    return errors[-1].removeprefix("ERROR ")


def unsent_runs(run: Path) -> list[WandbRun]:
    """The runs of W&B in a run's folder that are still to be sent, oldest first."""
    folders = [
        *run.glob("wandb/offline-run-*"),
        *(note.parent for note in run.glob(f"wandb/run-*/{UNSENT}")),
    ]
    runs = [WandbRun(folder) for folder in folders if any(folder.glob("run-*.wandb"))]
    unsent = [run for run in runs if not run.mark.exists()]
    return sorted(unsent, key=lambda run: run.folder.name.removeprefix("offline-"))


def sync(output_dir: Path, dry_run: bool, seconds: float) -> list[str]:
    """Sends every finished run below `output_dir`, printing a line for each; returns failures."""
    folders = sorted(path.parent for path in output_dir.glob("*/wandb"))
    unsent = {folder: runs for folder in folders if (runs := unsent_runs(folder))}
    if not unsent:
        print(f"nothing in {output_dir} waits to be sent")
    failures = []
    for folder, runs in unsent.items():
        failures += _send_all(RunFolder(folder), runs, dry_run, seconds)
    return failures


def _send_all(folder: RunFolder, runs: list[WandbRun], dry_run: bool, seconds: float) -> list[str]:
    """Holds the run's lock, so that neither a run nor another sync works on it meanwhile."""
    try:
        with folder.lock(wait=False):
            if folder.finished:
                return [f for run in runs if (f := _send(folder, run, dry_run, seconds))]
            print(f"{folder.path.name}: skipped, its record is not whole (no result.json)")
    except InputError:
        print(f"{folder.path.name}: skipped, it is still being written")
    return []


def _send(folder: RunFolder, run: WandbRun, dry_run: bool, seconds: float) -> str | None:
    name = f"{folder.path.name} ({run.folder.name})"
    if dry_run:
        print(f"{name}: would be sent")
        return None
    failure = run.send(seconds)
    print(f"{name}: {failure or 'sent'}", flush=True)
    return f"{name}: {failure}" if failure else None


def check_ready(output_dir: Path, dry_run: bool) -> None:
    """Raises InputError where nothing could be sent: no folder, no key, no server."""
    if not output_dir.is_dir():
        raise InputError(f"there is no folder {output_dir}: name the runs' output_dir with --runs")
    if dry_run:
        return
    require_key()
    address = server_address()
    try:
        httpx2.get(address, timeout=20)
    except httpx2.HTTPError as error:
        raise InputError(f"{address} cannot be reached ({first_line(error)})") from error


def server_address() -> str:
    """Where W&B would send to: WANDB_BASE_URL, or what its settings file says."""
    with environment(QUIET, unless_set=True):
        import wandb

        try:
            return str(wandb.setup().settings.base_url)
        finally:
            wandb.teardown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 2 if nothing could be tried, 1 if some runs could not be sent."""
    parser = argparse.ArgumentParser(prog="python -m lamp_exp.wandb sync", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("outputs"), help="output_dir of the runs")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run")
    options = parser.parse_args(arguments)
    try:
        check_ready(options.runs, options.dry_run)
        failures = sync(options.runs, options.dry_run, options.timeout)
    except InputError as error:
        print(f"lamp_exp.wandb sync: {error}", file=sys.stderr)
        return 2
    for line in failures:
        print(f"lamp_exp.wandb sync: {line}", file=sys.stderr)
    return 1 if failures else 0
