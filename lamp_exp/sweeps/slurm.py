"""What Slurm still holds of a sweep whose launcher has given up."""

from __future__ import annotations

from pathlib import Path


def wait_for_the_queued(sweep: Path) -> None:
    """Where submitit gave up at the first job that was cancelled or killed, waits for the others,
    also for those that have not begun and so have said nothing of themselves.

    They are known by their folders in the sweep's; for other launchers there is nothing to do.
    """
    folder = sweep / ".submitit"
    tasks = [path.name for path in folder.glob("*_*") if path.is_dir()]  # of an array, as 12_3
    if tasks:
        from submitit import SlurmJob

        for job in [SlurmJob[object](folder / "%j", task) for task in tasks]:
            job.wait()
