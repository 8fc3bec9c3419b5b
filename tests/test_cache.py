"""Rankings are made once for all jobs, and a file that is not what was written is never used."""

from __future__ import annotations

import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pytest

from lamp_exp.data.load import ProfileFacts
from lamp_exp.experiment.run import run
from lamp_exp.storage.atomic import Damaged
from lamp_exp.storage.checksummed import ChecksummedFile
from lamp_exp.storage.rankings import Order, RankingCache, file_name
from lamp_exp.values import Hit
from tests.conftest import build, learned_parts, learning_words, options, ranked_part
from tests.test_dense import dense_folder, encoder  # noqa: F401  (a fixture)

KEY = {"task_name": "LaMP_0", "retriever": {"_target_": "mine.Ranker", "b": 0.5}, "data": "d1"}
IDS = ["q1", "q2", "q3", "é"]
ORDERS = [
    Order([2, 0, 1], [0.1 + 0.2, 0.1, -math.inf]),
    Order([], []),
    Order([0], [1e-320]),
    Order([1, 0], [-0.0, -1 / 3]),
]


class Counted:
    """Rankings, and how often they were computed."""

    def __init__(self, orders: list[Order] = ORDERS) -> None:
        self.orders = orders
        self.times = 0

    def __call__(self) -> Iterator[Order]:
        self.times += 1
        return iter(self.orders)


def asked(
    folder: Path, compute: Callable[[], Iterator[Order]], key: dict = KEY, ids: list[str] = IDS
) -> list[Order]:
    return list(RankingCache(folder).rankings(key, ids, compute))


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("[!.]*.arrow")
    return path


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system then refuses to write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_ranking_is_computed_once_and_read_back_bit_for_bit(tmp_path: Path):
    compute = Counted()
    for _ in range(3):
        orders = asked(tmp_path, compute)
        assert orders == ORDERS
        assert math.copysign(1, orders[3].scores[0]) == -1
    assert compute.times == 1
    assert the_file(tmp_path).name.startswith("Ranker-LaMP_0-")


def test_it_is_told_how_many_were_read_and_made(tmp_path: Path):
    cache = RankingCache(tmp_path)
    for data in ("d1", "d1", "d2"):
        list(cache.rankings({**KEY, "data": data}, IDS, Counted()))
    assert cache.report() == {"read": 1, "made": 2}


def test_counts_of_what_the_retriever_read_are_kept_with_the_ranking(tmp_path: Path):
    """They are taken after the last ranking, and again where the file was damaged."""
    compute, counts = Counted(), {"base": {"texts_cut": 3}, "unknown_tokens": 0}

    def take() -> dict[str, Any]:
        assert compute.times
        return counts

    for _ in range(2):
        for _ in range(2):
            cache = RankingCache(tmp_path)
            orders = cache.rankings(KEY, IDS, compute, take)
            assert list(orders) == ORDERS and orders.counts == counts
            assert cache.rankings({**KEY, "data": "d2"}, IDS, compute).counts == {}
            cache.rankings(KEY, IDS, compute, take)
            assert cache.all_counts() == [counts, {}]  # each part once
        damage(tmp_path / file_name(KEY), "flipped 0.7")
    assert compute.times == 3
    read_only = tmp_path / "file"
    read_only.touch()
    assert RankingCache(read_only / "below").rankings(KEY, IDS, compute, take).counts == counts


def test_other_readers_of_arrow_can_open_the_file(tmp_path: Path):
    RankingCache(tmp_path).rankings(KEY, IDS, Counted(), lambda: {"texts_cut": 1})
    table = pyarrow.ipc.open_stream(the_file(tmp_path).read_bytes()).read_all()
    assert table.column("id").to_pylist() == ["q1", "q2", "q3", "é"]


def test_another_key_is_another_file(tmp_path: Path):
    changes = [{}, {"data": "d2"}, {"retriever": {"_target_": "mine.Ranker", "b": 0.75}}]
    for change in [*changes, {"task_name": "LaMP_1"}, {"more": None}]:
        compute = Counted()
        asked(tmp_path, compute, {**KEY, **change})
        assert compute.times == 1
    assert len(list(tmp_path.glob("*.arrow"))) == 5


