"""Files are complete or not there, damaged files count as missing, and locks exclude."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamp_exp.storage import atomic
from lamp_exp.storage.answers import DiskMap
from lamp_exp.storage.atomic import (
    Unwritable,
    read_json_or_none,
    replace_folder,
    replacing,
    set_aside,
    write_json,
    write_text,
)
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.storage.locks import Locked, exclusive, shared
from tests.test_cache import no_file_above


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "file"
    write_text(path, ["a", "é"])
    assert path.read_bytes() == "aé".encode()
    with replacing(path) as file:
        file.write(b"\x00b")
    assert path.read_bytes() == b"\x00b"
    write_json(path, {"é": [1]})
    assert path.read_text() == '{\n "é": [\n  1\n ]\n}\n'
    assert names(tmp_path) == ["file"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    def pieces():
        yield "new"
        raise OSError("the disk is full")

    write_text(tmp_path / "file", ["old"])
    with pytest.raises(OSError, match="full"):
        write_text(tmp_path / "file", pieces())
    with pytest.raises(KeyError), replacing(tmp_path / "file") as made:
        {}[made.write(b"new")]
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_what_cannot_be_written_is_named_with_its_reason(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for place, reason in [("file/a", "Not a directory"), ("folder", "Is a directory")]:
        with pytest.raises(Unwritable, match=rf"{place} cannot be written \({reason}\)"):
            write_text(tmp_path / place, ["text"])
    with no_file_above(1000), pytest.raises(Unwritable, match=r"b cannot .*File too large"):
        write_text(tmp_path / "b", ["text"] * 1000)
    assert names(tmp_path) == ["file", "folder"]


def test_content_is_flushed_before_the_move_and_the_folder_after_it(tmp_path, monkeypatch):
    events: list[str] = []

    def flush(path: Path) -> None:
        there = sorted(path.name[:6] for path in tmp_path.iterdir())
        events.append(f"{path.name[:6]} of {' '.join(there)}")

    monkeypatch.setattr(atomic, "flush", flush)
    monkeypatch.setattr(os, "fsync", lambda descriptor: flush(Path("fsync")))
    write_text(tmp_path / "file", ["text"])
    assert events == ["fsync of .file.", f"{tmp_path.name[:6]} of file"]
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "inner").write_text("x")
    events.clear()
    replace_folder(tmp_path / "made", tmp_path / "place")
    assert events == [
        "inner of file made", "made of file made", f"{tmp_path.name[:6]} of file place",
    ]  # fmt: skip


def test_a_folder_takes_the_place_of_another(tmp_path: Path):
    for number in range(2):
        (tmp_path / "made" / "deep").mkdir(parents=True)
        (tmp_path / "made" / "deep" / str(number)).write_text("x")
        replace_folder(tmp_path / "made", tmp_path / "place")
        assert names(tmp_path) == ["place"]
        assert names(tmp_path / "place" / "deep") == [str(number)]


DAMAGE = {
    "empty": (b"", "it is empty"),
    "cut off": (b'{"k": [1, 2', "Expecting"),
    "NUL": (b"\0" * 64, "NUL bytes"),
    "NUL at the end": (b'{"k": 1}\n' + b"\0" * 64, "NUL bytes"),
    "no UTF-8": (b'{"k": "\xff"}', "decode"),
    "another kind": (b"[1]", "it holds a list, not an object"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_json_file_counts_as_missing_is_named_and_set_aside(tmp_path, caplog, how):
    path = tmp_path / "result.json"
    content, reason = DAMAGE[how]
    for _ in range(2):  # a second one takes the place of the first
        caplog.clear()
        path.write_bytes(content)
        assert read_json_or_none(path) is None
        (record,) = caplog.records
        assert str(path) in record.message
        assert reason in record.message
        assert names(tmp_path) == [".result.json.damaged"]
        assert "it is set aside as .result.json.damaged" in record.message
    assert read_json_or_none(path) is None
    assert len(caplog.records) == 1


def test_a_whole_json_file_is_read(tmp_path: Path, caplog):
    write_json(tmp_path / "a", {"é": [1, None]})
    assert read_json_or_none(tmp_path / "a") == {"é": [1, None]}
    assert read_json_or_none(tmp_path / "a" / "b") is None
    assert caplog.records == []


def test_folders_are_set_aside_and_what_is_gone_is_no_error(tmp_path: Path):
    for _ in range(2):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "x").write_text("x")
        set_aside(tmp_path / "folder")
        assert names(tmp_path) == [".folder.damaged"]
    set_aside(tmp_path / "folder")


# Locks.


def test_a_lock_excludes_and_is_named_when_it_is_waited_for(tmp_path: Path):
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with exclusive(tmp_path / "a", waiting=lambda line: (said.append(line), go.set())):
            order.append("second")

    go = threading.Event()
    thread = threading.Thread(target=second)
    with exclusive(tmp_path / "a"), exclusive(tmp_path / "b"):
        said_so = pytest.raises(Locked, match="a is being written by another process")
        with said_so, exclusive(tmp_path / "a", wait=False):
            pass
        thread.start()
        assert go.wait(30)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert said == [f"{tmp_path / 'a'} is being written by another process: waiting for it"]


def test_shared_holders_exclude_only_the_exclusive_one(tmp_path: Path):
    releases = [shared(tmp_path / "a") for _ in range(2)]
    for release in releases:
        with pytest.raises(Locked), exclusive(tmp_path / "a", wait=False):
            pass
        thread = threading.Thread(target=release)  # a collected object's release may run in any
        thread.start()
        thread.join()
    with exclusive(tmp_path / "a"):
        pass


HOLDER = """
import sys
from pathlib import Path
from lamp_exp.storage.locks import exclusive, shared
place = Path(sys.argv[1])
with exclusive(place / "a"):
    release = shared(place / "b")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_locks_of_a_killed_process_are_free(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        for name in "ab":
            with pytest.raises(Locked), exclusive(tmp_path / name, wait=False):
                pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    for name in "ab":
        with exclusive(tmp_path / name, wait=False):
            pass
    assert list((tmp_path / ".locks" / "b.shared").iterdir()) == []


# Answers.


@pytest.mark.parametrize("how", ["NUL", "text", "cut off", "empty"])
def test_damaged_answers_are_set_aside_named_and_asked_for_again(tmp_path: Path, caplog, how):
    path = tmp_path / "answers.sqlite"
    answers = DiskMap(path)
    for number in range(200):
        answers[f"question {number}"] = "answer " * 50
    content = {"NUL": bytes(5000), "text": b"{}" * 500, "empty": b""}
    path.write_bytes(content.get(how, path.read_bytes()[:5000]))
    assert answers.get("question 7") is None
    answers["question 7"] = "new"
    assert dict(DiskMap(path)) == {"question 7": "new"}
    if how == "empty":  # which is an empty database
        assert caplog.records == []
        return
    (record,) = caplog.records
    assert str(path) in record.message
    assert (tmp_path / ".answers.sqlite.damaged").is_file()


def test_answers_that_cannot_be_written_are_one_clear_error(tmp_path: Path):
    answers = DiskMap(tmp_path / "answers.sqlite")
    answers["a"] = "b"
    with no_file_above(20_000), pytest.raises(Unwritable, match=r"answers\.sqlite cannot be wri"):
        answers["c"] = "d" * 50_000
    assert dict(answers) == {"a": "b"}


def test_the_fingerprint_of_a_folder_follows_its_content(tmp_path: Path):
    folder = tmp_path / "weights"
    assert folder_fingerprint(str(folder)) == str(folder)  # a hub id, or not made yet
    folder.mkdir()
    (folder / "a").write_text("one")
    first = folder_fingerprint(str(folder))
    assert first.startswith("folder:")
    (folder / "a").write_text("two, longer")
    assert folder_fingerprint(str(folder)) != first
    (folder / "a").write_text("one")
    assert folder_fingerprint(str(folder)) == first
