"""One run of Weights & Biases: how it begins and ends, and what it is never told.

W&B is a guest: it gets settings and results and nothing of the machine, it neither asks nor
prints, and whatever fails in it is told in one line while the run goes on.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lamp_exp.environment import environment
from lamp_exp.errors import first_line
from lamp_exp.results.redaction import scrubbed
from lamp_exp.storage.atomic import write_whole
from lamp_exp.values import RunInfo

if TYPE_CHECKING:
    from wandb import Run, Settings

log = logging.getLogger("lamp_exp.wandb")

Mode = Literal["online", "offline", "disabled"]
LAST_ID = "last_id"  # in a run's wandb/ folder: by it, a resumed run names the one before
UNSENT = "unsent"  # in the folder of an online run whose upload was given up
CONNECT_SECONDS, UPLOAD_SECONDS = 20.0, 120.0  # then it stays on disk
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


def chosen_mode() -> Mode:
    """`disabled`, `offline` or `online`: WANDB_MODE counts, and without a key nothing is sent."""
    wanted = os.environ.get("WANDB_MODE", "online").lower()
    if wanted == "disabled":
        return "disabled"
    keyed = bool(os.environ.get("WANDB_API_KEY"))
    return "online" if keyed and wanted not in ("offline", "dryrun") else "offline"


def failures() -> tuple[type[Exception], ...]:
    """What wandb raises when itself, its service, its server or the disk fails."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    from wandb.sdk.lib.service.service_token import WandbServiceConnectionError
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
    from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

    service = (WandbApiFailedError, WandbServiceConnectionError)
    mailbox = (HandleAbandonedError, MailboxClosedError, ServerResponseError)
    return (wandb.Error, *service, *mailbox, OSError, ValueError)  # ValueError: its settings


@dataclass
class Session:
    """Talks to one run of W&B until that fails; `failed` says that it has."""

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
        """Files that wait there until they are sent."""
        return self.folder / "record"

    def stored(self) -> Path:
        """The store's name for W&B, which sends the names of files along: it tells no place.

        Offline it is relative, so that the run can be moved; the service of an online run
        works elsewhere, and is given a link.
        """
        if self.mode == "offline":
            return self.store.relative_to(self.folder)
        if self.link is None:
            self.link = neutral_link(self.store)
        return self.link

    def attempt(self, doing: str, call: Callable[[], object]) -> None:
        """Calls, unless W&B has failed before; a failure is told and goes no further."""
        if self.failed:
            return
        try:
            call()
        except failures() as error:
            self.failed = True
            _tell(f"failed {doing}; the run goes on, and its record is kept", error)

    def close(self, exit_code: int) -> None:
        """Ends W&B's run, whatever has failed before; what was not sent can be sent later."""
        try:
            self.run.finish(exit_code=exit_code)
        except failures() as error:
            if not self.failed:
                _tell("could not end its run; the record is kept", error)
            self.failed = True
        _end_service()
        if self.mode == "online":
            self._tidy_online()
        shutil.rmtree(self.folder / "logs", ignore_errors=True)  # W&B's own: they name places

    def _tidy_online(self) -> None:
        if self.failed:
            (self.folder / UNSENT).write_text(str(self.link or ""), encoding="utf-8")
            log.warning("W&B: not all was sent; python -m lamp_exp.wandb sync sends it later")
        elif self.link:
            remove_link(self.link)
            shutil.rmtree(self.store)


def neutral_link(folder: Path, link: Path | None = None) -> Path:
    """A link to a folder, by a name that tells nothing; in place of an earlier link, if given."""
    if link is None:
        shared = "/tmp" if Path("/tmp").is_dir() else None  # TMPDIR may name the user
        link = Path(tempfile.mkdtemp(prefix="lamp_exp-", dir=shared)) / "record"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)
    return link


def remove_link(link: Path) -> None:
    """With the folder that was made for it."""
    link.unlink(missing_ok=True)
    link.parent.rmdir()


@contextmanager
def session(about: RunInfo, project: str, entity: str | None) -> Iterator[Session | None]:
    """A run of W&B, closed whatever happens; none if disabled, or if it fails."""
    mode = chosen_mode()
    if mode == "disabled":
        yield None
        return
    with environment(QUIET, unless_set=True):
        opened = _open(about, project, entity, mode)
        exit_code = 1
        try:
            yield opened
            exit_code = 0
        finally:
            if opened:
                opened.close(exit_code)


def _open(about: RunInfo, project: str, entity: str | None, mode: Mode) -> Session | None:
    """Online if the server can be reached soon, else offline; None if wandb itself fails."""
    id = secrets.token_hex(4)
    try:
        return Session(_begin(about, project, entity, mode, id), mode)
    except failures() as error:
        for left in (about.folder / "wandb").glob(f"*run-*-{id}"):
            shutil.rmtree(left, ignore_errors=True)
        if mode == "offline":
            _tell("could not begin a run; this one goes on without", error)
            _end_service()
            return None
        _tell("could not be reached or takes no such key; this run stays offline", error)
    return _open(about, project, entity, "offline")


def _begin(about: RunInfo, project: str, entity: str | None, mode: Mode, id: str) -> Run:
    import wandb

    folder = about.folder.resolve()  # W&B's service keeps the working folder it began in
    last = folder / "wandb" / LAST_ID
    config = scrubbed(about.settings)
    if last.is_file():
        config["resumed_from"] = last.read_text(encoding="utf-8")
    run = wandb.init(
        id=id, resume="never", project=project, entity=entity, dir=folder, mode=mode,
        name=about.run, group=about.sweep, job_type=about.mode, tags=about.tags, config=config,
        reinit="create_new", settings=_settings(),
    )  # fmt: skip
    # It notes imports, too: in a process that has lost W&B, any import would then fail.
    run._unregister_telemetry_import_hooks(id)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    last.parent.mkdir(exist_ok=True)
    write_whole(last, [id])
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
    """W&B's process ends with the run: only then is all written, and a broken one replaced."""
    import wandb

    if wandb.run is not None:  # not ours: somebody's own run, in a notebook
        return
    try:
        wandb.teardown()
    except failures() as error:
        log.debug("W&B's service was gone: %s", error)


def _tell(what: str, error: Exception) -> None:
    log.warning("W&B %s (%s)", what, one_line(error))


def one_line(error: Exception) -> str:
    """What an error says first, or its name if it says nothing."""
    return first_line(error) or type(error).__name__
