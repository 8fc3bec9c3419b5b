"""A real Slurm of two nodes on this machine: all of it in one folder, on the loopback only.

    python tests/slurm_cluster.py start FOLDER     prints what to export
    python tests/slurm_cluster.py stop FOLDER

No root, systemd or cgroups needed. Debian and Ubuntu have the packages:
`apt-get install slurmctld slurmd slurm-client munge slurmdbd mariadb-server`.
Keep FOLDER's path short: a socket's may have 107 characters.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("n1", "n2")
_children: dict[int, subprocess.Popen[bytes]] = {}  # of this process, by pid
PROGRAMS = (
    "munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sinfo", "sacct",
)  # fmt: skip
SYSTEM = "/usr/sbin:/sbin"  # where daemons lie, which is not on every user's path

# cred_expire is also how many seconds a job waits that was on a node that failed.
SLURM = """
ClusterName=made_up
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
SlurmdTimeout=10
MailProg=/bin/true
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge.socket
{nodes}
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
ACCOUNTING = """
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""
DATABASE = """
CREATE DATABASE slurm;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1';
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_path())]


def environment(folder: Path) -> dict[str, str]:
    """What Slurm's commands need to find this cluster."""
    return {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}


def start(folder: Path) -> None:
    """Returns when both nodes are idle; raises RuntimeError, with all stopped, if they won't be."""
    if absent := missing():
        raise RuntimeError(f"not installed: {', '.join(absent)}")
    folder = folder.resolve()
    for part in ("state", "mysql", *(f"spool/{node}" for node in NODES)):
        (folder / part).mkdir(parents=True)
    _write_configuration(folder)
    try:
        _start_authentication(folder)
        _start_accounting(folder)
        _start_slurm(folder)
    except Exception:
        stop(folder)
        raise


def stop(folder: Path) -> None:
    """Cancels all jobs and ends the daemons, the last one started first."""
    folder = folder.resolve()
    _command(folder, "scancel", "--user", getpass.getuser())
    _wait(lambda: not _command(folder, "squeue", "--noheader"), "", 15, needed=False)
    for pid in [*reversed(_pids(folder)), *_steps(folder)]:
        _end(pid)


def _write_configuration(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    controller, accounting, database, *ports = _free_ports(3 + len(NODES))
    nodes = [
        NODE.format(name=name, host=host, port=port)
        for name, port in zip(NODES, ports, strict=True)
    ]
    values = {
        "folder": folder, "host": host, "user": getpass.getuser(), "controller": controller,
        "accounting": accounting, "database": database, "nodes": "\n".join(nodes),
        "password": secrets.token_hex(16),
    }  # fmt: skip
    _write(folder / "munge.key", secrets.token_bytes(128), 0o400)
    _write(folder / "slurm.conf", SLURM.format(**values).encode(), 0o644)
    _write(folder / "slurmdbd.conf", ACCOUNTING.format(**values).encode(), 0o600)
    _write(folder / "database.sql", DATABASE.format(**values).encode(), 0o600)
    _write(folder / "database.port", str(database).encode(), 0o600)


def _start_authentication(folder: Path) -> None:
    _daemon(
        folder, "munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
        f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log",
    )  # fmt: skip
    _wait((folder / "munge.socket").exists, "munged does not answer", 10)


def _start_accounting(folder: Path) -> None:
    """Slurm's memory of jobs that have ended: submitit asks it what became of a cancelled one."""
    data = [f"--datadir={folder}/mysql", f"--user={getpass.getuser()}"]
    _command(folder, "mariadb-install-db", "--no-defaults", *data, "--skip-test-db")
    port = int((folder / "database.port").read_text())
    _daemon(
        folder, "mariadbd", "--no-defaults", *data, f"--port={port}", "--bind-address=127.0.0.1",
        "--skip-name-resolve", f"--socket={folder}/mysql.socket",
        f"--pid-file={folder}/mysql.pid", f"--init-file={folder}/database.sql",
    )  # fmt: skip
    _wait(lambda: _answers(port), "the database does not answer", 30)
    _daemon(folder, "slurmdbd", "-D")
    _wait(lambda: _succeeds(folder, "sacctmgr", "-n", "show", "cluster"), "no accounting", 30)


def _start_slurm(folder: Path) -> None:
    _daemon(folder, "slurmctld", "-D")
    for node in NODES:
        _daemon(folder, "slurmd", "-D", "-N", node, name=f"slurmd-{node}")
    _wait(lambda: _states(folder) == ["idle", "idle"], "the nodes do not become idle", 60)


def _daemon(folder: Path, program: str, *words: str, name: str = "") -> None:
    """Starts a daemon in the background and keeps its pid."""
    name = name or program
    with (folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            [str(shutil.which(program, path=_path())), *words],
            env={**os.environ, **environment(folder)},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    _children[process.pid] = process
    with (folder / "pids").open("a", encoding="utf-8") as pids:
        pids.write(f"{process.pid} {name}\n")


def _command(folder: Path, *words: str) -> str:
    """What a command prints; nothing if it fails."""
    told = subprocess.run(
        words, env={**os.environ, **environment(folder)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return told.stdout.strip() if told.returncode == 0 else ""


def _succeeds(folder: Path, *words: str) -> bool:
    env = {**os.environ, **environment(folder)}
    return subprocess.run(words, env=env, capture_output=True, check=False).returncode == 0


def _states(folder: Path) -> list[str]:
    return _command(folder, "sinfo", "--Node", "--noheader", "--format=%T").split()


def _wait(done: Callable[[], bool], complaint: str, seconds: float, needed: bool = True) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            if needed:
                raise RuntimeError(f"{complaint} after {seconds} seconds")
            return
        time.sleep(0.2)


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    tried = [socket.socket() for _ in range(count)]
    for one in tried:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in tried]
    for one in tried:
        one.close()
    return ports


def _write(path: Path, content: bytes, rights: int) -> None:
    path.touch(0o600)
    path.write_bytes(content)
    path.chmod(rights)


def _pids(folder: Path) -> list[int]:
    lines = (folder / "pids").read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines]


def _steps(folder: Path) -> list[int]:
    """Processes that watch over this cluster's jobs, if any outlived their daemon."""
    mine = f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            watches = (process / "comm").read_text().startswith("slurmstepd")
            if watches and mine in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def _end(pid: int) -> None:
    for kind, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.kill(pid, kind)
        except ProcessLookupError:
            return
        _wait(lambda: _ended(pid), "", seconds, needed=False)


def _ended(pid: int) -> bool:
    """Whether a process is gone; one of our own children must be asked for."""
    child = _children.get(pid)
    return child.poll() is not None if child else not Path(f"/proc/{pid}").exists()


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SYSTEM}"


if __name__ == "__main__":
    verb, place = sys.argv[1], Path(sys.argv[2]).resolve()
    {"start": start, "stop": stop}[verb](place)
    if verb == "start":
        print(f"export SLURM_CONF={place}/slurm.conf")
