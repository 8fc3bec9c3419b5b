"""`python -m lamp_exp.storage`: what is kept, whether it is whole, and removing it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from lamp_exp.cache import main
from lamp_exp.experiment.stages import load_parts
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.answers import DiskMap
from lamp_exp.storage.vectors import VectorCache
from tests.conftest import build, ranked, ranked_part
from tests.test_cache import damage
from tests.test_vectors import filled

CACHE = Path("outputs/.cache")
KINDS = ["rankings/BM25-LaMP_4-*.arrow", "vectors/encoder-*", "data/[!.]*", "answers.sqlite"]


def place(kind: int) -> Path:
    (path,) = [path for path in CACHE.glob(KINDS[kind])]
    return path


@pytest.fixture
def full(empty_folder: None) -> list[Path]:
    """Something of each kind."""
    ranked("mode=rank", "limit=5")
    filled(CACHE / "vectors", ["a", "b"], max_length=9)
    DiskMap(CACHE / "answers.sqlite")["model: hello?"] = "hello!"
    return [place(kind) for kind in range(4)]


@pytest.mark.parametrize("command", [["cache", "list"], ["report", "published"]])
def test_a_reader_that_wants_no_more_is_no_failure(full: list[Path], command: list[str]):
    words = [sys.executable, "-m", f"lamp_exp.{command[0]}", command[1]]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **told, env={**os.environ, "COLUMNS": "80"}) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


def grow_old(path: Path, days: int) -> None:
    for one in [path, *path.rglob("*")]:
        os.utime(one, (time.time() - days * 86_400,) * 2)


def test_list_tells_size_and_purpose_of_each(full, capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for path in full:
        assert str(path.relative_to(CACHE)) in told
    assert "LaMP_4 user dev k1=1.5 b=0.75 limit=5: 5 questions" in told
    assert "name=an/encoder max_length=9: 2 texts in 1 shard" in told
    assert "a prepared part: " in told
    assert "1 answers of APIs" in told
    assert f"in all, below {CACHE}" in told


def test_verify_is_content_with_what_is_whole(full, capsys):
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == "4 of 4 are whole\n"


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("how", ["cut off", "empty"])
def test_verify_names_what_is_damaged_and_list_goes_on(full, capsys, kind, how):
    path = full[kind]
    if kind == 3 and how == "empty":
        pytest.skip("an empty file is an empty database")
    damage(path if path.is_file() else next(path.glob("*.arrow")), how)
    assert main(["verify"]) == 1
    told = capsys.readouterr()
    assert told.out == "3 of 4 are whole\n"
    (line,) = told.err.splitlines()
    assert path.name in line
    assert main(["list"]) == 0


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("where", [0, 0.3, 0.6, 0.95])
def test_verify_finds_a_flipped_bit(full, capsys, kind, where):
    damage([full[0], next(full[1].glob("*.arrow"))][kind], f"flipped {where}")
    assert main(["verify"]) == 1
    assert main(["prune"]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["verify"]) == 0
    assert (full[1] / "encoder.json").is_file()


def test_prune_leaves_what_is_whole_and_removes_what_killed_jobs_left(full, capsys):
    left = [
        CACHE / "rankings" / ".x.arrow.making-9-aa", CACHE / "rankings" / ".x.arrow.damaged",
        full[1] / ".x.arrow.making-9-aa", CACHE / "data" / ".x.making-9",
    ]  # fmt: skip
    for path in left[:3]:
        path.write_text("x")
    left[3].mkdir()
    assert main(["prune", "--dry-run"]) == 0
    assert "      3 B  would be freed" in capsys.readouterr().out
    assert all(path.exists() for path in left)
    assert main(["prune"]) == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in full)
    assert main(["verify"]) == 0


def test_prune_by_age_counts_from_the_last_use_and_spares_answers(full, capsys):
    grow_old(CACHE, 31)
    filled(CACHE / "vectors", ["a"], max_length=9)  # used today
    assert main(["prune", "--older-than", "30d"]) == 0
    assert [path.exists() for path in full] == [False, True, False, True]
    assert main(["prune", "--older-than", "1.5h"]) == 0
    assert full[1].exists()


def test_using_a_ranking_and_a_prepared_part_keeps_them_young(full):
    grow_old(CACHE, 31)
    ranked("mode=rank", "limit=5")
    main(["prune", "--older-than", "30d"])
    assert [path.exists() for path in full] == [True, False, True, True]


def test_prune_all_tells_what_it_frees_and_can_be_tried_first(full, capsys):
    assert main(["prune", "--all", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[-1].endswith("would be freed")
    assert all(path.exists() for path in full)
    assert main(["prune", "--all"]) == 0
    assert capsys.readouterr().out == told.replace("would be freed", "freed")
    assert not any(path.exists() for path in full)
    assert main(["list"]) == main(["verify"]) == 0


def test_what_is_in_use_stays(full, capsys):
    kept = VectorCache(CACHE / "vectors").open({"name": "an/encoder", "max_length": 9})
    with FileLock(CACHE / "rankings" / ".locks" / f"{full[0].name}.lock"):
        assert main(["prune", "--all"]) == 0
    assert [path.exists() for path in full] == [True, True, False, False]
    assert capsys.readouterr().out.count("in use: it stays") == 2
    assert kept.missing(["a", "b"]) == []


def test_a_job_goes_on_when_its_data_are_removed(full):
    made, configuration = build("mode=rank", "limit=5", "retriever.b=0.5")
    part = load_parts(made).asked
    assert main(["prune", "--all"]) == 0
    assert len(ranked_part(made, configuration, part)) == 5


MISTAKES = {
    "list --output-dir nowhere": "nowhere is no folder: give --output-dir",
    "verify --output-dir nowhere": "nowhere is no folder: give --output-dir",
    "prune --older-than 30": "--older-than 30: give a number and m, h, d or w, such as 30d",
    "prune --older-than old": "--older-than old: give a number",
    "prune --older-than -3d": "expected one argument",
    "prune --everything": "unrecognized arguments: --everything",
    "clean": "invalid choice: 'clean'",
    "": "the following arguments are required: VERB",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_ends_in_one_clear_line_and_exit_code_2(capsys, words):
    Path("outputs").mkdir()
    try:
        code = main(words.split())
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    told = capsys.readouterr().err.splitlines()
    assert MISTAKES[words] in told[-1]


def test_nothing_kept_is_no_mistake(capsys):
    Path("outputs").mkdir()
    assert [main([verb]) for verb in ("list", "verify", "prune")] == [0, 0, 0]


def test_the_verbs_load_no_model():
    code = "import sys; from lamp_exp.cache import main; main(['--help'])"
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True
    )
    assert told.returncode == 0
    assert "torch" not in told.stderr


def test_prune_removes_runs_that_did_not_finish_only_if_asked(empty_folder: None, capsys):
    ranked("mode=rank", "limit=5")
    for name in ("lamp4-begun", ".lamp4-again.new", "lamp4-old", "lamp4-busy", "lamp4-done"):
        (Path("outputs") / name).mkdir()
        (Path("outputs") / name / "config.yaml").write_text("k: 1\n")
    (Path("outputs") / "lamp4-done" / "result.json").write_text("{}")
    grow_old(Path("outputs/lamp4-old"), days=9)

    def left() -> set[str]:
        return {path.name for path in Path("outputs").iterdir() if (path / "config.yaml").exists()}

    everything = left()
    for words in ([], ["--unfinished", "--dry-run"]):
        assert main(["prune", *words]) == 0 and left() == everything
    assert "outputs/lamp4-old (a run that did not finish)" in capsys.readouterr().out
    assert main(["prune", "--unfinished", "--older-than", "8d"]) == 0
    assert everything - left() == {"lamp4-old"}
    with RunFolder(Path("outputs/lamp4-busy")).lock():
        assert main(["prune", "--unfinished"]) == 0
    assert left() == {"lamp4-busy", "lamp4-done"}
    assert "outputs/lamp4-busy (in use: it stays)" in capsys.readouterr().out
