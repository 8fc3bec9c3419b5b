"""Sweeps, end to end: what is announced, what is on disk, what survives."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from lamp_exp.progress import duration
from lamp_exp.results.folder import RunFolder
from lamp_exp.statistics import interval, mean_over_seeds, mean_sample
from lamp_exp.sweeps.status import Job, JobStatus, StatusWriter, read_status
from lamp_exp.sweeps.watch import DISK_FULL, LOST, Watcher, wait_for_running
from tests.conftest import recorded
from tests.test_cli import QUICK, folder_of, runs_of

ZERO = ["task=lamp4", "mode=zeroshot", "limit=3", *QUICK]
RANK = ["task=lamp4", "mode=rank", "limit=3"]


def summary_of(out: str) -> dict:
    return json.loads((folder_of(out) / "summary.json").read_text())


def states(sweep: Path) -> list[str]:
    found = (read_status(folder) for folder in sorted(sweep.glob("[0-9]*")))
    return [status.state for status in found if status]


@pytest.mark.long
def test_seeds_are_a_mean_and_a_spread_and_the_difference_to_no_profile(lamp_exp):
    code, out, err = lamp_exp("-m", *ZERO, "task=lamp3", "k=0,2", "seed=1,2,3")
    assert code == 0
    bare, read = summary_of(out)["rows"]
    assert (bare["keys"], bare["n"], read["keys"], read["n"]) == ({"k": "0"}, 3, {"k": "2"}, 3)
    assert [seed["seed"] for seed in read["seeds"]] == [1, 2, 3]
    values = [recorded(Path(seed["run"]))["metrics"]["mae"] for seed in read["seeds"]]
    assert read["metrics"]["mae"]["mean"] == pytest.approx(statistics.mean(values))
    assert read["metrics"]["mae"]["sd"] == pytest.approx(statistics.stdev(values))
    difference = read["metrics"]["mae"]["mean"] - bare["metrics"]["mae"]["mean"]
    assert read["metrics"]["mae"]["difference"] == pytest.approx(difference)
    assert bare["metrics"]["mae"]["difference"] is None
    assert read["metrics"]["mae"]["gain"] == -read["metrics"]["mae"]["difference"]
    assert f"{read['metrics']['mae']['gain']:+.4f}" in out
    assert "positive where it is better (lower is better: mae, rmse)" in out
    assert f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}" in out
    assert "6 of 6 runs: made-up sample" in out
    columns = [pq.read_table(Path(seed["run"]) / "examples.parquet") for seed in read["seeds"]]
    samples = [mean_sample(t["mae"].to_pylist(), range(3), False).within(0, None) for t in columns]
    expected, told = interval(mean_over_seeds(samples)), read["intervals"]["mae"]
    assert (told["low"], told["high"]) == pytest.approx((expected.low, expected.high))
    assert f"[{told['low']:.3f}, {told['high']:.3f}]°" in out
    assert "95% interval over questions (mae, rmse): jackknife of the logarithm" in out
    assert f"°: {expected.caution}" in out and "fewer than 10 users" in out
    (Path(read["seeds"][0]["run"]) / "examples.parquet").write_bytes(b"PAR1 cut")
    _, out, _ = lamp_exp("-m", *ZERO, "task=lamp3", "k=2", "seed=1,2,3")
    assert summary_of(out)["rows"][0]["intervals"] == {}
    for number in range(1, 7):
        assert f"[{number}/6] done lamp3-user-dev-zeroshot-" in err


@pytest.mark.long
def test_one_seed_has_no_spread_and_tasks_have_tables_of_their_own(lamp_exp, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = lamp_exp("-m", *ZERO, "task=lamp2,lamp3,lamp4,lamp5")
    assert "±" not in out
    heads = [line.split() for line in out.splitlines() if line.lstrip().startswith("task")]
    assert heads == [
        ["task", "questions", "seeds", "accuracy", "95%", "interval", "f1"],
        ["task", "questions", "seeds", "mae", "95%", "interval", "rmse", "95%", "interval"],
        ["task", "questions", "seeds", "rouge_1", "rouge_l"],
    ]


@pytest.mark.long
def test_the_digest_is_readable_on_narrow_screens(lamp_exp, monkeypatch):
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        _, out, _ = lamp_exp(
            "-m", *ZERO, "retriever=bm25_okapi,random", "split=user,time", "seed=0,1"
        )
        tables = out[: out.index("skipped")].splitlines()
        assert max(map(len, tables)) <= columns
        assert "…" not in "".join(tables)
        for value in ("bm25_okapi", "random", "user", "time", "0.0000 ± 0.0000"):
            assert any(value in line for line in tables)


def test_two_drawn_seeds_are_two_seeds_and_can_be_given_again(lamp_exp):
    _, out, _ = lamp_exp("-m", *RANK, "retriever=random", "seed=null,null")
    (row,) = summary_of(out)["rows"]
    seeds = [seed["seed"] for seed in row["seeds"]]
    assert len(set(seeds)) == row["n"] == 2
    _, again, _ = lamp_exp(*RANK, "retriever=random", f"seed={seeds[0]}")
    assert str(folder_of(again)) == row["seeds"][0]["run"]


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamp_exp.retrievers.random import RandomOrder

    def rank(self: RandomOrder, query: object, documents: object) -> None:
        raise ZeroDivisionError("broken on purpose\nand more")

    monkeypatch.setattr(RandomOrder, "rank", rank)


@pytest.mark.long
def test_the_others_finish_and_what_failed_can_be_redone(lamp_exp, monkeypatch):
    sweep = [*RANK, "retriever=bm25,random", "task=lamp3,lamp4,lamp5"]
    with monkeypatch.context() as context:
        broken(context)
        code, out, err = lamp_exp("-m", *sweep)
    assert code == 2
    summary = summary_of(out)
    assert summary["counts"] == {"done": 3, "there": 0, "failed": 3, "stopped": 0, "left_out": 0}
    assert err.count("FAILED") == 3
    assert out.count("ZeroDivisionError: broken on purpose") == 1
    others = "; ".join(failure["name"] for failure in summary["failures"][1:])
    assert f"  the same error in 2 more jobs: {others}" in out.splitlines()
    assert "Traceback" not in out + err
    for failure in summary["failures"]:
        assert "retriever=random" in failure["name"]
        assert "broken on purpose" in Path(failure["traceback"]).read_text()
        beside = json.loads((Path(failure["traceback"]).parent / "status.json").read_text())
        assert beside == {"state": "failed", "error": failure["error"]}
    assert summary["failures"][0]["redo"] in out
    for failure in summary["failures"][:2]:
        code, again, _ = lamp_exp(*failure["redo"].split()[3:])
        assert code == 0
    assert not (folder_of(again) / "status.json").exists()
    code, out, _ = lamp_exp("-m", *sweep)
    assert code == 0
    counts = summary_of(out)["counts"]
    assert (counts["there"], counts["done"]) == (5, 1)


def test_a_failed_seed_lowers_n_and_is_no_zero(lamp_exp, monkeypatch):
    from lamp_exp.tasks.lamp4 import Lamp4

    score = Lamp4.score
    calls = iter([1, 0, 1])  # the second seed divides by zero
    monkeypatch.setattr(
        Lamp4, "score", lambda self, *given: 1 / next(calls) and score(self, *given)
    )
    code, out, _ = lamp_exp("-m", *ZERO, "seed=0,1,2")
    assert code == 2
    (row,) = summary_of(out)["rows"]
    assert (row["n"], row["jobs"]) == (2, 3)
    values = [seed["metrics"]["rouge_1"] for seed in row["seeds"]]
    assert row["metrics"]["rouge_1"]["mean"] == statistics.mean(values)
    assert "2 of 3" in out


def test_a_job_that_fails_before_its_run_begins_keeps_its_traceback(lamp_exp):
    code, out, _ = lamp_exp("-m", *RANK, "data_dir=nowhere,null")
    assert code == 2
    (failure,) = summary_of(out)["failures"]
    assert failure["traceback"] == str(folder_of(out) / "0" / "error.txt")
    assert "InputError" in Path(failure["traceback"]).read_text()
    assert failure["error"].startswith("no questions at nowhere")


@pytest.mark.long
def test_fail_fast_begins_no_more_jobs(lamp_exp, monkeypatch):
    broken(monkeypatch)
    code, out, err = lamp_exp("-m", *RANK, "retriever=bm25,random,bm25_okapi", "fail_fast=true")
    assert code == 2
    assert states(folder_of(out)) == ["done", "failed", "stopped"]
    assert summary_of(out)["counts"]["stopped"] == 1
    assert "stopped retriever=bm25_okapi: another job had failed (fail_fast=true)" in err


def test_what_is_stale_is_listed_and_not_averaged(lamp_exp):
    run = ["-m", *ZERO, "seed=0,1"]
    _, out, _ = lamp_exp(*run)
    first, second = runs_of(out)
    result = json.loads((first / "result.json").read_text())
    result["code"]["fingerprint"] = "other"
    (first / "result.json").write_text(json.dumps(result))
    _, out, _ = lamp_exp(*run)
    rows = summary_of(out)["rows"]
    stale = "made by other code than today's: rerun=stale makes it anew"
    assert [(row["stale"], row["n"]) for row in rows] == [(stale, 1), (None, 1)]
    assert rows[1]["seeds"][0]["run"] == str(second)
    assert "stale" in out


def test_jobs_that_mean_nothing_are_left_out_aloud(lamp_exp):
    code, out, err = lamp_exp("-m", *RANK, "retriever=recency,none,bm25", "k=1,4")
    assert code == 0
    line = "skipped 2 jobs: retriever=recency needs dates, which the user split does not have"
    assert line in err
    assert line in out
    assert summary_of(out)["counts"]["left_out"] == 4
    code, out, err = lamp_exp("-m", *RANK, "retriever=recency", "k=1,4")
    assert (code, out) == (2, "")
    assert "lamp_exp: this sweep has no job to run" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["retriever=bm25,minilm", "retriever.name=x"],
            "retriever.name is no option of the retriever that was chosen, but of "
            "retriever=contriever",
        ),
        (["retriever=none,random", "retriever.k1=1.2,1.5"], "but of retriever=bm25"),
        (["+experiment=first"], "experiment has a default: set it without a plus"),
        (["+sweep=tabel2"], "did you mean table2?"),
        (["training.lr=interval(1e-5,1e-3)"], "an interval has no list of values; give a range"),
        (["--cfg", "job"], "-m and --cfg exclude each other"),
    ],
)
def test_what_no_job_can_be_made_of_is_one_line(lamp_exp, words, line):
    code, out, err = lamp_exp("-m", *RANK, *words)
    assert (code, out) == (2, "")
    assert line in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.long
def test_a_dry_run_lists_states_estimates_and_writes_nothing(lamp_exp, tmp_path):
    lamp_exp(*ZERO, "k=0")
    begun = Path(runs_of(lamp_exp("-m", *ZERO, "k=2")[1])[0])
    (begun / "result.json").unlink()
    before = sorted(path for path in tmp_path.rglob("*") if ".cache" not in path.parts)
    code, out, _ = lamp_exp("-m", *ZERO, "k=0,2,4", "task=lamp4,lamp3", "dry_run=measure")
    assert code == 0
    assert sorted(path for path in tmp_path.rglob("*") if ".cache" not in path.parts) == before
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert "0 lamp4 0 finished" in told
    assert "1 lamp4 2 begun" in told
    assert "5 lamp3 4 to do" in told
    assert "(from 1 finished run of this kind)" in out
    assert "lamp3 zeroshot tiny: 3 jobs to do, about" in out
    assert "(from timed runs with limit=12)" in out
    assert told[-1].startswith("an estimate, one job after another: about")


def test_a_dry_run_of_one_experiment(lamp_exp, tmp_path):
    code, out, _ = lamp_exp(*ZERO, "dry_run=true")
    assert code == 0
    assert "lamp4-user-dev-zeroshot-bm25-k4-ipa-tiny-s0" in out
    assert not list(tmp_path.glob("outputs/lamp4*"))
    lamp_exp(*ZERO)
    _, out, _ = lamp_exp(*ZERO, "dry_run=true")
    assert out.splitlines()[-1] == "nothing to do"


def test_a_dry_run_of_an_experiment_that_cannot_run_says_so(lamp_exp):
    _, out, _ = lamp_exp(*ZERO, "data_dir=nowhere", "dry_run=true")
    assert out.splitlines()[-1] == "1 job cannot run"


def test_a_dry_run_names_jobs_that_cannot_run_and_probes_that_fail(lamp_exp, monkeypatch):
    from lamp_exp.tasks.lamp4 import Lamp4

    monkeypatch.setattr(Lamp4, "score", None)
    code, out, _ = lamp_exp("-m", *ZERO, "data_dir=null,nowhere", "dry_run=measure")
    assert code == 0
    assert "data_dir=nowhere cannot run: no questions at nowhere" in out
    assert "no estimate (the timed run failed: TypeError" in out


def test_a_dry_run_tells_a_reason_once_for_all_its_jobs(lamp_exp):
    code, out, _ = lamp_exp("-m", *ZERO, "k=0,1,2", "data_dir=nowhere", "dry_run=true")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "no questions at nowhere" in line]
    assert line.startswith("3 jobs cannot run: ") and line.endswith("(k=0; k=1; k=2)")


def test_durations_are_readable():
    assert [duration(s) for s in (4, 600, 12_000, 200_000)] == [
        "4 s", "10 min", "3 h 20 min", "2 days 8 h",
    ]  # fmt: skip


@pytest.mark.long
def test_relaunching_leaves_alone_what_is_finished(lamp_exp):
    sweep = ["-m", *RANK, "task=lamp3,lamp4"]
    _, out, _ = lamp_exp(*sweep)
    times = [(run / "result.json").stat().st_mtime_ns for run in runs_of(out)]
    code, out, err = lamp_exp(*sweep, "retriever=bm25,random")
    assert code == 0
    assert summary_of(out)["counts"]["there"] == 2
    assert err.count("done before lamp") == 2
    for run, written in zip(runs_of(lamp_exp(*sweep)[1]), times, strict=True):
        assert (run / "result.json").stat().st_mtime_ns == written


def test_a_named_sweep_folder_may_be_used_again(lamp_exp):
    for seeds in ("0,1,2", "0,1"):
        _, out, _ = lamp_exp("-m", *RANK, f"seed={seeds}", "hydra.sweep.dir=here")
        assert out.splitlines()[-1] == "here"
    assert summary_of(out)["counts"]["there"] == 2


def test_the_jobs_of_several_output_folders_have_one_sweep_folder(lamp_exp):
    code, out, _ = lamp_exp("-m", *RANK, "output_dir=one,two")
    assert code == 0
    assert {run.parts[0] for run in runs_of(out)} == {"one", "two"}


def test_an_output_folder_may_depend_on_the_job(lamp_exp):
    place = "output_dir=out_${hydra:runtime.choices.task}"
    code, out, _ = lamp_exp("-m", *RANK[1:], "task=lamp5,lamp4", place)
    assert code == 0
    assert {(run.parts[0], run.name[:5]) for run in runs_of(out)} == {
        ("out_lamp4", "lamp4"), ("out_lamp5", "lamp5"),
    }  # fmt: skip
    _, out, _ = lamp_exp("-m", *RANK[1:], "task=lamp5,lamp4", place, "dry_run=true")
    assert "nothing to do" in out


def test_a_launcher_that_a_list_of_experiments_would_lose_is_refused(lamp_exp, tmp_path: Path):
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /hydra/launcher: joblib\nlimit: 3\n"
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / "my" / "experiment" / f"{name}.yaml").write_text(f"{text}seed: {seed}\n")
    words = ["--config-dir", "my", "-m", "mode=rank", "retriever=random"]
    code, _, err = lamp_exp(*words, "experiment=one,two")
    assert code == 2
    assert err.splitlines()[-1] == (
        "lamp_exp: experiment=one chooses hydra.launcher, which would be lost among several: give "
        "hydra/launcher and its options on the command line"
    )


def test_batches_are_numbered_on(lamp_exp):
    code, out, _ = lamp_exp("-m", *RANK, "seed=0,1,2", "hydra.sweeper.max_batch_size=2")
    assert code == 0
    assert states(folder_of(out)) == ["done"] * 3


def test_two_sweeps_in_the_same_instant_have_folders_of_their_own(tmp_path: Path):
    from lamp_exp.sweeps.sweeper import make_folder

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_folder(tmp_path / "now", named=False), range(8)))
    assert {path.name for path in made} == {"now", *(f"now-{n}" for n in range(2, 9))}


@pytest.mark.long
def test_two_runs_and_two_sweeps_at_once_have_four_folders(tmp_path: Path):
    alone = [launched(*RANK, f"seed={seed}", "retriever=random") for seed in (0, 1)]
    sweeps = [launched("-m", *RANK, "seed=2,3", "retriever=random") for _ in range(2)]
    told = [process.communicate() for process in (*alone, *sweeps)]
    assert [process.returncode for process in (*alone, *sweeps)] == [0] * 4, told
    assert len({folder_of(out) for out, _ in told}) == 4
    for out, _ in told[2:]:  # of the same runs: one sweep made each, the other found or awaited it
        assert summary_of(out)["rows"][0]["n"] == 2
    assert len(list(tmp_path.glob("outputs/lamp4-*/result.json"))) == 4


# What jobs say, and what is made of those that say nothing.

JOBS = [Job(n, (f"seed={n}",), "lamp4") for n in range(3)]


def test_a_job_without_a_last_word_has_failed(tmp_path: Path):
    told: list[str] = []
    StatusWriter(tmp_path / "0", ["seed=0"]).update("stopped", error="x")
    StatusWriter(tmp_path / "1", ["seed=1"]).update("running")
    with Watcher(tmp_path, JOBS, told.append) as watcher:
        pass
    watcher.settle(TimeoutError("x"))
    assert [watcher.ended[n].state for n in range(3)] == ["stopped", "failed", "failed"]
    assert watcher.ended[1].error == LOST
    assert watcher.ended[2].error == ("did not start before the launcher ended (TimeoutError: x)")
    assert [line[:5] for line in told] == ["[1/3]", "[2/3]", "[3/3]"]


def test_after_an_interrupt_the_rest_is_stopped_and_not_failed(tmp_path: Path):
    with Watcher(tmp_path, JOBS, lambda line: None) as watcher:
        pass
    watcher.stop(remote=False)
    assert {status.state for status in watcher.ended.values()} == {"stopped"}


def test_jobs_that_a_launcher_left_at_work_are_waited_for(tmp_path: Path):
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    status = JobStatus("running", ("seed=0",), pid=worker.pid, host=os.uname().nodename)
    writer = StatusWriter(tmp_path / "0", ["seed=0"])
    writer.status = status
    writer.update("running")
    start = time.monotonic()
    threading.Thread(target=worker.wait).start()  # a child is there until it is waited for
    wait_for_running(tmp_path, JOBS)
    assert 0.3 < time.monotonic() - start < 20
    assert worker.wait() == 0


# Launchers and kills, in processes of their own.


def launched(*words: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lamp_exp", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.mark.long
def test_a_job_killed_in_a_worker_is_named(lamp_exp):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = launched("-m", *RANK[:2], "limit=null", "data_dir=null", "seed=0,1", *JOBLIB)
    killed = kill_one_worker(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    failures = summary_of(out)["failures"]
    assert killed in [failure["job"] for failure in failures]
    told = "killed by SIGKILL (the system does that where memory runs out)"
    assert told in {failure["error"] for failure in failures}
    assert "the launcher ended early" in err


def kill_one_worker(process: subprocess.Popen[str]) -> int:
    """Kills the first job that says it is running."""
    for _ in range(1200):
        for path in Path("outputs/.sweeps").glob("*/[01]/status.json"):
            status = read_status(path.parent)
            if status and status.state == "running":
                os.kill(status.pid, signal.SIGKILL)
                return int(path.parent.name)
        time.sleep(0.01)
    process.kill()
    raise AssertionError("no job began")


@pytest.mark.long
def test_a_sweep_killed_in_the_middle_is_finished_by_the_same_command(lamp_exp):
    sweep = ["-m", "task=lamp4", "mode=rank", "retriever=bm25_okapi", "seed=0,1,2,3,4,5"]
    process = launched(*sweep)
    while len(list(Path("outputs").glob("lamp4*/result.json"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {
        path: path.stat().st_mtime_ns for path in Path("outputs").glob("lamp4*/result.json")
    }
    assert 2 <= len(finished) < 6
    code, out, _ = lamp_exp(*sweep)
    assert code == 0
    summary = summary_of(out)
    assert summary["counts"]["there"] == len(finished)
    assert summary["rows"][0]["n"] == 6
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_an_interrupt_stops_the_sweep_and_the_digest_says_how_to_go_on(lamp_exp, monkeypatch):
    from lamp_exp.retrievers.random import RandomOrder

    def rank(self: RandomOrder, query: object, documents: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RandomOrder, "rank", rank)
    code, out, err = lamp_exp("-m", *RANK, "retriever=bm25,random,bm25_okapi")
    assert code == 130
    assert states(folder_of(out)) == ["done", "stopped"]
    assert summary_of(out)["counts"] == {
        "done": 1, "there": 0, "failed": 0, "stopped": 2, "left_out": 0,
    }  # fmt: skip
    assert "to go on, give the same command again: finished runs are not repeated" in out
    assert "the same command" not in err  # the digest has said it
    assert "Traceback" not in out + err


def test_after_ctrl_c_jobs_in_slurm_go_on_and_the_digest_says_how_to_cancel_them(
    lamp_exp, monkeypatch
):
    from lamp_exp.sweeps.sweeper import GridSweeper

    def launch(self: GridSweeper, jobs: list[Job]) -> None:
        for job in jobs:
            (Path(self.config.hydra.sweep.dir) / ".submitit" / f"12_{job.number}").mkdir(
                parents=True
            )
        raise KeyboardInterrupt

    monkeypatch.setattr(GridSweeper, "_launch", launch)
    code, out, err = lamp_exp("-m", *RANK, "seed=0,1")
    assert code == 130 and "Traceback" not in err
    assert summary_of(out)["counts"]["running"] == 2 and "running" in out
    assert "2 jobs go on without this command; to end them: scancel 12" in out
    assert "to go on, give the same command again" in out
    assert "[2/2] running seed=1: it goes on in Slurm" in err


@pytest.mark.process
@pytest.mark.parametrize(
    "words", [["-m", "seed=0,1,2"], pytest.param(["seed=0"], marks=pytest.mark.slow)]
)
def test_the_first_ctrl_c_ends_training_too(words, tmp_path: Path):
    """Lightning turns Ctrl-C into SystemExit(1), and ignores the next one."""
    process = launched(*words, "experiment=first", "k=0", "trainer.max_epochs=500")
    for _ in range(1200):
        curves = list(tmp_path.glob("outputs/lamp4*/training/metrics.csv"))
        if curves and len(curves[0].read_text().splitlines()) > 1:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out + err).count("the same command") == 1
    assert "Traceback" not in err
    if "-m" not in words:
        assert err.splitlines()[-1].startswith("lamp_exp: interrupted: the same command goes on")
    else:
        assert states(folder_of(out)) == ["stopped"]
        assert summary_of(out)["counts"]["stopped"] == 3


def test_two_sweeps_at_once_in_one_folder_are_refused(lamp_exp, tmp_path: Path):
    from lamp_exp.storage.locks import exclusive

    (tmp_path / "here").mkdir()
    with exclusive(tmp_path / "here" / "sweep"):
        code, _, err = lamp_exp("-m", *RANK, "seed=0,1", "hydra.sweep.dir=here")
    assert code == 2
    assert "another sweep is running in here: give another hydra.sweep.dir" in err
    assert not list(tmp_path.glob("outputs/lamp4*"))


def test_a_status_of_other_overrides_does_not_count(tmp_path: Path):
    StatusWriter(tmp_path / "0", ["seed=7"]).update("stopped", error="x")
    with Watcher(tmp_path, JOBS[:1], lambda line: None) as watcher:
        pass
    watcher.settle(None)
    assert (watcher.ended[0].state, watcher.ended[0].error) == ("failed", LOST)


def test_a_full_disk_is_the_reason_that_is_told(lamp_exp, monkeypatch):
    from lamp_exp.storage import atomic

    write_json = atomic.write_json

    def full(path: Path, content: object) -> None:  # what is there can still be overwritten
        if path.name != "status.json" or path.exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_json(path, content)

    def no_result(folder: RunFolder, result: object) -> None:
        full(folder.path / "result.json", result)

    monkeypatch.setattr("lamp_exp.sweeps.status.write_json", full)
    monkeypatch.setattr(RunFolder, "write_result", no_result)
    code, out, err = lamp_exp("-m", *RANK)
    assert code == 2
    (failure,) = summary_of(out)["failures"]
    assert "No space left on device" in failure["error"]
    assert "Traceback" not in err


def test_jobs_that_ended_without_a_word_on_a_full_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    StatusWriter(tmp_path / "1", ["seed=1"]).update("running")
    with Watcher(tmp_path, JOBS[:2], lambda line: None) as watcher:
        pass
    watcher.settle(None)
    assert {status.error for status in watcher.ended.values()} == {DISK_FULL}


ON_A_FULL_DISK = """
mount -t tmpfs -o size=$1 full "$2"
"${@:3}"
"""


@pytest.mark.long
@pytest.mark.parametrize("size", ["4k", "24k"])
def test_a_disk_that_is_full_is_one_line(tmp_path: Path, size: str):
    """With the first size the sweep cannot begin, with the second no job can."""
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    words += ["bash", "-ec", ON_A_FULL_DISK, "bash", size, str(tmp_path), sys.executable, "-m"]
    if subprocess.run([*words[:-3], str(tmp_path), "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    words += ["lamp_exp", "-m", *RANK, "seed=0,1", f"output_dir={tmp_path}", *JOBLIB]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 2, told.stderr
    assert "No space left on device" in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr and LOST not in told.stdout
    if size == "24k":
        failed = [line for line in told.stdout.splitlines() if line.startswith("FAILED")]
        assert len(failed) == 1 and "No space left on device" in failed[0]
        assert "  the same error in 1 more job: seed=1" in told.stdout.splitlines()


def test_the_last_word_of_slurm_is_the_reason(tmp_path: Path):
    for number in range(12):
        folder = tmp_path / ".submitit" / f"7_{number}"
        folder.mkdir(parents=True)
        (folder / f"7_{number}_0_log.err").write_text(f"slurmstepd: error: x {number} ***\nend\n")
    jobs = [Job(n, (f"seed={n}",), "lamp4") for n in range(12)]
    with Watcher(tmp_path, jobs, lambda line: None) as watcher:
        pass
    watcher.settle(None)
    assert watcher.ended[2].error == "ended by Slurm: x 2"
    assert watcher.ended[11].error == "ended by Slurm: x 11"


@pytest.mark.long
def test_multirun_sh_lists_the_names_and_runs_one():
    script = Path(__file__).parent.parent / "multirun.sh"
    told = subprocess.run([script, "tabel2"], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert (
        "ablation best_item figure_k internal_external methods oracle retrievers table2"
        in told.stderr
    )
    words = [script, "figure_k", *RANK, "retriever=bm25,none", "split=user", "k=1,2"]
    told = subprocess.run(
        words, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert [row["keys"]["retriever"] for row in summary_of(told.stdout)["rows"]] == ["bm25", "none"]


@pytest.mark.long
def test_a_grid_of_bm25_loads_no_torch(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['lamp_exp', '-m', 'mode=rank', 'retriever=bm25,none', 'limit=5',"
        " 'task=lamp4']; from lamp_exp.__main__ import main; main(); "
        "print([name for name in ('torch', 'faiss') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "[]"


@pytest.mark.long
def test_a_sweep_that_is_told_to_end_begins_no_other_job(lamp_exp, monkeypatch, tmp_path):
    from lamp_exp.sweeps import jobs

    class Terminated(SystemExit):
        """What Lightning raises for SIGTERM."""

    def terminated(*words: object) -> None:
        raise Terminated(143)

    monkeypatch.setattr(jobs.config, "run_composed", terminated)
    assert lamp_exp("-m", *ZERO, "seed=0,1")[0] == 143
    (told,) = tmp_path.glob("outputs/.sweeps/*/*/status.json")
    assert json.loads(told.read_text())["state"] == "stopped"


def test_jobs_that_fail_alike_are_told_once(lamp_exp):
    code, out, _ = lamp_exp("-m", "task=lamp4", "mode=rank", "data_dir=nowhere", "seed=0,1,2")
    assert code == 2
    (failed,) = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert failed.startswith("FAILED seed=0: no questions at nowhere/")
    assert out.count("  redo: ") == out.count("  traceback: ") == 1
    assert "  the same error in 2 more jobs: seed=1; seed=2" in out.splitlines()
