"""LaMP-6 from zips of mails as a corpus has them, and as an attacker or a bad disk would."""

from __future__ import annotations

import argparse
import base64
import json
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamp_exp.data import avocado, load
from lamp_exp.data.avocado import mail_name
from lamp_exp.data.corpus import Corpus, Limits, Missing, find_zips
from lamp_exp.data.mail import html_text, read_mail
from lamp_exp.errors import InputError
from lamp_exp.tasks.lamp6 import Lamp6

TEXT = "avocado-1.0.2/data/text"


def mail(body: str = "Hello\n", subject: str | None = "A subject", *headers: str) -> bytes:
    lines = ["From: Ann <ann@avocadoit.com>", "Date: Mon, 5 Mar 2001 10:00:00 -0800", *headers]
    lines += [] if subject is None else [f"Subject: {subject}"]
    return ("\n".join(lines) + "\n\n" + body).encode()


PLAIN = {f"026/026-{n:06}-EM.txt": mail(f"\nBody {n}\n\nAnn\n\n", f"Subject {n}") for n in range(9)}


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Callable[..., Path]:
    """Writes zips, each given as its members, and returns the corpus's folder."""

    def write(folder: str = TEXT, /, **zips: dict[str, bytes] | bytes) -> Path:
        place = tmp_path / "LDC2015T03" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, members in zips.items():
            if isinstance(members, bytes):
                (place / f"{name}.zip").write_bytes(members)
                continue
            with zipfile.ZipFile(place / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in members.items():
                    archive.writestr(member, content)
        return tmp_path / "LDC2015T03"

    return write


def question(id: str, name: str, *items: str, **more: str) -> dict[str, Any]:
    profile = [{"id": f"{id}{n}", "text": item, **more} for n, item in enumerate(items)]
    return {"id": id, "input": f"{avocado.INSTRUCTION} {name}", "profile": profile, **more}


QUESTIONS = [
    question("a", "026-000000-EM", "026-000001-EM", "026-000002-EM.txt"),
    question("b", "026-000003-EM.txt", "026-000001-EM"),
]


def run(corpus: Path, data: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    avocado.add_arguments(parser)
    return avocado.run(
        parser.parse_args(["--avocado", str(corpus), "--data-dir", str(data), *words])
    )


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def read(content: bytes) -> tuple[str, str, set[str]]:
    found, notes = read_mail(content)
    return found.subject, found.body, {note.split()[-1] for note in notes}


def corpus_of(path: Path, *names: str, limits: Limits | None = None) -> Corpus:
    found = Corpus(names, limits)
    found.read(find_zips(path))
    return found


# --- the command ---


@pytest.mark.parametrize("split", ["user", "time"])
def test_completed_files_are_read_as_lamp_6(split: str, corpus_dir, data_dir, capsys):
    dates = {"date": "2001-03-05"} if split == "time" else {}
    rows = [question("a", "026-000000-EM", "026-000001-EM", "026-000002-EM.txt", **dates)]
    rows += [question("b", "026-000003-EM.txt", "026-000001-EM", **dates), question("c", *["1-4"])]
    rows[2]["input"] = "026-000004-EM.txt"  # without the wording, as the official script reads it
    golds = {"task": "LaMP_6", "golds": [{"id": id, "output": "?"} for id in "abc"]}
    folder = data_dir("LaMP_6", "dev", rows, golds, time=split == "time")
    assert run(corpus_dir(one=PLAIN), folder) == 0
    part = load(str(folder), Lamp6(), split, "dev")
    first, second, third = part.examples
    assert first.input == "Generate a subject for the following email: Body 0\n\nAnn"
    assert [e.target for e in part.examples] == ["Subject 0", "Subject 3", "Subject 4"]
    assert [item.id for item in first.profile] == ["a0", "a1"]
    assert [dict(item.fields) for item in first.profile] == [
        {"text": f"Body {n}\n\nAnn", "title": f"Subject {n}", **dates} for n in (1, 2)
    ]
    assert second.profile[0].fields["title"] == "Subject 1"
    assert third.profile == ()
    assert (first.date is not None) == (split == "time")
    assert Lamp6().query(third.input).startswith("Body 4")
    assert "3 questions, 3 items" in capsys.readouterr().out


def test_both_splits_and_all_parts_at_once_or_only_some(corpus_dir, data_dir):
    corpus = corpus_dir(one=PLAIN)
    for in_time in (False, True):
        for part in ("train", "dev", "test"):
            folder = data_dir("LaMP_6", part, QUESTIONS, time=in_time)
    assert run(corpus, folder, "--split", "time", "--part", "dev") == 0
    kept = {name for name in files(folder) if ".orig." in name}
    assert kept == {"time/LaMP_6/dev/dev_questions.orig.json"}
    assert run(corpus, folder) == 0
    kept = {name for name in files(folder) if ".orig." in name}
    assert len(kept) == 6
    outputs = {name for name in files(folder) if name.endswith("outputs.json")}
    assert len(outputs) == 4
    assert not any("test" in name for name in outputs), "as the benchmark, no golds for test"
    for split in ("user", "time"):
        assert not load(str(folder), Lamp6(), split, "test").has_golds
        assert load(str(folder), Lamp6(), split, "train").examples[1].target == "Subject 3"


def test_it_can_be_repeated_and_nothing_changes(corpus_dir, data_dir, capsys):
    golds = {"task": "LaMP_6", "golds": [{"id": "a", "output": ""}, {"id": "b", "output": ""}]}
    folder = data_dir("LaMP_6", "dev", QUESTIONS, golds)
    before = files(folder)
    corpus = corpus_dir(one=PLAIN)
    assert run(corpus, folder) == 0
    once = files(folder)
    assert once["LaMP_6/dev/dev_questions.orig.json"] == before["LaMP_6/dev/dev_questions.json"]
    assert once["LaMP_6/dev/dev_outputs.orig.json"] == before["LaMP_6/dev/dev_outputs.json"]
    assert len(once) == 4, "nothing else is left"
    assert run(corpus, folder) == 0
    assert files(folder) == once
    (folder / "LaMP_6/dev/dev_questions.json").unlink()  # as if killed between two renames
    (folder / "LaMP_6/dev/.dev_questions.json.making-1").write_text("[")
    assert run(corpus, folder) == 0
    assert files(folder) == once


def test_files_that_hold_mails_are_left_alone(tmp_path: Path, data_dir, capsys):
    rows = [question("a", "Dear Bob, see you", "26"), question("b", "Dear Bob, bye", "Hi there")]
    folder = data_dir("LaMP_6", "dev", [*rows, question("c", "42")])  # a mail may be one word
    before = files(folder)
    assert run(tmp_path / "nowhere", folder) == 0
    assert files(folder) == before
    assert "complete already" in capsys.readouterr().out


@pytest.mark.parametrize("drop", [False, True])
def test_missing_mails_are_told_and_dropped_only_if_asked(drop: bool, corpus_dir, data_dir, capsys):
    rows = [*QUESTIONS, question("c", "026-999999-EM"), question("d", "026-000004-EM", "026-8-EM")]
    untouched = data_dir("LaMP_6", "train", QUESTIONS)
    folder = data_dir("LaMP_6", "dev", rows)
    before = files(folder)
    corpus = corpus_dir(one=PLAIN)
    assert run(corpus, folder, *["--drop-missing"] * drop) == (0 if drop else 1)
    out = capsys.readouterr().out
    assert "2 mails or subjects missing: '026-8-EM', '026-999999-EM'" in out
    listed = (folder / "LaMP_6/missing_mails.txt").read_text()
    assert listed.splitlines() == [
        "dev\t026-8-EM\tnot in any zip", "dev\t026-999999-EM\tnot in any zip"
    ]  # fmt: skip
    assert len(load(str(untouched), Lamp6(), "user", "train").examples) == 2, "others are whole"
    if drop:
        part = load(str(folder), Lamp6(), "user", "dev")
        assert [e.id for e in part.examples] == ["a", "b", "d"]
        assert part.examples[2].profile == ()
        assert "completed: 3 questions, 3 items" in out
        assert "1 question left out" in out and "1 item left out" in out
    else:
        now = files(folder)
        assert all(now[name] == content for name, content in before.items() if "dev" in name)
        assert "LaMP_6/dev/dev_questions.orig.json" not in now
        assert "not completed" in out
        corpus_dir(two={"999/026-999999-EM.txt": mail(), "999/026-8-EM.txt": mail()})
        assert run(corpus, folder) == 0
        assert not (folder / "LaMP_6/missing_mails.txt").exists(), "the list is of the last run"


def test_no_subject_means_no_gold_but_only_where_one_is_needed(corpus_dir, data_dir, capsys):
    corpus = corpus_dir(one={"026-1-EM.txt": mail("Hi", None), "026-2-EM.txt": mail("")})
    rows = [question("a", "026-1-EM", "026-2-EM"), question("b", "026-2-EM", "026-1-EM")]
    folder = data_dir("LaMP_6", "test", rows)
    assert run(corpus, folder) == 0
    out = capsys.readouterr().out
    assert "1 without a subject" in out and "1 without a text" in out
    folder = data_dir("LaMP_6", "dev", rows)
    assert run(corpus, folder, "--part", "dev") == 1
    assert "026-1-EM\tno subject" in (folder / "LaMP_6/missing_mails.txt").read_text()
    assert run(corpus, folder, "--part", "dev", "--drop-missing") == 0
    (only,) = load(str(folder), Lamp6(), "user", "dev").examples
    assert only.id == "b" and only.profile[0].fields["title"] == ""


def test_a_part_of_which_nothing_would_be_left_is_not_written(corpus_dir, data_dir, capsys):
    folder = data_dir("LaMP_6", "dev", [question("a", "026-77-EM")])
    before = (folder / "LaMP_6/dev/dev_questions.json").read_bytes()
    assert run(corpus_dir(one=PLAIN), folder, "--drop-missing") == 1
    assert "nothing would be left" in capsys.readouterr().out
    assert (folder / "LaMP_6/dev/dev_questions.json").read_bytes() == before


@pytest.mark.parametrize(
    "folder",
    [TEXT, f"Data/{TEXT}", "data/text", "text", "."],
)
def test_the_zips_are_found_below_or_in_the_folder_given(folder: str, corpus_dir, tmp_path):
    corpus = corpus_dir(folder, b=PLAIN, a={})
    (corpus / folder / "README.txt").write_text("no zip")
    (corpus / folder / "b.zip").rename(corpus / folder / "b.ZIP")
    (corpus / folder / "c.zip").mkdir()
    assert [path.name for path in find_zips(corpus)] == ["a.zip", "b.ZIP"]
    assert [path.name for path in find_zips(corpus / folder)] == ["a.zip", "b.ZIP"]


def test_mistakes_are_one_clear_line(corpus_dir, data_dir, tmp_path: Path):
    with pytest.raises(InputError, match="no questions of LaMP_6"):
        run(tmp_path, tmp_path)
    folder = data_dir("LaMP_6", "dev", QUESTIONS)
    with pytest.raises(InputError, match=r"no zips in .*avocado-1\.0\.2"):
        run(tmp_path / "nowhere", folder)
    with pytest.raises(InputError, match="LaMP_6 test"):
        run(tmp_path, folder, "--part", "test", "--part", "dev")
    with pytest.raises(InputError, match="LaMP_6 time"):
        run(tmp_path, folder, "--split", "time")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "cannot be read as JSON"),
        ("[]", "there are no questions"),
        ('[{"id": "a"}]', "question 1 .*`input` must be text"),
        ('[{"id": true, "input": "1-2"}]', "`id`"),
        ('[{"id": "a", "input": "1-2"}]', "`profile`"),
        ('[{"id": "a", "input": NaN, "profile": []}]', "`input` must be text"),
        ('[{"id": "a", "input": "1-2", "profile": [3]}]', "profile item 1 must be"),
        (
            '[{"id": "a", "input": "1-2", "profile": [{"id": "b", "text": "x y"}]}]',
            "no mail's name",
        ),
    ],
)
def test_broken_questions_are_one_clear_line(content: str, words: str, corpus_dir, data_dir):
    folder = data_dir("LaMP_6", "dev", [])
    (folder / "LaMP_6/dev/dev_questions.json").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        run(corpus_dir(one=PLAIN), folder)
    assert "\n" not in str(caught.value)
    assert list(files(folder)) == ["LaMP_6/dev/dev_questions.json"]


