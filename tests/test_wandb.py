"""Weights & Biases: what a run tells, what it never tells, and that it cannot stop a run.

Offline runs are read back from the file that W&B writes; a server on the loopback takes the rest.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from lamp_exp.__main__ import main
from lamp_exp.loggers.wandb import wandb_logger
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.redaction import harmless, scrubbed
from lamp_exp.tasks import all_tasks
from lamp_exp.values import RunInfo
from lamp_exp.wandb import session as wandb_run
from lamp_exp.wandb import sync as wandb_sync
from lamp_exp.wandb import workspace as wandb_workspace
from tests.conftest import TINY, minimal_result, recorded
from tests.wandb_server import WandbServer, serving

KEY = "k1e2y3" * 7
SECRETS = {
    "WANDB_API_KEY": KEY,
    "OPENAI_API_KEY": "sk-never-to-be-seen",
    "SOME_VARIABLE": "marker-of-the-environment",
    "USER": "marker-user",
    "LOGNAME": "marker-user",
}
QUICK = ["task=lamp4", "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false"]
QUICK += ["max_new_tokens=4"]
TRAIN = [*QUICK, "limit=12", "trainer.max_epochs=1", "training.batch_size=6"]


def command(*arguments: str) -> int:
    """Runs lamp_exp in this process; the exit code."""
    sys.argv = ["lamp_exp", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def messages(log: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: protobufs in the framing of LevelDB's logs."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = log.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            message = Record()
            message.ParseFromString(whole)
            yield message
            whole = b""


@dataclass
class Told:
    """What one offline run of W&B holds."""

    folder: Path
    run: Any
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    artifacts: list[Any]
    exit_code: int | None

    @classmethod
    def of(cls, folder: Path) -> Told:
        told = cls(folder, None, {}, {}, [], [], None)
        for message in messages(next(folder.glob("*.wandb"))):
            kind = message.WhichOneof("record_type")
            if kind == "run":
                told.run = message.run
                told.config |= values(message.run.config.update)
            elif kind == "config":
                told.config |= values(message.config.update)
            elif kind == "summary":
                told.summary |= values(message.summary.update)
            elif kind == "history":
                told.history.append(values(message.history.item))
            elif kind == "artifact":
                told.artifacts.append(message.artifact)
            elif kind == "exit":
                told.exit_code = message.exit.exit_code
        told.config.pop("_wandb", None)
        return told


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def offline_runs(run: Path) -> list[Told]:
    return [Told.of(folder) for folder in sorted(run.glob("wandb/offline-run-*"))]


def about(folder: Path, **changes: Any) -> RunInfo:
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "run": folder.name,
        "folder": folder,
        "sweep": "my-sweep",
        "mode": "zeroshot",
        "tags": ("lamp4", "k4"),
        "settings": {"k": 4},
    }
    return RunInfo(**given | changes)


def opened(folder: Path, **changes: Any) -> Any:
    return wandb_logger(about(folder, **changes), "project", None, 5, True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home-of-marker-user")


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fine-tuned run with secrets all around it, a key among them, and W&B told to stay off."""
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "HOME": str(home), "WANDB_MODE": "offline"}.items():
            patch.setenv(name, value)
        patch.chdir(outputs)
        patch.setattr(sys, "argv", [])
        model = f"model.name={TINY}"
        assert (
            command(*TRAIN, model, "logger=wandb", "logger.table_rows=5", f"output_dir={outputs}")
            == 0
        )
    (folder,) = outputs.glob("lamp4*")
    return folder


@pytest.fixture(scope="module")
def told(run: Path) -> Told:
    (only,) = offline_runs(run)
    return only


def test_the_run_has_its_name_tags_and_mode(told, run):
    assert told.run.display_name == run.name
    assert list(told.run.tags) == ["lamp4", "user", "bm25", "ipa", "k4"]
    assert told.run.job_type == "finetune"
    assert told.run.project == "lamp_exp"
    assert told.run.run_group == ""
    assert told.exit_code == 0


