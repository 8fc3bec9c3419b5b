"""Sweeps in waves: no job waits for another, what is required is made first and once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamp_exp.errors import InputError
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.sweeps import schedule as schedules
from lamp_exp.sweeps.plan import SweepPlan
from lamp_exp.sweeps.requirements import ROUTED, TO_MAKE, Needs, Requirement
from lamp_exp.sweeps.rows import rows_not_run, sweep_rows, words_of
from lamp_exp.sweeps.schedule import Schedule
from lamp_exp.sweeps.status import Job, JobStatus, read_status
from lamp_exp.sweeps.waves import all_waves, next_wave
from tests.conftest import learning_words
from tests.test_cli import folder_of
from tests.test_router import FIXED, WORDS, run  # noqa: F401  (a fixture)
from tests.test_sweep import broken, summary_of

# --- the law -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A job: its own run, and what it requires; runs are of lower level."""

    level: int
    makes: frozenset[str]


@st.composite
def jobs(draw: st.DrawFn) -> list[Made]:
    levels = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=9))
    artefacts = st.frozensets(st.sampled_from("abcd"), max_size=3)
    found = []
    for place, level in enumerate(levels):
        lower = [f"run {n}" for n, other in enumerate(levels) if other < level]
        runs = draw(st.frozensets(st.sampled_from(lower), max_size=4)) if lower else frozenset()
        finished = draw(st.integers(0, 5)) == 0
        makes = frozenset() if finished else {f"run {place}"} | draw(artefacts) | runs
        found.append(Made(level, frozenset(makes)))
    return found


@given(jobs())
def test_no_two_jobs_of_a_wave_make_the_same_and_each_job_is_in_one_wave(needs):
    waves = all_waves(needs)
    assert sorted(place for wave in waves for place in wave) == list(range(len(needs)))
    there: set[str] = set()
    for wave in waves:
        assert wave == sorted(wave) and wave
        made = [needs[place].makes - there for place in wave]
        assert sum(map(len, made)) == len(set().union(*made))
        there |= set().union(*made)


@given(jobs())
def test_what_is_a_job_of_its_own_is_made_by_that_job(needs):
    waves = all_waves(needs)
    wave_of = {place: number for number, wave in enumerate(waves) for place in wave}
    for place, one in enumerate(needs):
        for other, another in enumerate(needs):
            if other != place and f"run {place}" in one.makes & another.makes:
                assert wave_of[place] < wave_of[other]


@given(jobs())
def test_the_first_wave_is_that_of_the_forecast_and_jobs_that_share_nothing_start_at_once(needs):
    assert next_wave(needs) == (all_waves(needs) or [[]])[0]
    alone = [Made(one.level, frozenset({str(n)})) for n, one in enumerate(needs)]
    assert len(all_waves(alone)) == min(len(needs), 1)


# --- a schedule --------------------------------------------------------------------------------

NAMES = ("first", "second", "router", "other")


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """Two jobs that need one artefact, a router that needs the first one's run, and another job."""
    runs = {name: RunFolder(tmp_path / name) for name in NAMES}
    fit = Requirement("encoder: 3 epochs", tmp_path / "encoder-1", TO_MAKE)
    answers = Requirement("run first (candidate a)", runs["first"].path, TO_MAKE)
    needs = {
        "first": Needs(run=runs["first"], requires=(fit,)),
        "second": Needs(run=runs["second"], requires=(fit,)),
        "router": Needs(ROUTED, runs["router"], (answers,)),
        "other": Needs(run=runs["other"]),
    }
    monkeypatch.setattr(schedules, "may_share", lambda composed: composed == "first")
    monkeypatch.setattr(schedules, "needs_of_job", lambda composed, *given: needs[composed])
    jobs = [Job(n, (f"row={name}",), "lamp4") for n, name in enumerate(NAMES)]
    return Schedule(SweepPlan(jobs, list(NAMES), []))


def started(schedule: Schedule, **states: str) -> list[str]:
    """Starts a wave, of which these jobs end otherwise than well; their names with numbers."""
    wave = schedule.next_wave()
    names = {job.number: job.overrides[0].removeprefix("row=") for job in wave}
    statuses = {
        number: JobStatus(states.get(name, "done"), (f"row={name}",), error="out of memory")
        for number, name in names.items()
    }
    schedule.note_failures(wave, statuses)
    return [f"{number} {name}" for number, name in names.items()]


def test_jobs_are_numbered_as_they_start(schedule, tmp_path):
    assert schedule.forecast()[0] == [[0, 3], [1, 2]]
    assert started(schedule) == ["0 first", "1 other"]
    (tmp_path / "encoder-1").mkdir()
    assert started(schedule) == ["2 second", "3 router"]
    assert started(schedule) == []
    assert [job.overrides[0] for job in schedule.numbered.jobs] == [
        "row=first", "row=other", "row=second", "row=router",
    ]  # fmt: skip


