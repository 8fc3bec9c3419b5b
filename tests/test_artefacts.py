"""The store of artefacts: made once, in order, whole or not at all; resumed; damage; its verbs."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lamp_exp import cache
from lamp_exp.artefacts import WORK, Artefact, Cost, KeyedArtefact, UnitWriter
from lamp_exp.errors import InputError
from lamp_exp.storage import artefacts as storage
from lamp_exp.storage.artefacts import BEGUN, CONTENT, UNITS, ArtefactStore, read_artefact
from lamp_exp.storage.atomic import DAMAGED


class Power(Exception):
    """Fails."""


@dataclass(frozen=True)
class Word(Artefact):
    """Writes a word, letter by letter; `log` holds the letters that were written."""

    kind = "word"
    text: str
    needs: tuple[Word, ...] = ()
    fails_at: int = -1
    log: list[str] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"text": self.text, "needs": [one.identity() for one in self.needs]}

    def requires(self) -> Sequence[Artefact]:
        return self.needs

    def cost(self) -> Cost:
        return Cost(len(self.text), "letter")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        for number, letter in enumerate(self.text):
            place = folder / WORK / str(number)
            if not place.exists():
                if number == self.fails_at:
                    raise Power
                self.log.append(letter)
                place.write_text(letter)
        before = [(path / "word.txt").read_text() for path in required]
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "word.txt").write_text("".join([*before, self.text]))
        (folder / "deep" / "length.txt").write_text(str(len(self.text)))
        return {"letters": len(self.text)}


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts")


def test_what_is_made_is_found_again_and_not_made_twice(store):
    word = Word("abc")
    assert store.find(word) is None
    made, again = store.make(word), store.make(word)
    assert (made.was_there, again.was_there) == (False, True)
    assert made.folder == again.folder == store.path(word)
    assert (made.folder / "word.txt").read_text() == "abc"
    assert made.facts == again.facts
    assert made.facts["letters"] == 3
    assert made.facts["seconds"] >= 0
    assert word.log == list("abc")
    assert not (made.folder / WORK).exists()
    assert read_artefact(made.folder)["identity"] == word.identity()
    assert store.path(Word("abd")) != store.path(word)


def test_what_is_required_is_made_first_and_once(store):
    low = Word("low")
    middle = [Word("a", (low,)), Word("b", (low,))]
    high = Word("high", tuple(middle))
    made = store.make(high)
    assert (made.folder / "word.txt").read_text() == "lowalowbhigh"
    assert low.log == list("low")
    assert store.path(Word("high", (Word("a"),))) != made.folder, "another requirement"


def test_what_has_failed_is_not_there_and_goes_on_from_what_it_had(store):
    broken, again = Word("abcd", fails_at=2), Word("abcd")
    with pytest.raises(Power):
        store.make(broken)
    assert store.find(broken) is None
    store.make(again)
    assert (broken.log, again.log) == (["a", "b"], ["c", "d"])
    assert [path.name for path in store.folder.iterdir() if path.suffix == BEGUN] == []


def test_killed_before_the_last_move_it_is_only_moved(store, monkeypatch):
    word, again = Word("ab"), Word("ab", fails_at=0)
    with monkeypatch.context() as patch:
        patch.setattr(storage.atomic, "replace_folder", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.make(word)
    assert store.find(word) is None
    assert store.make(again).facts["letters"] == 2
    assert again.log == []
    assert not (store.path(word) / WORK).exists()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("word.txt", "a", "word.txt is missing, or has another size"),
        ("deep/length.txt", None, "deep/length.txt is missing"),
        (CONTENT, "{", "is damaged"),
        (CONTENT, None, f"it lacks {CONTENT}"),
    ],
)
def test_what_is_damaged_is_set_aside_and_made_again(store, caplog, file, content, reason):
    place = store.make(Word("ab")).folder
    if content is None:
        (place / file).unlink()
    else:
        (place / file).write_text(content)
    assert store.find(Word("ab")) is None
    assert reason in caplog.text
    assert (place.parent / f".{place.name}{DAMAGED}").is_dir()
    assert not store.make(Word("ab")).was_there
    assert (place / "word.txt").read_text() == "ab"


class SlowWord(Word):
    """Leaves a file outside for each time that it is made."""

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        (folder.parent.parent / f"made-{time.monotonic_ns()}").touch()
        time.sleep(0.3)
        return dict(super().make(folder, required))


def test_of_two_processes_one_makes_it_and_both_have_it(store, tmp_path):
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()

    def make() -> None:
        told.put(str(store.make(SlowWord("ab")).folder))

    processes = [fork.Process(target=make) for _ in range(2)]
    for process in processes:
        process.start()
    folders = {told.get() for _ in processes}
    for process in processes:
        process.join()
    assert folders == {str(store.path(SlowWord("ab")))}
    assert len(list(tmp_path.glob("made-*"))) == 1


def test_where_nothing_can_be_written_one_line_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"word cannot be kept: .* cannot be written"):
        ArtefactStore(tmp_path / "file" / "artefacts").make(Word("ab"))


# Units by key.


@dataclass(frozen=True)
class Letters(KeyedArtefact):
    """A unit per letter."""

    kind = "letters"
    keys: str
    fails_at: str = ""
    log: list[str] = field(default_factory=list)
    store: ArtefactStore | None = None

    def identity(self) -> dict[str, Any]:
        return {"of": "letters"}

    def unit_keys(self) -> Sequence[str]:
        return list(dict.fromkeys(self.keys))

    def cost(self) -> Cost:
        return Cost(len(self.unit_keys()), "letter")

    def make_units(
        self, keys: Sequence[str], write: UnitWriter, required: Sequence[Path]
    ) -> Mapping[str, Any]:
        for key in keys:
            with write.unit(key) as folder:
                (folder / "letter.txt").write_text(key)
                if key == self.fails_at:
                    raise Power
                if self.store:
                    assert self.store.find(self) is None, "this unit is missing"
            self.log.append(key)
        return {"made": len(keys)}


def units(store: ArtefactStore) -> list[str]:
    return sorted(path.name for path in (store.path(Letters("")) / UNITS).iterdir())


def test_units_are_made_one_by_one_and_shared(store):
    assert store.make(Letters("abab")).facts["made"] == 2
    more = Letters("cab")
    assert store.find(more) is None, "a unit is missing"
    store.make(more)
    assert more.log == ["c"]
    assert units(store) == ["a", "b", "c"]
    assert store.make(Letters("ca")).was_there


def test_a_unit_that_fails_leaves_nothing_and_the_others_stay(store):
    with pytest.raises(Power):
        store.make(Letters("abc", fails_at="b"))
    assert units(store) == ["a"]
    again = Letters("abc")
    store.make(again)
    assert again.log == ["b", "c"]


def test_who_looks_while_units_are_made_takes_nothing_for_damaged(store, caplog):
    store.make(Letters("ab", store=ArtefactStore(store.folder)))
    assert units(store) == ["a", "b"]
    assert "damaged" not in caplog.text


# `python -m lamp_exp.cache`.

CACHE = Path("outputs/.cache")


@pytest.fixture
def full() -> ArtefactStore:
    """A finished artefact, one of units, and one that was begun."""
    store = ArtefactStore(CACHE / "artefacts")
    store.make(Word("ab"))
    store.make(Letters("xyz"))
    with pytest.raises(Power):
        store.make(Word("begun", fails_at=3))
    return store


def test_artefacts_are_listed_verified_and_pruned(full, capsys):
    assert cache.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"artefacts/{full.path(Word('ab')).name}" in listed
    assert "letters 3 units" in listed
    assert "of artefacts begun: see prune --unfinished" in listed
    assert cache.main(["verify"]) == 0
    assert capsys.readouterr().out == "2 of 2 are whole\n"
    (full.path(Word("ab")) / "word.txt").write_text("")
    assert cache.main(["verify"]) == 1
    assert "word.txt is missing, or has another size" in capsys.readouterr().err
    assert cache.main(["prune"]) == 0
    assert not full.path(Word("ab")).exists()
    assert full.find(Letters("xyz"))
    assert list(full.folder.glob(f".*{BEGUN}")), "the same command goes on from it"


def test_what_was_begun_is_removed_when_asked_for_and_not_while_it_is_made(full, capsys):
    word = Word("begun")
    with storage.exclusive(full.path(word)):
        assert cache.main(["prune", "--unfinished"]) == 0
    assert "in use: it stays" in capsys.readouterr().out
    assert cache.main(["prune", "--unfinished", "--older-than", "1d"]) == 0
    assert list(full.folder.glob(f".*{BEGUN}"))
    assert cache.main(["prune", "--unfinished"]) == 0
    assert "an artefact that did not finish" in capsys.readouterr().out
    assert not list(full.folder.glob(f".*{BEGUN}"))
    assert full.find(Word("ab"))
