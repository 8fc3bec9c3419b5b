"""Bringing files over HTTP: interrupted, gone on with, refused, asked again, killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import pytest

from lamp_exp.data.fetch import Fetcher, Wanted
from lamp_exp.data.retry import Patience, seconds_asked
from tests.file_server import (
    DEV,
    GOLDS,
    MODIFIED,
    Server,
    Trick,
    leftovers,
    made,
    question,
    run,
    words,
)

# --- interrupted, and gone on with ---


def test_what_breaks_off_is_gone_on_with_in_the_same_run(server: Server, tmp_path: Path):
    server.tricks = [Trick(stop=1000), Trick(stop=1000), Trick(stop=1000), Trick(stop=1000)]
    assert run(server, tmp_path) == 0  # four failures, but each of them brought something
    assert [a.range for a in server.gets()] == [None, *(f"bytes={n}000-" for n in (1, 2, 3, 4))]
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]
    assert server.sent == len(server.files[DEV]) + len(server.files[GOLDS])
    assert not leftovers(tmp_path)


def test_the_next_run_goes_on(server: Server, tmp_path: Path, capsys):
    server.tricks = [Trick(stop=1000)]
    assert run(server, tmp_path, "--retries", "0") == 1
    assert "broke" in (told := capsys.readouterr().out) or "closed" in told
    assert not (tmp_path / DEV).exists()
    assert leftovers(tmp_path) == ["dev_questions.json.part", "dev_questions.json.part.origin"]
    assert run(server, tmp_path) == 0
    assert server.gets()[-1].range == "bytes=1000-"
    assert server.gets()[-1].if_range == server.etag(server.files[DEV])
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def broken_off(server: Server, data: Path) -> None:
    server.tricks = [Trick(stop=1000)]
    assert run(server, data, "--retries", "0") == 1
    server.asked.clear()


def alike(text: str, rows: int = 40) -> bytes:
    """Contents that are whole JSON even if the beginning of one meets the end of another."""
    return json.dumps([question(input=text * 100) for _ in range(rows)]).encode()


@pytest.mark.parametrize("rows", [40, 41])
@pytest.mark.parametrize("trick", [Trick(), Trick(blind=True), Trick(deaf=True)])
def test_a_file_that_changed_is_not_glued(server: Server, tmp_path: Path, trick: Trick, rows: int):
    server.files[DEV] = alike("old")
    broken_off(server, tmp_path)
    server.files[DEV] = alike("new", rows)
    server.tricks = [trick]
    assert run(server, tmp_path) == 0
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]
    assert len(server.gets()) == 1 + trick.blind  # 206 of another version: asked once more


def test_a_change_of_size_alone_is_seen(server: Server, tmp_path: Path):
    server.etag, server.files[DEV] = lambda body: '"always the same"', alike("old")
    broken_off(server, tmp_path)
    server.files[DEV] = alike("new", 41)
    assert run(server, tmp_path) == 0
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


@pytest.mark.parametrize("runs", [1, 2])
def test_a_change_that_the_server_hides_is_seen_in_the_content(
    server: Server, tmp_path: Path, runs: int
):
    server.etag = lambda body: '"always the same"'
    other = json.dumps([question(input="x" * 5000)]).encode()
    other = other.ljust(len(server.files[DEV]))  # with the old beginning: no JSON
    if runs == 2:
        broken_off(server, tmp_path)
        server.files[DEV] = other
    else:
        server.tricks = [Trick(stop=1000), Trick(body=other), Trick(body=other)]
    assert run(server, tmp_path) == 0
    assert [a.range for a in server.gets()][-2:] == ["bytes=1000-", None]
    assert (tmp_path / DEV).read_bytes() == other


def test_a_server_may_send_less_than_the_rest(server: Server, tmp_path: Path):
    server.tricks = [Trick(stop=1000), Trick(short=500), Trick(short=500)]
    assert run(server, tmp_path) == 0
    assert [a.range for a in server.gets()][1:] == ["bytes=1000-", "bytes=1500-", "bytes=2000-"]
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server: Server, tmp_path: Path):
    server.tricks = [Trick(stop=1000), Trick(deaf=True)]
    assert run(server, tmp_path) == 0
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def test_without_anything_that_names_a_version_it_is_begun_anew(server: Server, tmp_path: Path):
    server.etag, server.modified = lambda body: 'W/"weak"', None
    broken_off(server, tmp_path)
    assert run(server, tmp_path) == 0
    assert server.gets()[-1].range is None


def test_a_date_names_a_version_where_the_etag_is_weak(server: Server, tmp_path: Path):
    server.etag = lambda body: 'W/"weak"'
    broken_off(server, tmp_path)
    assert run(server, tmp_path) == 0
    assert (server.gets()[-1].range, server.gets()[-1].if_range) == ("bytes=1000-", MODIFIED)


@pytest.mark.parametrize("note", [None, "", '{"address": "http', "null", '{"odd": 1}'])
def test_bytes_of_unknown_origin_are_not_used(server: Server, tmp_path: Path, note: str | None):
    broken_off(server, tmp_path)
    path = tmp_path / f"{DEV}.part.origin"
    path.unlink() if note is None else path.write_text(note)
    assert run(server, tmp_path) == 0
    assert server.gets()[-1].range is None
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


def test_bytes_of_another_mirror_are_not_used(server: Server, tmp_path: Path):
    broken_off(server, tmp_path)
    path = tmp_path / f"{DEV}.part.origin"
    path.write_text(path.read_text().replace("127.0.0.1", "127.0.0.2"))
    assert run(server, tmp_path) == 0
    assert server.gets()[-1].range is None


def test_a_whole_part_only_needs_its_name(server: Server, tmp_path: Path):
    broken_off(server, tmp_path)
    (tmp_path / f"{DEV}.part").write_bytes(server.files[DEV])
    assert run(server, tmp_path) == 0
    assert not server.gets()
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


@pytest.mark.parametrize("whole", [False, True])
def test_a_part_that_a_power_cut_broke_is_begun_anew(server: Server, tmp_path: Path, whole: bool):
    broken_off(server, tmp_path)
    size = len(server.files[DEV]) if whole else 1000
    (tmp_path / f"{DEV}.part").write_bytes(bytes(size))
    assert run(server, tmp_path) == 0
    assert [a.range for a in server.gets()] == [*([] if whole else ["bytes=1000-"]), None]
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]


# --- lengths


@pytest.mark.parametrize("lie", [-100, 100])
def test_a_wrong_length_is_never_accepted(server: Server, tmp_path: Path, lie: int):
    server.usual = Trick(lie=lie)
    assert run(server, tmp_path) == 1
    assert not (tmp_path / DEV).exists()
    assert len(server.gets()) == (1 if lie < 0 else 3)


def test_a_file_without_a_length_is_not_accepted(server: Server, tmp_path: Path, capsys):
    server.usual = Trick(mute=True)
    assert run(server, tmp_path) == 1
    assert "tells no length" in capsys.readouterr().out
    assert not (tmp_path / DEV).exists()


# --- patience ---


def test_retry_after_is_honoured(server: Server, tmp_path: Path):
    server.tricks = [Trick(status=503, retry_after="1")]
    begun = time.monotonic()
    assert run(server, tmp_path) == 0
    assert time.monotonic() - begun >= 1
    assert len(server.gets()) == 2


def test_nobody_waits_for_hours(server: Server, tmp_path: Path, capsys):
    server.usual = Trick(status=429, retry_after="7200")
    assert run(server, tmp_path) == 1
    assert len(server.gets()) == 1
    assert "asks to wait 7200 s" in capsys.readouterr().out


def test_what_retry_after_may_hold():
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert seconds_asked("120") == 120
    assert 90 < seconds_asked(format_datetime(soon, usegmt=True)) <= 100
    assert 90 < seconds_asked(soon.strftime("%a, %d %b %Y %H:%M:%S -0000")) <= 100
    assert seconds_asked(MODIFIED) == 0
    assert [seconds_asked(odd) for odd in ("", "soon", "-5", "²")] == [0, 0, 0, 0]


def test_waits_double_and_differ():
    waits = [[Patience(5, 1.0).wait(n) for _ in range(20)] for n in (1, 2, 3, 50, 5000)]
    for most, some in zip((1, 2, 4, 60, 60), waits, strict=True):
        assert most / 2 <= min(some) < max(some) <= most


@pytest.mark.parametrize("status", [403, 404, 410, 204, 206])
def test_a_plain_no_is_not_asked_again_and_the_others_go_on(
    server: Server, tmp_path: Path, capsys, status: int
):
    server.tricks = [Trick(status=status)]
    assert run(server, tmp_path) == 1
    assert len(server.gets()) == 1
    assert f"answered {status}" in capsys.readouterr().out
    assert (tmp_path / GOLDS).exists()


def test_a_server_that_hangs_is_left_and_asked_again(server: Server, tmp_path: Path):
    server.tricks = [Trick(hang=True)]
    assert run(server, tmp_path, "--timeout", "0.3") == 0
    assert len(server.gets()) == 2


def test_no_server_at_all_is_one_clear_line(server: Server, tmp_path: Path, capsys):
    free = Server()
    free.server_close()  # its port is closed now
    assert run(free, tmp_path) == 1
    told = capsys.readouterr()
    assert "ConnectError" in told.out
    assert told.err.count("next try in") == 2  # for the first of the two files
    assert told.out.splitlines()[-1].startswith(f"{free.url} did not answer: is there a network?")


def test_without_a_server_what_is_there_is_asked_for_once(server: Server, tmp_path: Path, capsys):
    assert run(server, tmp_path) == 0
    gone = Server()
    gone.server_close()
    capsys.readouterr()
    assert run(gone, tmp_path) == 0
    told = capsys.readouterr()
    assert told.out.count("not compared with the server") == 2
    assert told.err.count("next try in") == 2  # for the first of the two files


def test_once_the_server_answers_each_file_has_all_tries_again(monkeypatch, tmp_path: Path):
    """A server that comes back after the first file, and then fails once in a while."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(Path(request.url.path).name[0])
        if asked[-1] == "a":
            raise httpx2.ConnectError("refused")
        if asked[-1] == "c" and asked.count("c") < 3:
            return httpx2.Response(503)
        body = b'{"task": "LaMP_3", "golds": [{"id": "1", "output": "1"}]}'
        headers = {"Content-Length": str(len(body)), "ETag": '"x"'}
        return httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(body))

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        fetcher = Fetcher(client, "http://here", tmp_path, Patience(2, 1.0), force=False)
        found = [fetcher.bring(Wanted(f"LaMP_3/dev/{name}_outputs.json")) for name in "abc"]
    assert [one.state for one in found] == ["failed", "downloaded", "downloaded"], found
    assert "".join(asked) == "aaabccc"


