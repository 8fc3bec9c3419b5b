"""Files that a power cut left empty, cut off or full of NUL bytes stop no later command."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lamp_exp.cache import main as cache
from lamp_exp.results.folder import RunFolder
from tests.conftest import TINY
from tests.test_cli import QUICK, folder_of
from tests.test_openai import serving

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "NUL": lambda content: bytes(len(content)),
}
EVERY = pytest.mark.parametrize("how", DAMAGE)
RUN = ["task=lamp3", "mode=zeroshot", "k=1", "limit=4", *QUICK]


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.long
@EVERY
def test_a_run_with_a_damaged_record_is_run_again(lamp_exp, report, caplog, how):
    code, out, _ = lamp_exp(*RUN)
    assert code == 0
    folder = folder_of(out)
    metrics = RunFolder(folder).read().metrics
    damage(folder / "result.json", how)
    code, out, _ = lamp_exp(*RUN)
    assert code == 0
    assert "finished already" not in out
    assert f"{folder / 'result.json'} is damaged" in caplog.text
    assert RunFolder(folder).read().metrics == metrics
    damage(folder / "result.json", how)
    assert lamp_exp(*RUN, "rerun=true")[0] == 0


@pytest.mark.parametrize("name", ["predictions.json", "examples.parquet", "prompts.jsonl"])
def test_a_run_with_an_empty_file_is_run_again(lamp_exp, name):
    folder = folder_of(lamp_exp(*RUN)[1])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(b"")
    code, out, _ = lamp_exp(*RUN)
    assert code == 0
    assert "finished already" not in out
    assert (folder / name).read_bytes() == content


@pytest.mark.long
@EVERY
@pytest.mark.parametrize("name", ["predictions.json", "examples.parquet", "prompts.jsonl"])
def test_a_damaged_file_of_a_run_is_one_line_of_a_report(lamp_exp, report, name, how):
    words = {
        "predictions.json": ["rerun"],
        "examples.parquet": ["personal", "--runs", "outputs"],
        "prompts.jsonl": ["html", "--out", "page.html"],
    }
    folder = folder_of(lamp_exp(*RUN)[1])
    lamp_exp(*RUN, "k=0")
    damage(folder / name, how)
    named = [str(folder)] if name == "predictions.json" else []
    _, out, err = report(*words[name], *named)
    reason = "files of it are missing" if how == "empty" else f"{folder / name} is damaged"
    assert reason in out + err
    assert "Traceback" not in err


@pytest.mark.long
@EVERY
def test_a_damaged_record_of_another_run_stops_nothing(lamp_exp, report, caplog, how):
    first = folder_of(lamp_exp(*RUN)[1])
    lamp_exp(*RUN, "seed=1")
    damage(first / "result.json", how)
    for words in (f"its result.json was damaged: {first.name}", "not finished: 1 run"):
        code, out, err = report("table", "--format", "csv")
        assert code == 0
        assert f"left out, {words}" in out + err
    assert cache(["list"]) == 0
    assert f"{first / 'result.json'} is damaged" in caplog.text


@EVERY
def test_what_a_broken_run_left_is_not_used_if_its_note_is_damaged(lamp_exp, caplog, how):
    folder = folder_of(lamp_exp(*RUN)[1])
    answers = json.loads((folder / "predictions.json").read_text())
    (folder / "result.json").unlink()
    (folder / "begun.json").write_text('{"code": "0123456789abcdef"}')
    damage(folder / "begun.json", how)
    assert lamp_exp(*RUN)[0] == 0
    assert f"{folder / 'begun.json'} is damaged" in caplog.text
    assert json.loads((folder / "predictions.json").read_text()) == answers


@pytest.mark.long
@EVERY
def test_a_damaged_journal_is_named_and_its_questions_are_asked_again(
    lamp_exp, caplog, monkeypatch, how
):
    import lamp_exp.experiment.stages as stages

    folder = folder_of(lamp_exp(*RUN)[1])
    answers = json.loads((folder / "predictions.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(stages, "score", None)  # fails once all is answered
        assert lamp_exp(*RUN, "rerun=true")[0] != 0
    (journal,) = folder.parent.glob(".*/answers-*.jsonl")
    damage(journal, how)
    caplog.clear()
    assert lamp_exp(*RUN, "rerun=true")[0] == 0
    assert ("is damaged" in caplog.text) == (how == "NUL")  # others look like a killed process's
    assert json.loads((folder / "predictions.json").read_text()) == answers


@pytest.mark.long
@EVERY
def test_damaged_answers_of_apis_are_asked_for_again(lamp_exp, caplog, how):
    with serving(lambda prompt, number: (200, "4")) as server:
        words = [
            "task=lamp3", "mode=zeroshot", "k=1", "limit=4", "model=openai", "model.name=m",
            f"model.base_url={server.url}", f"model.tokenizer={TINY}",
        ]  # fmt: skip
        assert lamp_exp(*words)[0] == 0
        asked = len(server.bodies)
        path = Path("outputs/.cache/answers.sqlite")
        damage(path, how)
        assert lamp_exp(*words, "rerun=true")[0] == 0
        assert len(server.bodies) == 2 * asked
    assert (f"{path} is damaged" in caplog.text) == (how != "empty")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM map").fetchone() == (asked,)
