"""lamp_exp from Python: the same runs, numbers and mistakes as the command line's."""

from __future__ import annotations

import csv
import io
import logging
import os
import random
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from matplotlib.figure import Figure

import lamp_exp as lamp
from lamp_exp import python_interface
from lamp_exp.environment import KNOWN_WARNINGS, prepare_process
from lamp_exp.models.checkpoints import LAST
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import TunedK
from tests.conftest import CONF, DATA, ROOT, recorded
from tests.records import change_record, make_grid, make_import, make_run
from tests.test_cli import folder_of, runs_of

QUICK = {"model": "tiny", "trainer": "cpu", "trainer.enable_progress_bar": False}
ZERO = {**QUICK, "mode": "zeroshot", "limit": 8, "max_new_tokens": 4}
TRAIN = {**QUICK, "trainer.max_epochs": 1, "limit": 12, "training.batch_size": 6}
NOTEBOOK = Path(lamp.__file__).parent / "notebooks" / "first_hour.ipynb"
NAMES = ["InputError", "JobsFailed", "Run", "compare", "figures", "load_results", "run", "sweep"]


def words(options: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


# --- the names ---------------------------------------------------------------------------------


def test_the_import_takes_no_library():
    heavy = ["torch", "pandas", "numpy", "hydra", "matplotlib", "pyarrow"]
    code = (
        "import sys, lamp_exp; assert set(lamp_exp.__all__) <= set(dir(lamp_exp)); "
        f"print([name for name in {heavy} if name in sys.modules]); "
        "lamp_exp.run; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["[]", "False False"]


def test_all_names_are_there_and_documented():
    assert lamp.__all__ == NAMES
    for name in NAMES:
        assert getattr(lamp, name).__doc__, name
    with pytest.raises(AttributeError, match="runs"):
        _ = lamp.runs


# --- the same as the command line --------------------------------------------------------------


@pytest.mark.long
def test_a_run_is_that_of_the_command_line(lamp_exp, tmp_path: Path):
    code, out, _ = lamp_exp("task=lamp4", "k=2", *words(TRAIN), "output_dir=commands")
    assert code == 0
    command = RunFolder(folder_of(out))
    run = lamp.run("task=lamp4", TRAIN, k=2, output_dir=tmp_path / "calls")
    assert run.folder == tmp_path / "calls" / command.name
    assert run.metrics == command.read().metrics
    for file in ("predictions.json", "prompts.jsonl"):
        assert (run.folder / file).read_bytes() == (command.path / file).read_bytes()
    ours, theirs = recorded(run.folder), recorded(command.path)
    assert ours.keys() == theirs.keys()
    for name in ("identity", "choices", "counts", "data", "notes", "training", "code"):
        assert ours[name] == theirs[name], name


def test_a_run_of_the_command_line_is_opened_and_not_made_again(lamp_exp):
    _, out, _ = lamp_exp("task=lamp3", "k=1", *words(ZERO))
    path = folder_of(out) / "result.json"
    before = path.stat().st_mtime_ns
    assert lamp.run(ZERO, task="lamp3", k=1).folder.samefile(path.parent)
    assert path.stat().st_mtime_ns == before
    lamp.run(ZERO, task="lamp3", k=1, rerun=True)
    assert path.stat().st_mtime_ns > before


@pytest.mark.long
def test_a_sweep_has_the_runs_of_the_command_line(lamp_exp, capsys):
    code, out, _ = lamp_exp("-m", "task=lamp4", "k=0,1", "retriever=bm25,random", *words(ZERO))
    assert code == 0
    commands = {path: path.stat().st_mtime_ns for path in runs_of(out)}
    runs = lamp.sweep("task=lamp4", ZERO, {"retriever": ["bm25", "random"]}, k=[0, 1])
    assert {run.folder.name for run in runs} == {path.name for path in commands}
    assert [(run.result.k, run.result.choices["retriever"]) for run in runs] == [
        (0, "bm25"), (1, "bm25"), (1, "random"),
    ]  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in commands} == commands
    assert "without a profile" in capsys.readouterr().out  # the digest


@pytest.mark.parametrize(
    "wrong",
    [
        ["k=-1"], ["lr=3"], ["retriever=bm26"], ["task=lamp9"], ["mode=finetun"],
        ["data_dir=nowhere"], ["k=1,2"], ["hydra/launcher=joblib"], ["retriever.k9=1"],
        ["retriever=null"], ["model.decoding=odd", "mode=zeroshot"], ["max_length=5", *words(ZERO)],
        ["+sweep=table2"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_mistake_is_told_in_the_same_words(lamp_exp, wrong: list[str]):
    code, _, err = lamp_exp(*wrong)
    assert code == 2
    with pytest.raises(lamp.InputError) as error:
        lamp.run(*wrong)
    assert err.splitlines()[-1] == f"lamp_exp: {error.value}"
    assert error.value._render_traceback_() == [f"InputError: {error.value}"]
    assert not GlobalHydra.instance().is_initialized()


def test_mistakes_of_calls_are_refused():
    for call, message in (
        (lambda: lamp.run(k=[0, 4]), r"k=\[0, 4\] is several values: lamp_exp.sweep"),
        (lambda: lamp.sweep(k=[]), "has no value"),
        (lambda: lamp.sweep("hydra/sweeper=optuna"), "command line"),
        (lambda: lamp.run(dry_run=True), "dry_run"),
        (lambda: lamp.run(config_dir="nowhere"), "nowhere is no folder"),
        (lambda: lamp.run(mode="rank", baseline=True), "needs answers"),
        (lambda: lamp.run(["task=lamp4"]), r"\['task=lamp4'\] names no option: give 'k=4'"),
        (lambda: lamp.load_results(3), "3 is no folder: give its path"),
        (lambda: lamp.compare(None, None), "None is no run: give a Run, its folder, or a list"),
        (lambda: lamp.load_results(where="task=lamp4"), "must be a mapping, such as"),
        (lambda: lamp.figures.k_curve(lamp.load_results(".")), "there is no run in this frame"),
        (lambda: lamp.Run("nowhere"), "nowhere has no finished run"),
        (lambda: lamp.load_results("nowhere"), "nowhere is no folder"),
        (lambda: lamp.load_results(DATA / "runs", where={"retreiver": 1}), "mean retriever"),
    ):
        with pytest.raises(lamp.InputError, match=message):
            call()
    assert not list(Path().glob("outputs/lamp*"))


def test_a_failed_job_is_told_at_the_end_and_the_others_are_kept(tmp_path: Path):
    broken = tmp_path / "broken"
    broken.write_text("not a folder")
    with pytest.raises(lamp.JobsFailed, match=r"1 of 2 jobs failed") as error:
        lamp.sweep(ZERO, task="lamp4", k=0, output_dir=["fine", str(broken)])
    frame = lamp.load_results(error.value.folder)
    assert set(frame["state"]) == {"fresh"}
    assert frame["run"].nunique() == 1


# --- a run ------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_baseline_is_the_run_without_a_profile():
    run = lamp.run(ZERO, task="lamp4", k=2)
    assert run.baseline is None
    run = lamp.run(ZERO, task="lamp4", k=2, baseline=True)
    made = recorded(run.baseline.folder)["started"]
    plain = lamp.run(ZERO, task="lamp4", k=0, baseline=True)
    assert plain.folder == run.baseline.folder
    assert recorded(plain.folder)["started"] == made
    assert plain.baseline is None
    assert lamp.Run(run.folder).baseline.name == plain.name
    assert f"(without profile {plain.metrics['rouge_1']:.4f})" in repr(run)


@pytest.mark.long
def test_a_tuned_run_has_its_baseline():
    run = lamp.run(ZERO, task="lamp4", k="tune", k_values=[1, 2], baseline=True)
    assert run.result.tuned is not None
    assert run.baseline.result.k == 0


def test_examples_and_prompts_are_frames():
    run = lamp.run(ZERO, task="lamp5", augmentation="fid", model="tiny", k=2)
    examples, prompts = run.examples(), run.prompts()
    assert len(examples) == len(prompts) == 8
    assert examples["rouge_1"].mean() == pytest.approx(run.metrics["rouge_1"])
    assert examples["newest_item_days"].dtype == np.float64  # the sample has no dates
    assert list(prompts["id"]) == list(examples["id"])
    assert prompts["passages"].map(len).tolist() == examples["items"].map(len).tolist()
    assert examples.attrs == {"run": run.name, "made_up": True, "licences": []}
    (run.folder / "examples.parquet").write_bytes(b"cut off")
    with pytest.raises(lamp.InputError, match="damaged"):
        run.examples()
    ranked = lamp.run(mode="rank", limit=2)
    for ask in (ranked.examples, ranked.prompts):
        with pytest.raises(lamp.InputError, match=f"{ranked.name} has no"):
            ask()


def test_frames_of_licensed_data_carry_the_mark(tmp_path: Path):
    runs = [lamp.Run(make_run(tmp_path, "lamp6", k=k)) for k in (0, 4)]
    frames = [lamp.load_results(tmp_path), lamp.compare(*runs)]
    frames += [ask() for run in runs for ask in (run.examples, run.prompts)]
    assert {tuple(frame.attrs["licences"]) for frame in frames} == {
        ("Avocado Research Email Collection (LDC2015T03)",)
    }


def test_what_a_reader_must_know_is_shown(tmp_path: Path):
    folder = make_run(tmp_path, made_up=True, notes=("a note",))
    RunFolder(folder).mark_stale("other code")
    shown = repr(lamp.Run(folder))
    assert "made-up sample, 40 questions" in shown
    assert "stale: other code" in shown
    assert "a note" in shown


# --- results -----------------------------------------------------------------------------------


def table(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out.replace("\r", ""))))


def test_a_comparison_is_that_of_the_report(tmp_path: Path, report):
    a, b = (lamp.Run(make_run(tmp_path, "lamp1", k=k, skill=0.3 + k / 10)) for k in (0, 4))
    frame = lamp.compare(a, b).set_index("metric")
    code, out, _ = report("compare", a.folder, b.folder, "--format", "csv")
    assert code == 0
    shown = {float(row["value"]) for row in table(out) if re.fullmatch(r"-?[\d.e-]+", row["value"])}
    for metric, row in frame.iterrows():
        assert row.verdict in out
        assert f"p, {row.test}" in out or row.test in out, metric
        for name in ("a", "b", "difference", "low", "high", "p", "detectable"):
            assert any(row[name] == pytest.approx(value) for value in shown), (metric, name)
    assert frame.loc["accuracy", "difference"] == pytest.approx(
        b.metrics["accuracy"] - a.metrics["accuracy"]
    )
    assert frame.attrs["differ_in"] == ["profile"]


def test_seeds_are_compared_where_both_have_them(tmp_path: Path):
    a = [make_run(tmp_path, k=0, seed=seed) for seed in (0, 1, 2)]
    b = [make_run(tmp_path, k=4, seed=seed, skill=0.9) for seed in (1, 2, 3)]
    frame = lamp.compare(a, b).set_index("metric")
    values = [RunFolder(path).read().metrics["rouge_1"] for path in a[1:]]
    assert frame.loc["rouge_1", "a"] == pytest.approx(np.mean(values))
    one, other = frame.loc["rouge_1", ["a", "b"]]
    assert frame.loc["rouge_1", "difference"] == pytest.approx(other - one)
    with pytest.raises(lamp.InputError, match="do not differ in the seed alone"):
        lamp.compare([a[0], b[0]], b)


def known_warnings() -> list[str]:
    return [pattern.replace(".*", "the ") for pattern in KNOWN_WARNINGS]


def test_a_command_hides_known_warnings():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        prepare_process()
        for text in known_warnings():
            warnings.warn(text, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("another one", stacklevel=1)


def test_known_warnings_are_hidden_in_every_call():
    told = known_warnings()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        for _ in range(2):  # the filters of the first call end with it
            with python_interface._messages():
                for text in told:
                    warnings.warn(text, stacklevel=1)
        with pytest.raises(UserWarning), python_interface._messages():
            warnings.warn("another one", stacklevel=1)


def test_the_intervals_are_those_of_the_report(tmp_path: Path, report):
    make_run(tmp_path, "lamp1", k=4, questions=60)
    frame = lamp.load_results(tmp_path).set_index("metric")
    assert not frame[["low", "high"]].isna().any(axis=None)
    _, out, _ = report("table", "--runs", tmp_path, "--format", "csv")
    for end in ("low", "high"):
        shown = [float(row["value"]) for row in table(out) if row["what"] == end]
        assert frame[end].tolist() == pytest.approx(shown)
    assert lamp.load_results(tmp_path, intervals=False)["low"].isna().all()


def test_runs_are_chosen_as_the_report_chooses_them(tmp_path: Path, report):
    make_grid(tmp_path, ["lamp3", "lamp4"])
    make_run(tmp_path, "lamp4", k=4, training={"lr": 1e-3})
    make_import(tmp_path, "chatty")
    for where in (
        {"task": "lamp4", "k": [0, 4]}, {"retriever": "bm25"}, {"training.lr": 1e-3},
        {"skip": 0}, {"max_items": None, "task": "lamp3"}, {"mode": "imported"},
    ):  # fmt: skip
        conditions = [
            f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in where.items()
        ]
        _, out, _ = report("cost", "--runs", tmp_path, "--where", *conditions, "--format", "csv")
        chosen = lamp.load_results(tmp_path, where=where, intervals=False)
        shown = [row for row in table(out) if row["column"] == row["what"] == "value"]
        assert chosen["run"].nunique() == len(shown) > 0, where


def test_stale_runs_and_those_of_other_versions_are_marked_and_not_dropped(tmp_path: Path):
    RunFolder(make_run(tmp_path, k=1)).mark_stale("other code")
    make_run(tmp_path, k=2, schema=1)
    newer = make_run(tmp_path, k=8)
    text = (newer / "result.json").read_text()
    (newer / "result.json").write_text(text.replace('"schema_version": 2', '"schema_version": 9'))
    frame = lamp.load_results(tmp_path)
    assert frame.groupby("state")["run"].nunique().to_dict() == {
        "newer schema": 1, "older schema": 1, "stale": 1,
    }  # fmt: skip
    assert [folder for folder, _ in frame.attrs["unusable"]] == [str(newer)]


def test_results_are_found_from_another_folder(tmp_path: Path, monkeypatch):
    run = lamp.run(mode="rank", limit=2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.folder.is_dir()
    again = lamp.run(mode="rank", limit=2)
    assert again.name == run.name
    assert again.folder.parent == tmp_path / "elsewhere" / "outputs"
    assert set(lamp.load_results("../outputs")["run"]) == {run.name}


def test_several_options_in_one_string_are_refused():
    with pytest.raises(lamp.InputError, match="give k=… in its own string"):
        lamp.run("experiment=first k=4")


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture
def grid(tmp_path: Path) -> pd.DataFrame:
    for seed in (0, 1):
        for k in (0, 1, 4):
            make_run(tmp_path, k=k, seed=seed)
        make_run(tmp_path, k=4, seed=seed, retriever="random")
    make_run(tmp_path, "lamp3", k=4)
    return lamp.load_results(tmp_path)


def test_a_k_curve_shows_the_means_of_the_frame(grid: pd.DataFrame):
    frame = grid[(grid["task"] == "lamp4") & grid["main"]]
    figure = lamp.figures.k_curve(frame)
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    means = frame.groupby(["retriever", "k"])["value"].mean()
    assert lines["bm25 ipa"].tolist() == pytest.approx([means["bm25", 1], means["bm25", 4]])
    assert lines["random ipa"].tolist() == pytest.approx([means["random", 4]])
    assert lines["no profile"][0] == pytest.approx(means["none", 0])
    assert axes.get_ylabel() == "rouge_1 (higher is better)"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_each_figure_is_made_of_a_frame_or_a_run(grid: pd.DataFrame):
    lamp4 = grid[grid["task"] == "lamp4"]
    for cost in ("tokens", "seconds", "peak_memory_mb"):
        assert isinstance(lamp.figures.cost_quality(lamp4, cost, metric="rouge_l"), Figure)
    heat = lamp.figures.heat_map(grid)
    assert {text.get_text() for text in heat.axes[0].get_yticklabels()} == {
        "lamp3 mae", "lamp4 rouge_1",
    }  # fmt: skip
    personal = lamp4[(lamp4["k"] == 4) & lamp4["main"]]["folder"].iloc[0]
    assert isinstance(lamp.figures.user_gains(lamp.Run(personal)), Figure)


def test_methods_that_differ_in_more_have_colours_of_their_own_and_labels_that_fit(tmp_path: Path):
    for k in (0, 1, 4):
        for items in (None, 8, 16) if k else (None,):
            make_run(
                tmp_path, k=k, profile={"max_items": items}, settings={"limit_sample": "first"}
            )
    figure = lamp.figures.k_curve(lamp.load_results(tmp_path))
    (legend,) = figure.legends
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == len(colours) == 4  # three, and the baseline
    figure.canvas.draw()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 < figure.axes[0].bbox.y0


def test_rows_that_do_not_belong_in_one_figure_are_refused(grid: pd.DataFrame, tmp_path: Path):
    figures = lamp.figures
    lamp4 = grid[grid["task"] == "lamp4"]
    baseline = lamp.Run(lamp4[lamp4["k"] == 0]["folder"].iloc[0])
    for call, message in (
        (lambda: figures.k_curve(grid), "one task, and these are of lamp3, lamp4"),
        (lambda: figures.k_curve(lamp4[lamp4["k"] == 0]), "no run with k > 0"),
        (lambda: figures.k_curve(lamp4, metric="f1"), "no run with f1"),
        (lambda: figures.cost_quality(lamp4, "retriever"), "no column of numbers"),
        (lambda: figures.heat_map(lamp4.iloc[:0]), "no run with metrics"),
        (lambda: figures.user_gains(baseline), "has no finished baseline"),
    ):
        with pytest.raises(lamp.InputError, match=message):
            call()


def test_runs_of_other_questions_of_a_part_are_in_no_figure_together(tmp_path: Path):
    for limit, k in ((20, 1), (None, 4)):
        make_run(tmp_path, k=k, limit=limit)
    frame = lamp.load_results(tmp_path)
    with pytest.raises(lamp.InputError, match="one limit, and these are of 20, null"):
        lamp.figures.k_curve(frame)


def test_stale_runs_are_in_no_figure(tmp_path: Path):
    for k in (0, 1, 4):
        folder = make_run(tmp_path, k=k)
    RunFolder(folder).mark_stale("other code")
    (axes,) = lamp.figures.k_curve(lamp.load_results(tmp_path)).axes
    assert [
        len(line.get_xdata()) for line in axes.get_lines() if line.get_label() == "bm25 ipa"
    ] == [1]


def test_a_tuned_run_has_no_place_on_the_axis_of_k(tmp_path: Path):
    make_run(tmp_path, k=1)
    tuned = make_run(tmp_path, k=4)
    change_record(tuned, tuned=TunedK(4, ({"k": 1}, {"k": 4}), "x"))
    (axes,) = lamp.figures.k_curve(lamp.load_results(tmp_path)).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1"]


# --- the process -------------------------------------------------------------------------------


@pytest.fixture
def state() -> Iterator[Any]:
    """What a call may not change."""

    def now() -> dict[str, Any]:
        root, own = logging.getLogger(), logging.getLogger("lamp_exp")
        return {
            "hydra": GlobalHydra.instance().hydra,
            "hydra_config": HydraConfig.instance().cfg,
            "version": VersionBase.instance().version_base,
            "threads": torch.get_num_threads(),
            "levels": (root.level, own.level),
            "handlers": [*root.handlers],
            "showwarning": warnings.showwarning,
            "folder": Path.cwd(),
            "seeds": {n: os.environ.get(n) for n in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")},
            "random": [
                random.getstate()[1][:3],
                np.random.get_state()[1][:3].tolist(),
                torch.get_rng_state().tolist(),
            ],
        }

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.manual_seed(5)
    yield now
    torch.set_num_threads(threads)


@pytest.mark.long
def test_the_process_is_left_as_it_was(state, tmp_path: Path):
    before = state()
    lamp.run(TRAIN, task="lamp4", k=1, seed=7, baseline=True)
    assert state() == before
    lamp.sweep(ZERO, task="lamp4", k=[0, 1], seed=7)
    assert state() == before
    for wrong in ({"k": -1}, {"retriever": "bm26"}):
        with pytest.raises(lamp.InputError):
            lamp.run(**wrong)
        assert state() == before


@pytest.mark.long
def test_the_users_own_hydra_stays(state, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path / "mine"), version_base="1.2"):
        before = state()
        assert before["hydra"] is not None
        run = lamp.run(mode="rank", limit=2)
        lamp.sweep(mode="rank", limit=2, task=["lamp1", "lamp4"])
        assert state() == before
        assert compose("config", ["a=2"]) == {"a": 2}
    assert run.result.choices["retriever"] == "bm25"


def test_a_yaml_that_changed_between_two_calls_counts(tmp_path: Path):
    yaml = tmp_path / "conf" / "retriever" / "mine.yaml"
    yaml.parent.mkdir(parents=True)
    text = (CONF / "retriever" / "bm25.yaml").read_text(encoding="utf-8")
    yaml.write_text(text)
    mine = {"config_dir": tmp_path / "conf", "retriever": "mine", "mode": "rank", "limit": 2}
    first = lamp.run(**mine)
    assert "retriever.k1" not in first.result.identity
    yaml.write_text(re.sub(r"k1: [\d.]+", "k1: 0.5", text))
    again = lamp.run(**mine)
    assert again.folder == first.folder
    assert "retriever.k1=1.5" in again.result.stale
    assert lamp.run(**mine, rerun="stale").result.settings["retriever"]["k1"] == 0.5
    (swept,) = lamp.sweep(**mine)
    assert swept.folder == first.folder
    with pytest.raises(lamp.InputError, match="retriever=mine does not exist"):
        lamp.run(retriever="mine", mode="rank")


# --- notebooks and the README ------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Any]:
    """A kernel in an empty folder: its manager and client."""
    pytest.importorskip("ipykernel", reason="the extra notebook")
    manager = pytest.importorskip("jupyter_client.manager", reason="the extra test")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries of the kernel's, on this side
        km, kc = manager.start_new_kernel(cwd=str(tmp_path), env=environment)
        yield km, kc
        kc.stop_channels()
        km.shutdown_kernel(now=True)


def reply(client: Any, code: str) -> Any:
    return client.execute_interactive(code, timeout=300, output_hook=lambda message: None)


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_when_it_is_run_again(kernel, tmp_path: Path):
    manager, client = kernel
    call = (
        "import lamp_exp\n"
        "settings = {'trainer.max_epochs': 30, 'limit': 20, 'training.batch_size': 4}\n"
        "run = lamp_exp.run('experiment=first', settings, k=1)"
    )
    asked = client.execute(call)
    deadline = time.monotonic() + 120
    while not any(tmp_path.glob(f"outputs/lamp4-*/{LAST}")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    manager.interrupt_kernel()
    while (message := client.get_shell_msg(timeout=120))["parent_header"]["msg_id"] != asked:
        pass
    assert message["content"]["ename"] == "KeyboardInterrupt"
    assert "goes on from here" in message["content"]["evalue"]
    state = (
        "from hydra.core.global_hydra import GlobalHydra; import logging, signal\n"
        "assert not GlobalHydra.instance().is_initialized()\n"
        "assert not logging.getLogger().handlers\n"
        "assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN\n"
    )
    assert reply(client, state)["content"]["status"] == "ok"
    again = f"{call}; assert len(run.result.training['epochs']) == 30"
    assert reply(client, again)["content"]["status"] == "ok"
    (log,) = tmp_path.glob("outputs/lamp4-*/run.log")
    assert "training continues after epoch" in log.read_text()


def executed(folder: Path, settings: str | None = None) -> Any:
    """The notebook with its outputs, executed in `folder`, with other settings if given."""
    nbclient = pytest.importorskip("nbclient", reason="the extra test")
    nbformat = pytest.importorskip("nbformat", reason="the extra test")
    pytest.importorskip("ipykernel", reason="the extra notebook")
    notebook = nbformat.read(NOTEBOOK, 4)
    if settings is not None:
        (cell,) = [c for c in notebook.cells if "settings" in c.metadata.get("tags", [])]
        cell.source = f"import lamp_exp\nsettings = {settings}"
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(folder)}}
    )
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of libraries of the kernel's, on this side
        patch.setenv("PYTHONPATH", str(ROOT))
        client.execute()
    return notebook


def outputs(notebook: Any, source: str) -> list[Any]:
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and source in c.source]
    return list(cell.outputs)


@pytest.mark.process
def test_the_notebook_of_the_first_hour_runs(tmp_path: Path):
    notebook = executed(tmp_path, "{'limit': 6, 'trainer.max_epochs': 1}")
    first = outputs(notebook, "baseline=True")
    assert any("widget" in kind for o in first for kind in o.get("data", {}))  # progress bars
    assert "(without profile" in first[-1]["data"]["text/plain"]
    for figure in ("k_curve", "user_gains"):
        assert "image/png" in outputs(notebook, figure)[-1]["data"]
    (mistake,) = outputs(notebook, "bm52")
    assert mistake["traceback"] == [f"InputError: {mistake['evalue']}"]
    stderr = [o for c in notebook.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert not [o["text"] for o in stderr if "Warning" in o["text"]]


@pytest.mark.slow
def test_the_notebook_as_it_is_finds_that_the_profile_helps(tmp_path: Path):
    notebook = executed(tmp_path)
    assert "better" in outputs(notebook, "compare(")[-1]["data"]["text/plain"]


def test_the_notebook_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat", reason="the extra test")
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]


@pytest.mark.long
def test_the_code_of_the_readme_runs():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    names: dict[str, Any] = {}
    quick = {**ZERO, "augmentation": "ipa"}  # no model of the sample has learned to read fid
    code = code.replace('"experiment=first"', f'"experiment=first", {quick}')
    exec(code.replace('"mode": "finetune"', '"mode": "zeroshot"'), names)
    assert {run.result.k for run in names["runs"]} == {1, 4}
    assert set(names["frame"]["retriever"]) == {"bm25", "random", "none"}
    assert Path("k.png").stat().st_size > 0