# --- disk and locks


def test_a_disk_that_refuses_fails_that_file_only(server: Server, tmp_path: Path, capsys):
    (tmp_path / DEV / "in the way").mkdir(parents=True)
    assert run(server, tmp_path) == 1
    assert "directory" in capsys.readouterr().out
    assert (tmp_path / GOLDS).exists()


def test_two_downloads_at_once_are_one(server: Server, tmp_path: Path, capsys):
    server.usual = Trick(pause=0.01)
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(run(server, tmp_path))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0]
    assert (len(server.gets(DEV)), len(server.gets(GOLDS))) == (1, 1)
    assert (tmp_path / DEV).read_bytes() == server.files[DEV]
    assert "by another process: waiting" in capsys.readouterr().err


# --- killed ---

COMMAND = """
import argparse
from lamp_exp.data import download
from lamp_exp.tasks import all_tasks
parser = argparse.ArgumentParser()
download.add_arguments(parser)
raise SystemExit(download.run(parser.parse_args(), all_tasks()))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_is_never_half(server: Server, tmp_path: Path):
    """The server drips for some ten seconds in all; each run lives for a part of one."""
    server.files[DEV] = made("lamp3", "user", "dev", 200)[0]
    server.usual = Trick(pause=10.0 * 2000 / len(server.files[DEV]))
    chance, final = random.Random(0), tmp_path / DEV
    part = final.with_name(f"{final.name}.part")
    arguments = words(server, tmp_path, *["--task", "lamp3", "--split", "user", "--part", "dev"])
    sizes = []
    for _ in range(10):
        before = len(server.asked)
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments])
        while len(server.asked) == before:  # starting may take longer than all the rest
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not final.exists()
        sizes.append(part.stat().st_size if part.exists() else 0)
    assert sizes == sorted(sizes) and sizes[-1] > 0
    server.usual, server.sent = Trick(), 0
    told = subprocess.run([sys.executable, "-c", COMMAND, *arguments], check=False)
    assert told.returncode == 0
    assert final.read_bytes() == server.files[DEV]
    assert server.gets()[-1].range == f"bytes={sizes[-1]}-"
    assert not leftovers(tmp_path)