def test_what_failed_before_it_made_anything_leaves_artefacts_to_the_next_job(schedule, tmp_path):
    assert started(schedule, first="failed") == ["0 first", "1 other"]
    assert started(schedule) == ["2 second"]
    assert started(schedule) == []
    schedule.write_blocked(tmp_path / "sweep")
    status = read_status(tmp_path / "sweep" / "3")
    assert (status.state, status.overrides) == ("failed", ("row=router",))
    assert status.error == (
        "it needs run first (candidate a), which could not be made (row=first: out of memory)"
    )


def test_an_artefact_whose_making_failed_is_not_tried_by_others(schedule, tmp_path):
    (tmp_path / ".encoder-1.begun").mkdir()
    assert started(schedule, first="refused") == ["0 first", "1 other"]
    assert started(schedule) == []
    assert [one.state for one in schedule.blocked.values()] == ["refused", "refused"]
    assert "encoder: 3 epochs, which could not be made" in schedule.blocked[1].error


# --- rows --------------------------------------------------------------------------------------


def test_rows_with_names_are_changed_and_left_out():
    rows = {"a": {"k": 0}, "b": {"k": 1, "retriever": "bm25"}, "c": {"k": 2}, "d": None}
    changes = {"b": {"k": "1,2", "x": None}, "c": "it needs a GPU"}
    epochs = {"adapter.epochs": 3, "adapter": {"epochs": 1}, "router.fresh": {"layers": 1}}
    assert sweep_rows({"a": epochs}) == {"a": {"adapter.epochs": 1, "router.fresh": {"layers": 1}}}
    assert sweep_rows(rows, changes) == {
        "a": {"k": 0}, "b": {"k": "1,2", "retriever": "bm25", "x": None},
    }  # fmt: skip
    assert rows_not_run(changes) == ["not run: row=c: it needs a GPU"]
    assert words_of({"k": "1,2", "x": None, "y": {"z": 1}}) == ["k=1,2", "x=null", "y={z:1}"]
    assert sweep_rows(None) == [{}]


@pytest.mark.parametrize(
    ("rows", "changes", "line"),
    [
        ([{"k": 0}], {"a": {}}, "changed_rows needs rows with names"),
        ({"bm25": {}}, {"bm52": {}}, "changed_rows.bm52 is no row of this sweep"),
        ({"a": {}}, {"a": 3}, "changed_rows.a=3 must be options, null, or the reason"),
    ],
)
def test_changes_of_no_row_are_refused(rows, changes, line):
    with pytest.raises(InputError, match=line):
        sweep_rows(rows, changes)


# --- end to end --------------------------------------------------------------------------------

WITH_ROUTER = (
    "hydra.sweeper.rows=[{router:vote,router/candidates:fixed},{retriever:'bm25,recency,none'}]"
)


def waves_in(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("wave ")]


@pytest.mark.slow
def test_a_router_comes_after_its_candidates_which_run_once(run, lamp_exp):  # noqa: F811
    out = lamp_exp("-m", *WORDS, WITH_ROUTER, "dry_run=true")[1]
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert "3 vote fixed 2 to do" in told
    assert any("(candidate bm25) (jobs 3)" in line for line in told)
    code, out, err = lamp_exp("-m", *WORDS, WITH_ROUTER)
    assert code == 0, err
    assert waves_in(err) == ["wave 1: 3 jobs", "wave 2: 1 job"]
    assert summary_of(out)["counts"]["done"] == 4
    assert len(list(Path("outputs").glob("lamp4-*"))) == 4
    code, out, err = lamp_exp("-m", *WORDS, WITH_ROUTER)
    assert summary_of(out)["counts"]["there"] == 4
    assert waves_in(err) == ["wave 1: 4 jobs"]


@pytest.mark.slow
def test_a_job_whose_requirement_failed_says_so_and_the_others_go_on(
    run, lamp_exp, monkeypatch  # noqa: F811
):  # fmt: skip
    from lamp_exp.retrievers.bm25 import BM25

    def rank(self, *given):
        raise ZeroDivisionError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(BM25, "rank", rank)
        code, out, err = lamp_exp("-m", *WORDS, WITH_ROUTER)
    assert code == 2
    assert summary_of(out)["counts"]["done"] == 2
    told = {one["name"]: one["error"] for one in summary_of(out)["failures"]}
    (line,) = [error for name, error in told.items() if "vote" in name]
    assert line.startswith("it needs run lamp4-") and "(candidate bm25)" in line
    assert "could not be made (" in line and "ZeroDivisionError: broken on purpose" in line
    assert "Traceback" not in out + err
    code, out, err = lamp_exp("-m", *WORDS, WITH_ROUTER)
    assert code == 0 and summary_of(out)["counts"] == {
        "done": 2, "there": 2, "failed": 0, "stopped": 0, "left_out": 0,
    }  # fmt: skip


def feedback_words(reader: Path) -> list[str]:
    """Options with which retrievers learn in no time; those of a retriever are left to each."""
    words = learning_words("ropg_kd_fresh", reader)
    return ["task=lamp4", "mode=rank", *(w for w in words if not w.startswith("retriever."))]