def test_the_wording_and_the_name_are_the_tasks():
    assert Lamp6().instruction == avocado.INSTRUCTION
    assert Lamp6().folders[0] == Lamp6().name == avocado.TASK


def test_names_are_told_from_mails():
    assert mail_name("026-003413-EM") == "026-003413-EM"
    assert mail_name(f"{avocado.INSTRUCTION} 026/026-003413-EM.txt\n") == "026-003413-EM.txt"
    for text in ("Dear Bob 12", "hello", "", "1" * 10**6, "../", "1\n2", "é1"):
        assert mail_name(text) is None


# --- the zips ---


def test_a_name_is_found_with_and_without_extension_in_any_folder(corpus_dir):
    members = {"a/b/c/x-1-EM.txt": mail("deep"), "x-2-EM": mail("flat"), "d\\x-3-EM.eml": mail("w")}
    corpus = corpus_of(corpus_dir(one=members), "x-1-EM", "x-2-EM.txt", "x-3-EM.eml")
    assert [corpus.find(f"x-{n}-EM").body for n in (1, 2, 3)] == ["deep", "flat", "w"]
    assert corpus.find("x-1-EM.txt").body == "deep"
    corpus.close()


def test_copies_are_counted_and_different_mails_of_one_name_are_ambiguous(corpus_dir):
    one = {"a/x-1.txt": mail("same"), "a/x-2.txt": mail("this"), "a/x-3.txt": mail("text")}
    two = {"b/x-1.txt": mail("same"), "b/x-2.txt": mail("that"), "b/x-3.html": mail("other")}
    corpus = corpus_of(corpus_dir(one=one, two=two), "x-1", "x-2", "x-3.txt", "x-3")
    assert corpus.find("x-1").body == "same"
    assert corpus.find("x-3.txt").body == "text", "the extension decides"
    for name in ("x-2", "x-3"):
        with pytest.raises(Missing, match="ambiguous: 2 different mails.*'one.zip', 'two.zip'"):
            corpus.find(name)
    assert "3 more copies" in "\n".join(corpus.report())
    corpus.close()