def damage(path: Path, name: str) -> None:
    content = bytearray(path.read_bytes())
    if name.startswith("flipped"):
        content[int(len(content) * float(name.split()[1]))] ^= 1
    changed = {"cut off": content[: len(content) // 2], "empty": b"", "one byte": b"x"}
    path.unlink()  # as other writers do; what is mapped stays as it is
    path.write_bytes(changed.get(name, content))


@pytest.mark.parametrize(
    "how",
    ["cut off", "empty", "one byte", "flipped 0", "flipped 0.4", "flipped 0.7", "flipped 0.99"],
)
def test_a_damaged_file_is_told_once_set_aside_and_made_again(tmp_path: Path, caplog, how):
    asked(tmp_path, Counted())
    damage(the_file(tmp_path), how)
    compute = Counted()
    for _ in range(2):
        assert asked(tmp_path, compute) == ORDERS
    assert compute.times == 1
    assert len(caplog.records) == 1
    assert "made again" in caplog.records[0].message
    assert "\n" not in caplog.records[0].message
    assert len(list(tmp_path.glob(".*.damaged"))) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"key": {**KEY, "data": "d2"}},
        {"ids": ["q1", "q2", "Q3", "é"]},
        {"ids": ["q2", "q1", "q3", "é"]},
        {"orders": [Order([2, 0, 2], [1.0, 0.5, 0.0]), *ORDERS[1:]]},
        {"orders": [Order([2, 0, 3], [1.0, 0.5, 0.0]), *ORDERS[1:]]},
        {"orders": [Order([2, 0, 1], [1.0, 0.5]), *ORDERS[1:]]},
    ],
)
def test_a_file_of_other_questions_or_settings_is_never_used(tmp_path: Path, caplog, other):
    asked(tmp_path / "mine", Counted())
    foreign = [Order(order.positions, [0.0] * len(order.scores)) for order in ORDERS]
    compute = Counted(other.get("orders", foreign))
    asked(tmp_path / "other", compute, other.get("key", KEY), other.get("ids", IDS))
    the_file(tmp_path / "other").replace(the_file(tmp_path / "mine"))
    assert asked(tmp_path / "mine", Counted()) == ORDERS
    assert len(caplog.records) == 1


def test_a_folder_in_the_files_place_is_set_aside(tmp_path: Path, caplog):
    asked(tmp_path, Counted())
    path = the_file(tmp_path)
    path.unlink()
    path.mkdir()
    assert asked(tmp_path, Counted()) == ORDERS
    assert path.is_file()


def test_a_retriever_that_gives_too_few_or_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="shorter"):
        asked(tmp_path, Counted(ORDERS[:2]))

    def failing() -> Iterator[Order]:
        yield ORDERS[0]
        raise OSError("the server is gone")

    with pytest.raises(OSError, match="the server is gone"):
        asked(tmp_path, failing)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_where_nothing_can_be_written_rankings_are_computed_and_it_is_told(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert asked(tmp_path / "file" / "rankings", Counted()) == ORDERS
    (record,) = caplog.records
    assert "rankings are not kept" in record.message
    assert "cannot be written" in record.message


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path, caplog):
    orders = [Order(list(range(30)), [1.0] * 30) for _ in range(900)]
    with no_file_above(50_000):
        assert asked(tmp_path, Counted(orders), ids=list(map(str, range(900)))) == orders
    assert [record.message.split(":")[0] for record in caplog.records] == ["rankings are not kept"]
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_read(tmp_path: Path, caplog):
    asked(tmp_path, Counted())
    tmp_path.chmod(0o555)
    compute = Counted()
    assert asked(tmp_path, compute) == ORDERS
    assert (compute.times, caplog.records) == (0, [])


SCRIPT = """
import random, sys, time
from pathlib import Path
from lamp_exp.storage.rankings import Order, RankingCache, file_name

ids = [str(n) for n in range(3000)]

def compute():
    with open(sys.argv[2], "a") as told:
        told.write("computed\\n")
    print("computing", flush=True)
    for id in ids:
        chance = random.Random(id)
        order = chance.sample(range(40), 40)
        time.sleep(float(sys.argv[3]))
        yield Order(order, [chance.random() for _ in order])

key = {"task_name": "LaMP_0", "retriever": {"_target_": "mine.Ranker"}}
orders = list(RankingCache(Path(sys.argv[1])).rankings(key, ids, compute))
print(hash(tuple((*one.positions, *one.scores) for one in orders)), flush=True)
"""


def started(folder: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(folder.with_suffix(".txt"))]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        [*command, str(pause)], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_of_two_processes_one_computes_and_the_other_waits(tmp_path: Path):
    both = [started(tmp_path / "cache", 2e-4) for _ in range(2)]
    told = [process.communicate()[0].split()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1]
    assert (tmp_path / "cache.txt").read_text() == "computed\n"


