"""`python -m lamp_exp.data download`: which files, what they must hold, what is told."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from lamp_exp.data import load
from lamp_exp.errors import InputError
from tests.file_server import (
    DEV,
    GOLDS,
    PAGE,
    TASKS,
    Server,
    Trick,
    call,
    leftovers,
    made,
    question,
    run,
    words,
)

FOLDERS = {  # where the server has the files of each task
    "lamp1": "LaMP_1", "lamp2": "LaMP_2/new", "lamp2_news": "LaMP_2", "lamp3": "LaMP_3",
    "lamp4": "LaMP_4", "lamp5": "LaMP_5", "lamp6": "LaMP_6", "lamp7": "LaMP_7",
}  # fmt: skip


def test_the_folders_are_those_of_the_tasks():
    offered = {name: task for name, task in TASKS.items() if task.download != "none"}
    assert {name: task.folders[0] for name, task in offered.items()} == FOLDERS


def test_everything_lands_where_the_loader_finds_it(
    server: Server, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, folder in FOLDERS.items():
        for split in ("user", "time"):
            for part in ("train", "dev", "test"):
                base = f"{'time/' if split == 'time' else ''}{folder}/{part}/{part}"
                questions, outputs = made(name, split, part, 2)
                server.files[f"{base}_questions.json"] = questions
                server.files[f"{base}_outputs.json"] = outputs
    assert call(*words(server, tmp_path)) == 0
    public = {path for path in server.files if "test_outputs" not in path}
    assert {a.path for a in server.asked} == public
    assert all((tmp_path / path).read_bytes() == server.files[path] for path in public)
    assert all(re.match(r"lamp_exp/\d", a.agent or "") for a in server.asked)
    told = capsys.readouterr().out
    assert "Avocado" in told
    assert told.splitlines()[-1] == "80 downloaded"
    for name in set(FOLDERS) - {"lamp2_news"}:
        for split, part in (("user", "train"), ("time", "dev")):
            read = load(str(tmp_path), TASKS[name], split, part)
            assert read.has_golds and len(read.examples) == 2
    assert not leftovers(tmp_path)


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path, capsys):
    assert run(server, tmp_path) == 0
    server.asked.clear()
    assert run(server, tmp_path) == 0
    assert {a.method for a in server.asked} == {"HEAD"}
    assert "2 was there" in capsys.readouterr().out
    assert run(server, tmp_path, "--force") == 0
    assert len(server.gets()) == 1


def test_a_file_of_another_size_is_replaced(server: Server, tmp_path: Path):
    assert run(server, tmp_path) == 0
    server.files[DEV] = made("lamp3", "user", "dev", 41)[0]
    assert run(server, tmp_path) == 0
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def test_a_replacement_that_is_broken_leaves_the_old_file(server: Server, tmp_path: Path):
    assert run(server, tmp_path) == 0
    old, server.files[DEV] = server.files[DEV], server.files[DEV][:-5]
    assert run(server, tmp_path) == 1
    assert (tmp_path / DEV).read_bytes() == old


def test_completed_mails_are_kept(server: Server, tmp_path: Path, capsys):
    questions, outputs = "LaMP_6/dev/dev_questions.json", "LaMP_6/dev/dev_outputs.json"
    server.files[questions], server.files[outputs] = made("lamp6", "user", "dev", 2)
    completed = made("lamp6", "user", "dev", 3)[0]
    (tmp_path / "LaMP_6/dev").mkdir(parents=True)
    (tmp_path / questions).write_bytes(completed)
    assert run(server, tmp_path, of="lamp6 user dev") == 0
    assert (tmp_path / questions).read_bytes() == completed
    assert "kept" in capsys.readouterr().out
    (tmp_path / questions).write_bytes(completed[:-2])
    assert run(server, tmp_path, of="lamp6 user dev") == 0
    assert (tmp_path / questions).read_bytes() == server.files[questions]


def test_without_a_size_to_compare_with_the_content_decides(server: Server, tmp_path: Path, capsys):
    assert run(server, tmp_path) == 0
    server.head_status = 405
    server.asked.clear()
    assert run(server, tmp_path) == 0
    assert not server.gets()
    assert "not compared with the server" in capsys.readouterr().out
    (tmp_path / DEV).write_bytes(server.files[DEV][:-1])
    assert run(server, tmp_path) == 0
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def test_the_news_may_be_missing_unless_named(server: Server, tmp_path: Path, capsys):
    for name in set(FOLDERS) - {"lamp2_news"}:
        base = f"{FOLDERS[name]}/dev/dev"
        both = made(name, "user", "dev", 1)
        server.files[f"{base}_questions.json"], server.files[f"{base}_outputs.json"] = both
    assert call(*words(server, tmp_path, "--split", "user", "--part", "dev")) == 0
    assert "not offered  LaMP_2/dev/dev_questions.json: the server answered 404" in (
        capsys.readouterr().out
    )
    assert run(server, tmp_path, of="lamp2_news user dev") == 1


# --- never accepted


@cache
def bad_questions() -> dict[str, bytes]:
    good = made("lamp3", "user", "dev")[0]
    middle = len(good) // 2
    return {
        "a web page": PAGE,
        "nothing": b"",
        "white space": b" \n",
        "no end": good[:-1],
        "half": good[:middle],
        "zeros in the middle": good[:middle] + bytes(100) + good[middle + 100 :],
        "a hole in the middle": good[:middle] + good[middle + 3000 :],
        "no UTF-8": good[:middle] + b"\xff" + good[middle + 1 :],
        "twice": good + good,
        "no comma": b"[" + json.dumps(question()).encode() * 2 + b"]",
        "a comma too many": b"[" + json.dumps(question()).encode() + b",]",
        "an object": json.dumps(question()).encode(),
        "an empty list": b"[]",
        "a list of text": b'["a"]',
        "no id": json.dumps([question(id=None)]).encode(),
        "no input": b'[{"id": 1, "profile": []}]',
        "no profile": json.dumps([question(), question(profile=None)]).encode(),
        "a profile of text": json.dumps([question(profile=["a"])]).encode(),
        "a long number": b'[{"id": 1' + b"0" * 5000 + b', "input": "", "profile": []}]',
        "deep": b'[{"id": 1, "input": ' + b"[" * 200_000 + b"]" * 200_000 + b', "profile": []}]',
        "outputs": made("lamp3", "user", "dev")[1],
    }


@pytest.mark.parametrize("what", bad_questions())
def test_broken_questions_are_refused_once_and_removed(
    server: Server, tmp_path: Path, capsys, what: str
):
    server.files[DEV] = bad_questions()[what]
    assert run(server, tmp_path) == 1
    assert not (tmp_path / DEV).exists()
    assert not leftovers(tmp_path)
    assert len(server.gets()) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"failed       {DEV}: broken as it came from the server: ")
    assert told[-1] == "1 downloaded, 1 failed"


@pytest.mark.parametrize(
    "content",
    [
        PAGE, b"", b"[]", b'{"task": "LaMP_3", "golds": []}',
        b'{"task": "LaMP_4", "golds": [{"id": 1, "output": "a"}]}',
        b'{"task": "LaMP_3", "golds": [{"id": 1, "output": "5"}]',
        b'{"task": "LaMP_3", "golds": [{"id": 1}]}',
    ],
)  # fmt: skip
def test_broken_outputs_are_refused_and_removed(server: Server, tmp_path: Path, content: bytes):
    server.files[GOLDS] = content
    assert run(server, tmp_path) == 1
    assert not (tmp_path / GOLDS).exists()
    assert not leftovers(tmp_path)


def test_a_web_page_is_called_one(server: Server, tmp_path: Path, capsys):
    server.usual = Trick(body=PAGE)
    assert run(server, tmp_path) == 1
    assert capsys.readouterr().out.count("a web page") == 2


# --- mistakes


@pytest.mark.parametrize(
    ("mistake", "word"),
    [
        ("--task lamp9", "lamp1"),
        ("--split both", "user, time"),
        ("--part all", "train, dev, test"),
        ("--retries -1", "0 or more"),
        ("--timeout 0", "above 0"),
        ("--timeout nan", "above 0"),
        ("--wait -1", "above 0"),
        ("--mirror nowhere", "such as https://"),
        ("--mirror ftp://127.0.0.1/LaMP", "such as https://"),
        ("--mirror http://127.0.0.1:port", "no address"),
        ("--mirror http://me:secret@127.0.0.1/", "user name"),
        ("--mirror http://127.0.0.1/?a=b", "`?`"),
    ],
)
def test_mistakes_are_one_clear_line(server: Server, tmp_path: Path, mistake: str, word: str):
    with pytest.raises(InputError, match=re.escape(word)) as caught:
        call(*words(server, tmp_path, *mistake.split()))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not server.asked


def test_a_data_dir_that_is_a_file_is_a_mistake(server: Server, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--data-dir"):
        run(server, tmp_path / "file")