@pytest.mark.slow
def test_retrievers_that_learn_from_one_feedback_do_not_wait_for_it(lamp_exp, reader, caplog):
    words = feedback_words(reader)
    retrievers = "retriever=ropg_kd_fresh,ropg_rl_fresh,bm25"
    out = lamp_exp("-m", *words, retrievers, "dry_run=true")[1]
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert "0 ropg_kd_fresh 1 to do" in told and "2 ropg_rl_fresh 2 to do" in told
    assert any(
        line.startswith("first feedback: 90 prompts") and line.endswith("(jobs 0, 2): no estimate")
        for line in told
    )
    code, out, err = lamp_exp("-m", *words, retrievers)
    assert code == 0, err
    assert waves_in(err) == ["wave 1: 2 jobs", "wave 2: 1 job"]
    assert caplog.text.count("making feedback") == 1
    words[words.index("limit=30")] = "limit=31"
    out = lamp_exp("-m", *words, "retriever=ropg_kd_fresh,bm25", "dry_run=true")[1]
    (line,) = [line for line in out.splitlines() if line.startswith("first feedback")]
    assert "about" in line and line.endswith("B")


@pytest.mark.slow
def test_a_method_that_fails_before_its_feedback_leaves_it_to_the_next_one(lamp_exp, reader):
    words = feedback_words(reader)
    rows = (
        "hydra.sweeper.rows=[{retriever:ropg_kd_fresh,retriever.lr:-1},{retriever:ropg_rl_fresh}]"
    )
    code, out, err = lamp_exp("-m", *words, rows)
    assert code == 2
    assert waves_in(err) == ["wave 1: 1 job", "wave 2: 1 job"]
    assert summary_of(out)["counts"]["done"] == 1
    (failure,) = summary_of(out)["failures"]
    assert "retriever.lr=-1" in failure["error"]


READER = [
    "task=lamp4", "model=tiny", "trainer=cpu", "limit=30", "max_new_tokens=3",
    "hydra.sweeper.reader={mode:finetune,k:0,trainer.max_epochs:1}",
    "hydra.sweeper.rows={one:{mode:zeroshot},other:{mode:zeroshot,retriever:random}}",
]  # fmt: skip


@pytest.mark.long
def test_a_reader_is_fine_tuned_first_and_all_others_use_its_weights(lamp_exp):
    out = lamp_exp("-m", *READER, "dry_run=true")[1]
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert any("(reader) (jobs 1, 2): no estimate" in line for line in told)
    assert "2 jobs of which other runs decide what is to do: no estimate" in told
    code, out, err = lamp_exp("-m", *READER)
    assert code == 0, err
    assert [row["keys"] for row in summary_of(out)["rows"]] == [
        {"row": name} for name in ("reader", "one", "other")
    ]
    assert waves_in(err) == ["wave 1: 1 job", "wave 2: 2 jobs"]
    runs = [json.loads(path.read_text()) for path in Path("outputs").glob("lamp4-*/result.json")]
    (trained,) = [one for one in runs if one["mode"] == "finetune"]
    others = [one["settings"]["model"]["name"] for one in runs if one["mode"] == "zeroshot"]
    assert others == [f"outputs/{trained['run']}/checkpoint"] * 2
    named = {one["identity"]["model.name"] for one in runs if one["mode"] == "zeroshot"}
    assert named == {folder_fingerprint(others[0])} and "folder:" in named.pop()  # and not by path
    code, out, _ = lamp_exp("-m", *READER, f"model.name={others[0]}")  # takes its place
    assert summary_of(out)["counts"]["there"] == 2
    code, _, err = lamp_exp("-m", *READER, "seed=null")
    assert code == 2 and "seed=null: a sweep with hydra.sweeper.reader needs seeds" in err


@pytest.mark.long
def test_a_sweep_may_expect_that_some_jobs_cannot_run(lamp_exp):
    words = ["task=lamp4", "mode=zeroshot", "model=tiny", "limit=3", "max_new_tokens=3"]
    refused = [*words, "adapter=none,user_lora", "hydra.sweeper.skip_refused=true"]
    code, out, err = lamp_exp("-m", *refused)
    assert code == 0, err
    assert summary_of(out)["counts"]["refused"] == 1
    (line,) = summary_of(out)["not_run"]
    assert line.startswith("not run: adapter=user_lora: ")
    assert line in out
    code, out, _ = lamp_exp("-m", *refused[:-1])
    assert code == 2 and len(summary_of(out)["failures"]) == 1


def test_work_that_fails_is_no_refusal(lamp_exp, monkeypatch):
    broken(monkeypatch)
    words = ["task=lamp4", "mode=rank", "limit=3", "retriever=random"]
    code, out, _ = lamp_exp("-m", *words, "hydra.sweeper.skip_refused=true")
    assert code == 2 and "broken on purpose" in out
    assert folder_of(out).is_dir()