@pytest.mark.slow
def test_killed_at_any_moment_nothing_half_is_ever_read(tmp_path: Path):
    whole = started(tmp_path / "whole", 0).communicate()[0].split()[-1]
    chance = random.Random(0)
    for _ in range(10):
        process = started(tmp_path / "cache", 2e-4)
        assert process.stdout.readline() == "computing\n"
        time.sleep(chance.uniform(0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in (tmp_path / "cache").glob("[!.]*.arrow"):
            ChecksummedFile.open(path)
            path.unlink()  # it was killed after its work
    assert list((tmp_path / "cache").glob(".*.making-*"))
    assert started(tmp_path / "cache", 0).communicate()[0].split()[-1] == whole
    assert not list((tmp_path / "cache").glob(".*.making-*"))


def test_a_file_that_is_removed_while_it_is_read_is_read_to_the_end(tmp_path: Path):
    orders = [Order([1, 0], [float(n), 0.0]) for n in range(2000)]
    ids = [str(n) for n in range(2000)]
    reading = iter(RankingCache(tmp_path).rankings(KEY, ids, Counted(orders)))
    first = next(reading)
    the_file(tmp_path).unlink()
    assert [first, *reading] == orders


def test_a_file_that_has_changed_is_damaged(tmp_path: Path):
    asked(tmp_path, Counted())
    path = the_file(tmp_path)
    damage(path, "flipped 0.5")
    with pytest.raises(Damaged, match="checksum"):
        ChecksummedFile.open(path)


# In an experiment.


def ranked(*overrides: str) -> tuple[list[list[Hit]], dict[str, int], ProfileFacts]:
    made, configuration = build("mode=rank", "limit=6", *overrides)
    part = learned_parts(made, configuration).asked
    cache = RankingCache(made.data.cache_dir / "rankings")
    hits = [hits for _, hits in ranked_part(made, configuration, part, cache)]
    return hits, cache.report(), part.facts


@pytest.mark.parametrize("name", options("retriever"))
def test_cached_and_fresh_rankings_are_identical(name, encoder, reader):  # noqa: F811
    chosen = [f"retriever={name}", "split=time", *dense_folder(name, encoder)]
    chosen += learning_words(name, reader)
    fresh, told, counted = ranked(*chosen)
    cached, again, recounted = ranked(*chosen)
    elsewhere, _, _ = ranked(*chosen, "output_dir=elsewhere")
    assert fresh == cached == elsewhere
    if name != "none":
        assert (told, again) == ({"read": 0, "made": 1}, {"read": 1, "made": 0})
    assert counted == recounted
    assert counted.counts()["questions"] == (30 if learning_words(name, reader) else 6)


CHANGES = [
    "", "task=lamp5", "split=time", "part=train", "limit=5", "limit=null", "retriever.k1=1.2",
    "retriever.b=0.5", "retriever=bm25_okapi", "retriever=random", "retriever=random seed=1",
    "document_dates=true", "fixes=declared", "profile.max_items=3 profile.keep=first",
    "split=time profile.max_items=3", "split=time profile.before=2015-03-01",
    "profile.control=shuffled_user", "profile.control=shuffled_user seed=1",
    "profile.own_items=remove",
]  # fmt: skip


@pytest.mark.long
def test_what_changes_a_ranking_never_shares_a_file():
    for change in CHANGES:
        assert ranked(*change.split())[1] == {"read": 0, "made": 1}, change


@pytest.mark.parametrize("change", ["seed=1", "k=9", "augmentation=fid", "max_length=99"])
def test_what_changes_no_ranking_shares_it(change):
    ranked()
    assert ranked(change)[1] == {"read": 1, "made": 0}


def test_changed_data_are_ranked_anew(data_dir: Callable[..., Path]):
    from lamp_exp.tasks.lamp3 import Lamp3

    found = []
    for text in ("good", "bad"):
        items = [{"id": "1", "text": text, "score": "5"}, {"id": "2", "text": "x", "score": "1"}]
        row = {"id": "a", "input": f"{Lamp3().instruction} good", "profile": items}
        place = data_dir("LaMP_3", "dev", [row])
        found.append(ranked("task=lamp3", f"data_dir={place}"))
    assert [told["made"] for _, told, _ in found] == [1, 1]
    assert found[0][0] != found[1][0]


def test_the_parts_that_are_learned_from_are_kept_as_well_and_the_record_tells(tmp_path: Path):
    def told(*overrides: str) -> dict[str, int]:
        ran = run(*build("limit=4", "model=tiny", *overrides), tmp_path / "outputs")
        return ran.folder.read().retrieval["ranking_cache"]

    fit = ["mode=finetune", "trainer=cpu", "trainer.max_epochs=1", "max_new_tokens=4"]
    assert told("mode=rank") == {"read": 0, "made": 1}
    assert told("mode=prompts", "k=2") == {"read": 1, "made": 0}
    assert told(*fit, "trainer.enable_progress_bar=false") == {"read": 1, "made": 1}
    assert told(*fit, "trainer.enable_progress_bar=false", "k=1") == {"read": 2, "made": 0}


def test_a_profile_that_is_not_read_is_not_kept():
    assert ranked("retriever=none")[1] == {"read": 0, "made": 0}
    assert not list(Path("outputs/.cache").glob("rankings/*.arrow"))
