"""One run of Weights & Biases: how it starts and ends, and what is never sent to it.

W&B receives settings and results and nothing about the machine; it neither asks nor prints, and a
failure of W&B is reported in one line while the run continues.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lamp_exp.environment import environment
from lamp_exp.errors import InputError, first_line
from lamp_exp.results.redaction import scrubbed
from lamp_exp.storage.atomic import read_text_or_none, write_text
from lamp_exp.values import RunInfo

if TYPE_CHECKING:
    from wandb import Run, Settings

log = logging.getLogger("lamp_exp.wandb")

Mode = Literal["online", "offline", "disabled"]
LAST_ID = "last_id"  # in a run's wandb/ folder: a resumed run names the one before
UNSENT = "unsent"  # in the folder of an online run whose upload was given up
CONNECT_SECONDS, UPLOAD_SECONDS = 20.0, 120.0  # after that, the data stays on disk
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
PRIVATE: dict[str, Any] = {  # of wandb.Settings: no code, no machine, no terminal
    "console": "off",
    "silent": True,
    "symlink": False,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "program": "",
    "program_relpath": "",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_disable_viewer": True,
    "x_save_requirements": False,
}


class WandbFailure(Exception):
    """W&B's library, service or server failed, or the disk did; one line says how."""


@contextmanager
def failures_of_wandb() -> Iterator[None]:
    """Raises WandbFailure for a failure of W&B; errors of this project pass unchanged.

    wandb exports only some of its exceptions, so the package that defines the class decides; its
    settings raise ValueError.
    """
    try:
        yield
    except Exception as error:
        packages = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
        if "wandb" not in packages and not isinstance(error, OSError | ValueError):
            raise
        raise WandbFailure(first_line(error) or type(error).__name__) from error


def has_key() -> bool:
    """Whether the environment has the user's key of W&B."""
    return bool(os.environ.get("WANDB_API_KEY"))


def require_key() -> None:
    """Raises InputError if the environment has no key of W&B."""
    if not has_key():
        raise InputError("set the environment variable WANDB_API_KEY to your key of W&B")


def wandb_mode() -> Mode:
    """What WANDB_MODE says; without WANDB_API_KEY, nothing is sent."""
    mode = os.environ.get("WANDB_MODE", "online").lower()
    if mode == "disabled":
        return "disabled"
    return "online" if has_key() and mode not in ("offline", "dryrun") else "offline"


@dataclass
class Session:
    """One open run of W&B; after the first failure (`failed`) nothing more is sent to it."""

    run: Run
    mode: Mode
    failed: bool = field(default=False, init=False)
    link: Path | None = field(default=None, init=False)

    @property
    def folder(self) -> Path:
        """Where W&B keeps this run on disk."""
        return Path(self.run.settings.sync_dir)

    @property
    def store(self) -> Path:
        """Where files wait until they are sent."""
        return self.folder / "record"

    def store_path_for_wandb(self) -> Path:
        """A path to `store` without private names, since W&B sends the paths of files along.

        Offline it is relative, so that the run can be moved; W&B's service, which sends the files
        of an online run, has another working folder and gets a link.
        """
        if self.mode == "offline":
            return self.store.relative_to(self.folder)
        if self.link is None:
            self.link = make_link(self.store)
        return self.link

    def attempt(self, action: str, call: Callable[[], object]) -> None:
        """Calls, unless W&B has failed before; a failure of W&B is logged and ends here."""
        if self.failed:
            return
        try:
            with failures_of_wandb():
                call()
        except WandbFailure as error:
            self.failed = True
            log.warning(
                "W&B failed %s; the run goes on, and its record is kept (%s)", action, error
            )

    def close(self, exit_code: int) -> None:
        """Ends W&B's run, also after a failure; what was not sent can be sent later."""
        try:
            with failures_of_wandb():
                self.run.finish(exit_code=exit_code)
        except WandbFailure as error:
            if not self.failed:
                log.warning("W&B could not end its run; the record is kept (%s)", error)
            self.failed = True
        _end_service()
        if self.mode == "online":
            self._clean_up_online()
        shutil.rmtree(self.folder / "logs", ignore_errors=True)  # they contain paths

    def _clean_up_online(self) -> None:
        if self.failed:
            write_text(self.folder / UNSENT, [str(self.link or "")])
            log.warning("W&B: not all was sent; python -m lamp_exp.wandb sync sends it later")
        elif self.link:
            remove_link(self.link)
            shutil.rmtree(self.store)


def make_link(folder: Path, link: Path | None = None) -> Path:
    """A link to `folder` whose path has no private names, or `link`, made to point there."""
    if link is None:
        shared = "/tmp" if Path("/tmp").is_dir() else None  # TMPDIR may contain the user's name
        link = Path(tempfile.mkdtemp(prefix="lamp_exp-", dir=shared)) / "record"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)
    return link


def remove_link(link: Path) -> None:
    """Removes the link and the folder that `make_link` made for it."""
    link.unlink(missing_ok=True)
    link.parent.rmdir()


@contextmanager
def open_session(info: RunInfo, project: str, entity: str | None) -> Iterator[Session | None]:
    """A run of W&B, which is always closed; None if W&B is disabled or cannot start."""
    mode = wandb_mode()
    if mode == "disabled":
        yield None
        return
    with environment(QUIET, unless_set=True):
        session = _start(info, project, entity, mode)
        exit_code = 1
        try:
            yield session
            exit_code = 0
        finally:
            if session:
                session.close(exit_code)


def _start(info: RunInfo, project: str, entity: str | None, mode: Mode) -> Session | None:
    """Online if the server can be reached in time, else offline; None if wandb itself fails."""
    id = secrets.token_hex(4)
    try:
        with failures_of_wandb():
            return Session(_init(info, project, entity, mode, id), mode)
    except WandbFailure as error:
        for path in (info.folder / "wandb").glob(f"*run-*-{id}"):
            shutil.rmtree(path, ignore_errors=True)
        if mode == "offline":
            log.warning("W&B could not start a run; this one goes on without (%s)", error)
            _end_service()
            return None
        log.warning(
            "W&B could not be reached or rejected the key; this run stays offline (%s)", error
        )
    return _start(info, project, entity, "offline")


def _init(info: RunInfo, project: str, entity: str | None, mode: Mode, id: str) -> Run:
    import wandb

    folder = info.folder.resolve()  # W&B's service keeps the working folder it started in
    last_id = folder / "wandb" / LAST_ID
    config = scrubbed(info.settings)
    resumed_from = read_text_or_none(last_id)
    if resumed_from is not None:
        config["resumed_from"] = resumed_from
    run = wandb.init(
        id=id, resume="never", project=project, entity=entity, dir=folder, mode=mode,
        name=info.run, group=info.sweep, job_type=info.mode, tags=info.tags, config=config,
        reinit="create_new", settings=_settings(),
    )  # fmt: skip
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    last_id.parent.mkdir(exist_ok=True)
    write_text(last_id, [id])
    return run


def _settings() -> Settings:
    import wandb

    return wandb.Settings(
        init_timeout=CONNECT_SECONDS,
        login_timeout=CONNECT_SECONDS,
        finish_timeout=UPLOAD_SECONDS,
        finish_timeout_raises=True,
        **PRIVATE,
    )


def _end_service() -> None:
    """Ends W&B's process with the run: it then writes all it has, and a broken one is replaced."""
    import wandb

    if wandb.run is None:  # else a run of the user's own is open, in a notebook
        with suppress(WandbFailure), failures_of_wandb():  # the process may be gone already
            wandb.teardown()