def test_the_config_is_the_resolved_settings_without_places(told, run):
    wanted = yaml.safe_load((run / "config.yaml").read_text())
    wanted["output_dir"] = run.parent.name
    wanted["model"]["name"] = TINY.name
    choices = told.config.pop("choices")
    assert told.config == wanted
    assert choices["retriever"] == "bm25"
    assert not any("/" in name for name in choices)


def test_the_summary_is_the_record_exactly(told, run):
    result = recorded(run)
    wanted = {f"final/{name}": value for name, value in result["metrics"].items()}
    wanted |= {f"seconds/{name}": value for name, value in result["seconds"].items()}
    wanted |= {f"counts/{name}": value for name, value in result["counts"].items()}
    wanted |= {"main/lamp4": result["metrics"]["rouge_1"], "k": 4, "made_up_data": True}
    wanted |= {"table/rows": 5, "table/rows_left_out": 7}
    assert {name: told.summary.get(name) for name in wanted} == wanted
    curves = {"train_loss", "epoch", "rouge_1", "rouge_l", "trainer/global_step", "predictions"}
    others = {name for name in told.summary if not name.startswith("_")} - wanted.keys()
    assert others == curves


def test_the_curves_are_those_on_disk(told, run):
    with (run / "training" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    on_disk = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert [row["train_loss"] for row in told.history if "train_loss" in row] == on_disk
    assert len(on_disk) == 2


def test_the_table_is_the_first_predictions_with_their_scores(told, run):
    shown = told.summary["predictions"]
    assert shown["_type"] == "table-file"
    table = json.loads((told.folder / "files" / shown["path"]).read_text())
    columns = ["id", "user", "target", "prediction", "rouge_1", "rouge_l"]
    assert table["columns"] == columns
    examples = pyarrow.parquet.read_table(run / "examples.parquet", columns=columns).to_pylist()
    assert table["data"] == [list(row.values()) for row in examples[:5]]


def test_the_artifact_is_the_record_and_neither_weights_nor_data(told, run):
    (artifact,) = told.artifacts
    assert (artifact.name, artifact.type) == (run.name, "record")
    places = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    names = ["config.yaml", "predictions.json", "predictions.table.json", "result.json"]
    assert sorted(places) == names
    assert not any(place.is_absolute() for place in places.values())  # it can be moved
    predictions = (told.folder / places["predictions.json"]).read_bytes()
    assert predictions == (run / "predictions.json").read_bytes()
    result = json.loads((told.folder / places["result.json"]).read_text())
    assert result == scrubbed(recorded(run))
    assert yaml.safe_load((told.folder / places["config.yaml"]).read_text())["k"] == 4


@pytest.mark.parametrize("what", [*SECRETS, "home", "outputs", "package", "host", "argv"])
def test_no_file_tells(what, run, told, home):
    known = {
        "home": str(home), "outputs": str(run.parent), "package": str(TINY.parent),
        "host": socket.gethostname(), "argv": "trainer.enable_progress_bar=",
    }  # fmt: skip
    private = (SECRETS | known)[what].encode()
    if len(private) < 5:
        pytest.skip("so short a name occurs by chance")
    files = [path for path in (run / "wandb").rglob("*") if not path.is_dir()]
    assert len(files) >= 6
    for path in files:
        assert not path.is_symlink()
        assert private not in path.read_bytes(), path
        assert private not in str(path.relative_to(run)).encode()


def test_nothing_of_machine_or_code_is_kept(told):
    assert not told.run.host
    assert not told.run.git.ByteSize()
    kinds = {m.WhichOneof("record_type") for m in messages(next(told.folder.glob("*.wandb")))}
    assert not kinds & {"stats", "environment", "output", "output_raw", "alert"}
    assert sorted(path.name for path in told.folder.rglob("*.*") if path.is_file()) == sorted(
        ["config.yaml", "result.json", next(told.folder.glob("*.wandb")).name]
        + [path.name for path in told.folder.glob("files/media/table/*.json")]
    )


def test_tables_and_the_record_can_be_kept_back(tmp_path):
    run = [*QUICK, "limit=3", "mode=zeroshot", "logger=wandb"]
    assert command(*run, "logger.table_rows=0", "logger.artifact=false") == 0
    (told,) = offline_runs(next(tmp_path.glob("outputs/lamp4*")))
    assert told.artifacts == []
    assert "predictions" not in told.summary
    assert told.summary["table/rows_left_out"] == 3
    assert not list(told.folder.glob("files/**/*.json"))


@pytest.mark.long
def test_a_routed_run_says_what_was_chosen_and_what_it_was_worth(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [*QUICK, "mode=zeroshot", f"output_dir={tmp_path}", "limit=6"]
    for own in ("k=0", "k=4"):  # what is there already is logged by nobody
        assert command(*words, own) == 0
    router = ["router=oracle", "router/candidates=fixed", "logger=wandb", "logger.table_rows=2"]
    assert command(*words, *router) == 0
    (folder,) = tmp_path.glob("lamp4-*-oracle-*")
    (only,), result = offline_runs(folder), RunFolder(folder).read()
    assert only.run.display_name == folder.name
    assert list(only.run.tags) == ["lamp4", "user", "oracle", "none", "bm25"]
    assert only.config["choices"]["router"] == "oracle"
    routing = result.routing
    wanted = {f"routing/share/{one.name}": one.chosen / 6 for one in routing.candidates}
    wanted |= {f"routing/value/{one.name}": one.value for one in routing.candidates}
    wanted |= {"routing/success_rate": 1.0, "routing/regret": 0.0, "routing/oracle": routing.oracle}
    wanted |= {"routing/worst": routing.worst, "routing/best_single": routing.best_single}
    wanted |= {"main/lamp4": result.main_value, "table/rows": 2}
    assert {name: only.summary.get(name) for name in wanted} == wanted
    table = json.loads((only.folder / "files" / only.summary["predictions"]["path"]).read_text())
    assert table["columns"][-2:] == ["chosen_candidate", "probability"]
    assert {row[-2] for row in table["data"]} <= {"none", "bm25"}


def test_a_negative_number_of_rows_is_refused(capsys, tmp_path):
    assert command(*QUICK, "mode=zeroshot", "logger=wandb", "logger.table_rows=-1") == 2
    assert "logger.table_rows=-1 must be at least 0" in capsys.readouterr().err


def test_runs_of_a_sweep_are_a_group_and_separate(tmp_path):
    for name in ("a", "b"):
        with opened(tmp_path / name) as log:
            log.lightning_loggers[1].log_metrics({"loss": 1.0}, 0)
    ((one,), (two,)) = offline_runs(tmp_path / "a"), offline_runs(tmp_path / "b")
    assert one.run.run_group == two.run.run_group == "my-sweep"
    assert one.run.run_id != two.run.run_id
    assert len(one.history) == len(two.history) == 1


def test_a_run_that_fails_is_closed_as_failed(tmp_path):
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "a"):
        raise ZeroDivisionError
    (told,) = offline_runs(tmp_path / "a")
    assert told.exit_code == 1


@pytest.mark.long
def test_a_resumed_run_is_a_new_one_that_names_the_earlier(tmp_path):
    for loss, seconds in ((3.0, 0.0), (2.0, 1.1)):
        time.sleep(seconds)  # W&B sorts its folders by the second
        with opened(tmp_path / "a") as log:
            for lightning in log.lightning_loggers:
                lightning.log_metrics({"loss": loss}, 0)
                lightning.save()
    first, second = offline_runs(tmp_path / "a")
    assert first.run.run_id != second.run.run_id
    assert "resumed_from" not in first.config
    assert second.config["resumed_from"] == first.run.run_id
    assert [run.history[0]["loss"] for run in (first, second)] == [3.0, 2.0]
    kept = [tmp_path / "a" / name / "metrics.csv" for name in ("training.1", "training")]
    assert ["3.0" in kept[0].read_text(), "2.0" in kept[1].read_text()] == [True, True]


def test_nothing_is_printed(tmp_path, capfd, caplog):
    with opened(tmp_path / "a") as log:
        log.lightning_loggers[1].log_metrics({"loss": 1.0}, 0)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_the_environment_is_left_as_it_was(tmp_path):
    before = {name for name in os.environ if name != "WANDB_SERVICE"}
    with opened(tmp_path / "a"):
        assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    assert {name for name in os.environ if not name.startswith("WANDB_SERVICE")} == before


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server that takes runs, and the settings to send them there."""
    import wandb

    with serving() as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        wandb.teardown()  # it reads the environment once
        yield server
    wandb.teardown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_run, "CONNECT_SECONDS", 1.5)
    monkeypatch.setattr(wandb_run, "UPLOAD_SECONDS", 1.5)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name == "lamp_exp.wandb"]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


@pytest.mark.long
def test_an_online_run_sends_the_same_and_nothing_private(wandb_server, tmp_path, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    run = [*QUICK, "limit=3", "mode=zeroshot", "logger=wandb", f"output_dir={tmp_path}/out"]
    assert command(*run) == 0
    (folder,) = tmp_path.glob("out/lamp4*")
    sent = "\n".join(wandb_server.requests) + str(wandb_server.files)
    for private in [*SECRETS.values(), str(tmp_path), str(Path.home())]:
        assert private not in sent
    assert not any(
        run.get(name) for run in wandb_server.runs for name in ("host", "program", "repo")
    )
    assert wandb_server.runs[0]["displayName"] == folder.name
    summary = json.loads(wandb_server.files["/run/wandb-summary.json"])
    assert summary["final/rouge_1"] == recorded(folder)["metrics"]["rouge_1"]
    artifact = {name for name in wandb_server.files if name.startswith("/artifact/")}
    assert artifact == {
        f"/artifact/{name}"
        for name in ("config.yaml", "predictions.json", "predictions.table.json", "result.json")
    }
    assert not list(folder.glob("wandb/*/record"))
    assert not list(folder.glob(f"wandb/*/{wandb_run.UNSENT}"))


@pytest.mark.long
def test_the_record_is_the_same_whatever_the_logger(wandb_server, tmp_path, monkeypatch):
    metrics = []
    run = [*QUICK, "limit=3", "mode=zeroshot"]
    for mode in ("csv", "online", "offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        logger = "csv" if mode == "csv" else "wandb"
        assert command(*run, f"logger={logger}", f"output_dir={tmp_path}/{mode}") == 0
        (folder,) = tmp_path.glob(f"{mode}/lamp4*")
        metrics.append(recorded(folder)["metrics"])
        assert (folder / "training" / "metrics.csv").is_file()
        assert (folder / "wandb").exists() == (mode in ("online", "offline"))
    assert metrics == [metrics[0]] * 4
    assert wandb_server.runs


@pytest.mark.long
@pytest.mark.parametrize("fault", ["no server", "a server that is silent", "no such key"])
def test_what_cannot_be_sent_stays_offline_and_says_so(
    fault, wandb_server, impatient, tmp_path, monkeypatch, caplog, capfd
):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if fault == "a server that is silent":
            bound.listen()
        if fault == "no such key":
            monkeypatch.setenv("WANDB_API_KEY", "short")
        else:
            address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            monkeypatch.setenv("WANDB_BASE_URL", address)
        start = time.monotonic()
        with opened(tmp_path / "a") as log:
            log.lightning_loggers[1].log_metrics({"loss": 1.0}, 0)
        assert time.monotonic() - start < 8
    (line,) = warnings(caplog)
    assert "this run stays offline" in line
    assert KEY not in line
    assert capfd.readouterr() == ("", "")
    (told,) = offline_runs(tmp_path / "a")
    assert told.history[0]["loss"] == 1.0
    assert len(list((tmp_path / "a" / "wandb").glob("*run-*"))) == 1


class Dying:
    """A run of W&B whose service is gone."""

    settings = SimpleNamespace(sync_dir="gone")

    def log(self, metrics: Any) -> None:
        raise ConnectionResetError("Connection lost")

    def finish(self, exit_code: int) -> None:
        raise ConnectionResetError("Connection lost")


def test_a_failure_of_wandb_is_told_once_and_goes_no_further(caplog):
    session = wandb_run.Session(Dying(), "offline")
    for _ in range(3):
        session.attempt("to log a metric", lambda: session.run.log({"loss": 1.0}))
    session.close(exit_code=0)
    (line,) = warnings(caplog)
    assert "the run goes on, and its record is kept (Connection lost)" in line


def test_a_fault_of_ours_in_it_is_not_hidden():
    with pytest.raises(KeyError):
        wandb_run.Session(Dying(), "offline").attempt("", lambda: {}["missing"])


DYING = """
import os, signal, subprocess, sys
from lamp_exp.__main__ import main
from lamp_exp.tasks.lamp4 import Lamp4
score = Lamp4.score

def dying(self, outputs, targets):
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        pid, parent, words = line.split(maxsplit=2)
        if "wandb-core" in words and int(parent) == os.getpid():
            os.kill(int(pid), signal.SIGKILL)
            print("killed")
    Lamp4.score = score
    return score(self, outputs, targets)

Lamp4.score = dying
main()
"""


@pytest.mark.slow
def test_a_service_of_wandb_that_is_killed_takes_no_run_with_it(tmp_path):
    words = ["-m", *QUICK, "mode=zeroshot", "limit=3", "seed=1,2", "logger=wandb"]
    told = subprocess.run(
        [sys.executable, "-c", DYING, *words], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("killed") == 1
    lines = [line for line in told.stderr.splitlines() if "W&B" in line]
    assert len(lines) == 1, told.stderr
    assert "the run goes on, and its record is kept" in lines[0]
    first, second = (RunFolder(next(tmp_path.glob(f"outputs/lamp4*s{n}*"))) for n in (1, 2))
    assert first.finished and second.finished
    (after,) = offline_runs(second.path)  # with a service of its own
    assert after.exit_code == 0


def test_settings_that_wandb_refuses_cost_no_run(tmp_path, caplog):
    assert command(*QUICK, "limit=2", "mode=zeroshot", "logger=wandb", "logger.project=a/b") == 0
    (line,) = warnings(caplog)
    assert "Invalid project name 'a/b'" in line
    assert RunFolder(next(tmp_path.glob("outputs/lamp4*"))).finished


@pytest.mark.long
def test_an_upload_that_is_given_up_can_be_sent_later(
    wandb_server, impatient, tmp_path, caplog, capsys, monkeypatch
):
    folder = tmp_path / "outputs" / "a"
    with opened(folder) as log:
        log.lightning_loggers[1].log_metrics({"loss": 1.0}, 0)
        wandb_server.status = 500
    (folder / "result.json").write_text(json.dumps(minimal_result().to_json()))
    assert "wandb sync sends it later" in warnings(caplog)[-1]
    wandb_server.status = 200
    assert wandb_sync.main([]) == 0
    assert capsys.readouterr().out.endswith("sent\n")
    assert not list(folder.glob(f"wandb/*/{wandb_run.UNSENT}"))


def finished(folder: Path, **changes: Any) -> None:
    """A run whose record is whole, with an offline run of W&B and a file that waits in it."""
    with opened(folder, **changes) as log:
        log.lightning_loggers[1].log_metrics({"loss": 1.0}, 0)
    (folder / "result.json").write_text(json.dumps(minimal_result().to_json()))


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as offline:
        offline.setenv("WANDB_MODE", "offline")
        for name in ("a", "b"):
            finished(tmp_path / "outputs" / name)
    return tmp_path / "outputs"


@pytest.mark.long
def test_finished_runs_are_sent_once(outputs, wandb_server, capsys):
    assert wandb_sync.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b"]
    assert all(line.endswith(": sent") for line in lines)
    assert {run["displayName"] for run in wandb_server.runs} >= {"a", "b"}
    before = len(wandb_server.requests)
    assert wandb_sync.main([]) == 0
    assert capsys.readouterr().out == "nothing in outputs waits to be sent\n"
    assert len(wandb_server.requests) == before


def test_a_dry_run_sends_nothing_and_needs_no_key(outputs, wandb_server, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert wandb_sync.main(["--dry-run"]) == 0
    assert capsys.readouterr().out.count("would be sent") == 2
    assert wandb_server.requests == []


def test_unfinished_runs_are_skipped_and_said(outputs, wandb_server, capsys):
    (outputs / "a" / "result.json").unlink()
    with RunFolder(outputs / "b").lock():  # as a run does, and another sync
        assert wandb_sync.main([]) == 0
    told = capsys.readouterr().out
    assert "a: skipped, its record is not whole" in told
    assert "b: skipped, it is still being written" in told
    assert wandb_server.requests == []


@pytest.mark.long
def test_one_failure_does_not_stop_the_others(outputs, wandb_server, capsys):
    wandb_server.refused.add(offline_runs(outputs / "a")[0].run.run_id)
    assert wandb_sync.main([]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("lamp_exp.wandb sync: a (")
    assert "permission denied" in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out.splitlines()[1].endswith(": sent")


@pytest.mark.long
def test_a_killed_run_is_sent_as_far_as_it_went_and_once(outputs, wandb_server, capsys):
    (log,) = (outputs / "a").glob("wandb/*/*.wandb")
    log.write_bytes(log.read_bytes()[:-20])
    assert wandb_sync.main([]) == 0
    assert capsys.readouterr().out.count(": sent") == 2
    assert wandb_sync.main([]) == 0
    assert "nothing" in capsys.readouterr().out


@pytest.mark.long
def test_a_moved_run_sends_its_files(run, wandb_server, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere" / "moved")
    assert wandb_sync.main(["--runs", str(tmp_path / "elsewhere")]) == 0
    sent = wandb_server.files["/artifact/predictions.json"]
    assert sent == (run / "predictions.json").read_bytes()
    result = json.loads(wandb_server.files["/artifact/result.json"])
    assert result["metrics"] == recorded(run)["metrics"]


def test_syncing_without_key_server_or_folder_is_one_line(outputs, capsys, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert wandb_sync.main([]) == 2
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    wandb.teardown()
    assert wandb_sync.main([]) == 2
    assert wandb_sync.main(["--runs", "nowhere"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "set the environment variable WANDB_API_KEY" in first
    assert "http://127.0.0.1:1 cannot be reached" in second
    assert "there is no folder nowhere" in third
    wandb.teardown()


def test_a_workspace_has_a_bar_chart_and_a_curve_over_k_for_each_task(wandb_server, capsys):
    words = ["--entity", "us", "--project", "lamp", "--tag", "user", "--group", "my-sweep"]
    assert wandb_workspace.main(words) == 0
    (view,) = wandb_server.views
    assert capsys.readouterr().out.startswith(f"{wandb_server.address}/us/lamp?nw=")
    assert (view["entityName"], view["projectName"]) == ("us", "lamp")
    spec = json.loads(view["spec"])
    sections = spec["section"]["panelBankConfig"]["sections"]
    panels = {s["name"]: [panel["viewType"] for panel in s["panels"]] for s in sections}
    of_tasks = {name: ["Bar Chart", "Scatter Plot"] for name in all_tasks()}
    assert panels == of_tasks | {
        "differences": ["Run Comparer"],
        "training": ["Run History Line Plot"],
    }
    bars, curve = (panel["config"] for panel in sections[0]["panels"])
    assert bars["metrics"] == ["main/lamp1"]
    assert bars["groupBy"] == "choices.value.retriever"
    assert (curve["xAxis"], curve["yAxis"]) == ("summary:k", "summary:main/lamp1")
    filters = json.dumps(spec["section"]["runSets"][0]["filters"])
    assert "my-sweep" in filters
    assert '"user"' in filters


def test_a_workspace_asks_for_what_the_runs_say(told):
    assert "retriever" in told.config.get("choices", {"retriever": ""})
    assert {"k", "main/lamp4", "train_loss"} <= told.summary.keys()


def test_a_workspace_without_the_extra_or_a_key_is_one_line(capsys, monkeypatch):
    words = ["--entity", "us", "--project", "lamp"]
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert wandb_workspace.main(words) == 2
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert wandb_workspace.main(words) == 2
    key, extra = capsys.readouterr().err.splitlines()
    assert "set the environment variable WANDB_API_KEY" in key
    assert "pip install 'lamp-exp[wandb]'" in extra


HARMLESS = {
    "google/flan-t5-base": "google/flan-t5-base",
    "outputs": "outputs",
    "and/or": "and/or",
    "/data/licensed/LaMP": "LaMP",
    "/data/licensed/LaMP/": "LaMP",
    "~/LaMP": "LaMP",
    "~": "~",
    "/home/me": "~",
    "/home/me/models/mine": "mine",
    "/home": "~",
    "../../other/LaMP": "LaMP",
    "..": "~",
    "read from /data/x/dev.json, twice": "read from dev.json, twice",
    "https://me:word@node7.cluster:8000/v1": "https://***",
    "key=sk-never-to-be-seen.": "key=***.",
    "bf16-mixed": "bf16-mixed",
    "some/where/LaMP": "LaMP",
    "some/where else/LaMP": "LaMP",
    "read from some/where/LaMP/dev.json, twice": "read from dev.json, twice",
    "2013/05/11": "2013/05/11",
    "hunter2": "***",
    "a word as hunter2 is": "a word as hunter2 is",
    "models/hunter2": "***",
}


@pytest.mark.parametrize("text", HARMLESS)
def test_a_text_is_made_harmless(text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS["OPENAI_API_KEY"])
    monkeypatch.setenv("MY_PASSWORD", "hunter2\n")
    for folder in ("some/where/LaMP/dev.json", "some/where else/LaMP", "models/hunter2"):
        Path(folder).mkdir(parents=True)
    assert harmless(text) == HARMLESS[text]


def test_numbers_and_shapes_stay_as_they_are():
    value = {"a": [1, 0.1 + 0.2, None, True, {"b": ("/x/y",)}]}
    assert scrubbed(value) == {"a": [1, 0.1 + 0.2, None, True, {"b": ["y"]}]}


def test_a_number_that_is_a_secret_and_paths_that_are_gone(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "123456789")
    monkeypatch.setenv("MAX_TOKENS", "128")
    value = {"data_dir": "gone/LaMP", "pin": 123456789, "max_new_tokens": 128, "source": "a/b/c"}
    assert scrubbed(value) == {
        "data_dir": "LaMP", "pin": "***", "max_new_tokens": 128, "source": "c",
    }  # fmt: skip


def test_relative_places_and_values_of_secret_variables_stay_here(data_dir, monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    row = {"id": "1", "input": "Generate a headline for the following article: x", "profile": []}
    data_dir("LaMP_4", "dev", [row]).rename("LaMP")
    for folder in ("secret/place", "private/models/hunter2", "mine"):
        Path(folder).mkdir(parents=True)
    Path("LaMP").rename("secret/place/LaMP")
    shutil.copytree(TINY, "private/models/hunter2", dirs_exist_ok=True)
    run = [*QUICK, "mode=zeroshot", "logger=wandb", "model.name=private/models/hunter2"]
    assert command(*run, "data_dir=secret/place/LaMP", "output_dir=mine/runs") == 0
    (folder,) = Path("mine/runs").glob("lamp4*")
    (told,) = offline_runs(folder)
    assert (told.config["data_dir"], told.config["output_dir"]) == ("LaMP", "runs")
    assert told.config["model"]["name"] == "***"
    for path in (folder / "wandb").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for private in (b"secret/place", b"mine/runs", b"private/models", b"hunter2"):
            assert private not in content, path