def test_only_what_is_referred_to_is_read(corpus_dir):
    path = corpus_dir(one={**PLAIN, "026/evil.txt": b"\0" * 30_000_000})
    corpus = corpus_of(path, "026-000001-EM")
    assert corpus.bytes == len(PLAIN["026/026-000001-EM.txt"])
    assert not corpus.faults
    corpus.close()


def test_zip_bombs_are_refused_and_cost_no_memory(corpus_dir):
    bombs = {"1/x-1.txt": b"\0" * 30_000_000, "1/x-2.txt": b"\0" * 2_000_000, "1/x-3.txt": mail()}
    path = corpus_dir(one=bombs)
    tracemalloc.start()
    corpus = corpus_of(path, "x-1", "x-2", "x-3")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert corpus.find("x-3").body == "Hello"
    with pytest.raises(Missing, match="member larger than"):
        corpus.find("x-1")
    with pytest.raises(Missing, match="200 times larger than compressed"):
        corpus.find("x-2")
    corpus.close()


def test_a_size_that_lies_and_too_much_in_all_are_refused(corpus_dir):
    path = corpus_dir(one={"x-1.txt": mail("y" * 5000)}, two={"x-2.txt": mail(), "x-3.txt": mail()})
    zip = path / TEXT / "one.zip"
    size = struct.pack("<I", len(mail("y" * 5000)))
    assert zip.read_bytes().count(size) == 2
    zip.write_bytes(zip.read_bytes().replace(size, struct.pack("<I", 50)))
    corpus = corpus_of(path, "x-1", "x-2", "x-3", limits=Limits(total=len(mail()) + 50))
    with pytest.raises(Missing, match="cannot be read"):
        corpus.find("x-1")
    assert corpus.find("x-2").body == "Hello"
    with pytest.raises(Missing, match="beyond .* bytes in all"):
        corpus.find("x-3")
    corpus.close()


