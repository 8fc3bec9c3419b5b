"""Waits for the jobs of a sweep that Slurm still has after the launcher ended."""

from __future__ import annotations

from pathlib import Path

DAEMONS = ("slurmstepd: error: ", "srun: error: ")  # as their lines begin


def slurm_jobs(sweep: Path) -> list[str]:
    """The names, such as `12_3`, of the jobs that were submitted; none for other launchers.

    They are in the order of the sweep's jobs.
    """
    folder = sweep / ".submitit"  # has a folder for each job of an array
    names = [path.name for path in folder.glob("*_*") if path.is_dir()]
    return sorted(names, key=lambda name: [int(part) for part in name.split("_")])


def last_word(sweep: Path, number: int) -> str:
    """What Slurm wrote last into a job's log, such as why it was cancelled; `""` if nothing."""
    names = slurm_jobs(sweep)
    logs = (sweep / ".submitit" / names[number]).glob("*.err") if number < len(names) else ()
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in logs]
    lines = [line for text in texts for line in text.splitlines() if line.startswith(DAEMONS)]
    return lines[-1].partition(": error: ")[2].strip("* ") if lines else ""


def wait_for_slurm(sweep: Path) -> None:
    """Waits for the submitted jobs, also those that have not started and so have no status.

    The launcher gives up at the first job that was cancelled or killed.
    """
    if names := slurm_jobs(sweep):
        from submitit import SlurmJob

        for job in [SlurmJob[object](sweep / ".submitit" / "%j", name) for name in names]:
            job.wait()


def cancel_command(sweep: Path) -> str | None:
    """The command that cancels what was submitted; None for other launchers."""
    arrays = sorted({name.partition("_")[0] for name in slurm_jobs(sweep)})
    return f"scancel {' '.join(arrays)}" if arrays else None