def test_tricks_with_paths_are_refused_and_counted(corpus_dir):
    names = ["/etc/x-1.txt", "a/../../x-2.txt", "C:\\x-3.txt", "..\\x-4.txt", "c:/x-5.txt"]
    path = corpus_dir(one={name: mail() for name in names})
    link = zipfile.ZipInfo("a/x-6.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path / TEXT / "one.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    wanted = [f"x-{n}" for n in range(1, 7)]
    corpus = corpus_of(path, *wanted)
    for name in wanted:
        with pytest.raises(Missing, match="member refused for its path"):
            corpus.find(name)
    told = "\n".join(corpus.report())
    assert "6 members refused for their path" in told and "…" in told and "/etc/x-1.txt" in told
    corpus.close()


def encrypted(content: bytes) -> bytes:
    """A zip whose members say that they are encrypted."""
    zip = bytearray(content)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = zip.find(signature)
        while at >= 0:
            zip[at + offset] |= 1
            at = zip.find(signature, at + 1)
    return bytes(zip)


def test_what_is_encrypted_or_corrupt_is_named_and_the_rest_is_read(corpus_dir, data_dir, capsys):
    path = corpus_dir(good=PLAIN, secret={"x-1-EM.txt": mail()}, broken={"x-2-EM.txt": mail()})
    text = path / TEXT
    (text / "secret.zip").write_bytes(encrypted((text / "secret.zip").read_bytes()))
    content = bytearray((text / "broken.zip").read_bytes())
    content[45] ^= 0xFF  # in the member's data
    (text / "broken.zip").write_bytes(bytes(content))
    corpus_dir(cut=bytes(content[:60]), none=b"", page=b"<html>Please log in</html>")
    with zipfile.ZipFile(text / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x-3-EM.txt", mail())
    names = [f"x-{n}-EM" for n in (1, 2, 3)]
    folder = data_dir("LaMP_6", "dev", [*QUESTIONS, question("c", "026-000005-EM", *names)])
    assert run(path, folder) == 1
    out = capsys.readouterr().out
    assert "1 encrypted member: 'secret.zip: x-1-EM.txt'" in out
    assert "1 member that cannot be read: " in out and "broken.zip: x-2-EM.txt (" in out
    assert "1 member compressed by an unknown method: 'lzma.zip: x-3-EM.txt'" in out
    assert "3 zips that cannot be read: " in out
    assert all(name in out for name in ("'cut.zip (", "'none.zip (", "'page.zip ("))
    assert "encrypted" in (folder / "LaMP_6/missing_mails.txt").read_text()
    assert run(path, folder, "--drop-missing") == 0
    assert len(load(str(folder), Lamp6(), "user", "dev").examples) == 3


def test_a_zip_broken_at_any_byte_ends_in_no_traceback(corpus_dir, tmp_path: Path):
    path = corpus_dir(one={"a/x-1.txt": mail(), "a/x-2.txt": mail("\xe4" * 99)}) / TEXT / "one.zip"
    whole = path.read_bytes()
    for at in range(0, len(whole)):
        for broken in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(broken)
            corpus = Corpus(["x-1", "x-2"])
            corpus.read([path])
            assert corpus.report()
            corpus.close()


# --- a mail ---


def test_a_plain_mail_with_folded_headers_and_crlf():
    content = mail("\n\nLine one\nLine two\n\n-- \nAnn\n", "A long\n\tsubject that\n  goes on")
    expected = ("A long subject that goes on", "Line one\nLine two\n\n-- \nAnn", set())
    assert read(content) == expected
    assert read(content.replace(b"\n", b"\r\n")) == expected
    assert read(b"\xef\xbb\xbf" + content) == expected


@pytest.mark.parametrize(
    ("header", "charset", "guessed"),
    [
        ('; charset="utf-8"', "utf-8", False),
        ("; charset=iso-8859-1", "iso-8859-1", False),
        ("; charset=windows-1252", "windows-1252", False),
        ("; charset=ISO-2022-JP", "iso-2022-jp", False),
        ("", "utf-8", True),
        ("", "windows-1252", True),
        ("; charset=us-ascii", "iso-8859-1", True),
        ("; charset=utf-8", "windows-1252", True),
        ("; charset=x-no-such", "utf-8", True),
        ("; charset=punycode", "utf-8", True),
        ("; charset=hex", "windows-1252", True),
        ('; charset="\0"', "utf-8", True),
    ],
)
@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_bodies_in_several_charsets(header: str, charset: str, guessed: bool, encoding: str):
    text = "あいう" if "2022" in charset else "Grüße für 5 é"
    raw = text.encode(charset)
    if encoding == "base64":
        raw = base64.encodebytes(raw)
    elif encoding == "quoted-printable":
        raw = b"".join(b"=%02X" % byte for byte in raw)
    headers = [f"Content-Type: text/plain{header}", f"Content-Transfer-Encoding: {encoding}"]
    subject, body, notes = read(mail("", "Hi", "MIME-Version: 1.0", *headers) + raw)
    assert (subject, body) == ("Hi", text)
    assert notes == ({"charset"} if guessed else set())


@pytest.mark.parametrize(
    ("raw", "subject", "guessed"),
    [
        (b"=?iso-8859-1?Q?Gr=FC=DFe?= to =?utf-8?B?w5ZzdGVycmVpY2g=?=", "Grüße to Österreich", 0),
        (b"=?utf-8?Q?one_?=\n =?utf-8?Q?word?=", "one word", 0),
        (b"=?windows-1252?Q?=93quoted=94?=", "“quoted”", 0),
        ("Grüße".encode(), "Grüße", 1),
        ("Grüße".encode("latin-1"), "Grüße", 1),
        (b"=?x-no-such?Q?Gr=FC=DFe?=", "Gr��e", 1),
        (b"=?utf-8?Q?broken", "=?utf-8?Q?broken", 0),
        (b"=?utf-8?Q?two=0Alines?=", "two lines", 0),
    ],
)  # fmt: skip
def test_encoded_and_raw_subjects(raw: bytes, subject: str, guessed: int):
    assert read(b"Subject: " + raw + b"\n\nHi\n") == (
        subject,
        "Hi",
        {"charset"} if guessed else set(),
    )


def parts(kind: str, *parts: str) -> bytes:
    inner = "".join(f"--=_B\n{part}\n" for part in parts)
    header = f'Content-Type: multipart/{kind}; boundary="=_B"'
    return mail(f"preamble\n{inner}--=_B--\nepilogue\n", "S", "MIME-Version: 1.0", header)


PLAIN_PART = "Content-Type: text/plain\n\nPlain text"
HTML_PART = "Content-Type: text/html\n\n<p>Marked <b>up</b></p>"
ATTACHED = 'Content-Type: text/plain\nContent-Disposition: attachment; filename="a.txt"\n\nsecret'
NAMED = 'Content-Type: text/plain; name="b.txt"\nContent-Disposition: inline\n\nsecret'
FORWARDED = "Content-Type: message/rfc822\n\nSubject: other\n\nother text"


@pytest.mark.parametrize(
    ("content", "body", "html"),
    [
        (parts("alternative", PLAIN_PART, HTML_PART), "Plain text", False),
        (parts("alternative", HTML_PART, PLAIN_PART), "Plain text", False),
        (parts("alternative", HTML_PART), "Marked up", True),
        (parts("alternative", "Content-Type: text/plain\n\n ", HTML_PART), "Marked up", False),
        (parts("mixed", PLAIN_PART, ATTACHED, NAMED, FORWARDED), "Plain text", False),
        (parts("mixed", ATTACHED, HTML_PART), "Marked up", True),
        (parts("mixed", HTML_PART, "\nA footer"), "Marked up\nA footer", False),
        (parts("related", HTML_PART, "Content-Type: image/png\n\n\x01"), "Marked up", True),
        (parts("mixed", 'Content-Type: multipart/alternative; boundary="in"\n\n'
               f"--in\n{PLAIN_PART}\n--in\n{HTML_PART}\n--in--\n", ATTACHED), "Plain text", False),
        (mail("no parts", "S", "Content-Type: multipart/mixed"), "no parts", False),
        (mail("x", "S", "Content-Type: nonsense"), "x", False),
        (mail("x", "S", "Content-Transfer-Encoding: base64"), "x", None),
    ],
)  # fmt: skip
def test_plain_text_is_preferred_and_attachments_are_ignored(content: bytes, body: str, html: bool):
    subject, found, notes = read(content)
    assert subject == "S"
    assert html is None or (found, "only" in notes) == (body, html)


def test_missing_subjects_and_texts_are_noted():
    assert read(mail("Hi", None)) == ("", "Hi", {"subject"})
    assert read(mail("Hi", "  ")) == ("", "Hi", {"subject"})
    assert read(mail(" \n\n")) == ("A subject", "", {"text"})
    assert read(b"") == ("", "", {"subject", "text"})
    assert read(mail("{}", "S", "Content-Type: application/pdf")) == ("S", "", {"text"})


def test_html_becomes_text():
    html = """<!DOCTYPE html><html><head><title>Not this</title><style>p {color: red}</style>
    <script>if (a < b) { alert("<p>nor this</p>") }</script></head><!-- nor <b>that</b> -->
    <body bgcolor="#fff"><h1>Dear&nbsp;Bob,</h1><p class=x>5 &lt; 6 &amp;
    7 &gt; 2<br/>caf&eacute; &#8364;</p><![if !supportEmptyParas]><div>one<td>two</div><![endif]>
    3 < 4 and <ann@example.com></body></html>"""
    assert html_text(html).splitlines() == [
        "Dear Bob,", "5 < 6 & 7 > 2", "café €", "onetwo", "3 < 4 and <ann@example.com>"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<a ", "<a b='", "<a b='>'", "<![if>", "<![x[", "<![", "<?", "</", "<", "<p>", "<aa"],
)
def test_hostile_html_takes_no_long_time(piece: str):
    start = time.perf_counter()
    html_text(piece * 20_000)
    assert time.perf_counter() - start < 2, "it was quadratic"


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: " + b"(" * 9_000 + b"\n\nx",
        b"Content-Type: text/plain; " + b"a=b; " * 9_000 + b"\n\nx",
        b"Subject: " + b"=?utf-8?q?a?= " * 900 + b"\n\nx",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(999)
        ),
    ],
)
def test_hostile_mails_are_counted_as_unreadable(content: bytes, corpus_dir):
    corpus = corpus_of(corpus_dir(one={"x-1.txt": content}), "x-1")
    assert "1 mail that cannot be read: " in "\n".join(corpus.report())
    with pytest.raises(Missing, match="mail that cannot be read.*one.zip"):
        corpus.find("x-1")
    corpus.close()


def test_any_bytes_are_a_mail_or_unreadable(corpus_dir):
    seeds = [parts("alternative", PLAIN_PART, HTML_PART), mail("é", "=?utf-8?q?a?="), bytes(256)]
    members = {}
    for number, seed in enumerate(seeds):
        for at in range(0, len(seed), 3):
            for byte in (b"\0", b"\xff", b"\n", b"="):
                members[f"x-{number}-{at}-{byte[0]}.txt"] = seed[:at] + byte + seed[at + 1 :]
    corpus = corpus_of(corpus_dir(one=members), *members)
    for name in members:
        found = corpus.find(name)
        json.dumps([found.subject, found.body], ensure_ascii=False).encode()
    corpus.close()


def test_lone_surrogates_never_reach_a_file(corpus_dir, data_dir):
    content = mail("+2AA-", "S", "Content-Type: text/plain; charset=utf-7")
    folder = data_dir("LaMP_6", "dev", [question("a", "x-1")])
    assert run(corpus_dir(one={"x-1.txt": content}), folder) == 0
    assert load(str(folder), Lamp6(), "user", "dev").examples[0].input.endswith("?")
