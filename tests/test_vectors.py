"""Each distinct text is encoded once per encoder, whatever happens to the files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from lamp_exp.__main__ import main
from lamp_exp.contracts import TextTokens
from lamp_exp.data import load
from lamp_exp.retrievers.dense import Dense
from lamp_exp.storage import vectors as module
from lamp_exp.storage.vectors import EncoderVectors, VectorCache, text_key
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.values import Query
from tests.test_cache import damage, no_file_above
from tests.test_dense import TEXTS, dense, documents, encoder  # noqa: F401  (a fixture)

NAME = {"name": "an/encoder"}
ODD = ["", " ", "\x00", "é", "e\u0301", "\ud83d", "😀", "a\nb", "a b" * 999]


def vectors_of(texts: list[str], size: int = 3) -> np.ndarray:
    return np.array([np.frombuffer(text_key(text), "u1")[:size] for text in texts], dtype="f4")


def filled(folder: Path, texts: list[str], **encoder: object) -> EncoderVectors:  # noqa: F811
    kept = VectorCache(folder).open({**NAME, **encoder})
    new = kept.missing(texts)
    if new:
        kept.add(new, vectors_of(new), [TextTokens(len(t), t.count("?"), len(t) > 9) for t in new])
    return kept


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/[!.]*.arrow"))


def kept_by(encoder: str, folder: Path = Path("kept"), **options: object) -> Dense:  # noqa: F811
    retriever = dense(encoder, **options)
    retriever.use_vector_store(VectorCache(folder))
    return retriever


def test_each_text_is_kept_whatever_its_characters(tmp_path: Path):
    filled(tmp_path, ODD)
    kept = filled(tmp_path, [*ODD, *ODD])
    assert (kept.rows(ODD[::-1]) == vectors_of(ODD[::-1])).all()
    assert kept.counts() == {"texts_encoded": 0, "texts_from_cache": len(ODD)}
    tokens = {"tokens_read": sum(map(len, ODD)), "unknown_tokens": 0}
    assert kept.take_counts() == {"texts_cut": 1} | tokens


def test_new_texts_are_added_to_those_that_are_there(tmp_path: Path):
    filled(tmp_path, ["a", "b"])
    kept = filled(tmp_path, ["b", "c", "c", "long enough?"])
    assert kept.counts() == {"texts_encoded": 2, "texts_from_cache": 1}
    assert kept.take_counts() == {"texts_cut": 1, "tokens_read": 14, "unknown_tokens": 1}
    assert set(kept.take_counts().values()) == {0}
    kept.missing(["a", "c"])
    assert kept.take_counts() == {"texts_cut": 0, "tokens_read": 2, "unknown_tokens": 0}
    assert kept.counts() == {"texts_encoded": 2, "texts_from_cache": 2}
    assert (kept.rows(["long enough?", "b"]) == vectors_of(["long enough?", "b"])).all()
    assert filled(tmp_path, ["a", "c"]).counts()["texts_from_cache"] == 2


def test_values_come_back_bit_for_bit_and_cannot_be_altered_by_who_reads_them(tmp_path: Path):
    odd = np.array([[np.nan, -0.0, 6e-8], [np.inf, -np.inf, 1 / 3]], dtype="f2")
    kept = filled(tmp_path, [])
    kept.add(["a", "b"], odd, [TextTokens(1)] * 2)
    kept.rows(["a", "b"])[:] = 7
    again = filled(tmp_path, ["a", "b"])
    same = odd.astype("f4").tobytes()
    assert again.rows(["a", "b"]).tobytes() == same == kept.rows(["a", "b"]).tobytes()


@pytest.mark.parametrize("kept", [True, False], ids=["in files", "in memory"])
def test_large_and_tiny_vectors_keep_their_digits_and_do_not_tie(tmp_path: Path, kept):
    """16 bits alone make infinities of values from 65,520 on, and zeros of those below 3e-8."""
    base = np.array([[1, -0.25, 3e-5], [0.75, 0.1, 0]], dtype="f4")
    usual = base.astype("f2").astype("f4")
    texts = ["usual", "usual too", "large", "larger", "tiny", "zero"]
    odd = np.array([[65_520, 1, -9], [70_000, 1, -9], [3e-9, 1e-9, 0], [0, 0, 0]], dtype="f4")
    if kept:
        filled(tmp_path, []).add(texts, np.concatenate([base, odd]), [TextTokens(1)] * 6)
        rows = filled(tmp_path, texts).rows(texts)
    else:
        vectors = EncoderVectors()
        vectors.add(texts, np.concatenate([base, odd]), [TextTokens(1)] * 6)
        rows = vectors.rows(texts)
    assert rows[:2].tobytes() == usual.tobytes()  # bit for bit as without a scale
    assert rows[2:] == pytest.approx(odd, rel=2**-11)
    assert rows[2, 0] < rows[3, 0]


def test_a_damaged_note_of_an_encoder_is_written_again(tmp_path: Path, caplog):
    filled(tmp_path, ["a"])
    (note,) = tmp_path.glob("*/encoder.json")
    content = note.read_text()
    note.write_bytes(bytes(len(content)))
    assert filled(tmp_path, ["a"]).counts()["texts_from_cache"] == 1
    assert note.read_text() == content
    (record,) = caplog.records
    assert "NUL bytes" in record.message


def test_shards_are_bounded_and_thousands_of_texts_are_found(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 100)
    texts = [f"text {n}" for n in range(1050)]
    for start in range(0, 1050, 350):
        filled(tmp_path, texts[start : start + 400])
    assert len(shards(tmp_path)) == 4 + 4 + 3
    kept = filled(tmp_path, [])
    assert kept.missing([*texts[::-1], "new"]) == ["new"]
    order = np.random.default_rng(0).permutation(1050)
    asked = [texts[n] for n in order]
    assert (kept.rows(asked) == vectors_of(asked)).all()


def test_another_encoder_or_setting_never_shares_vectors(tmp_path: Path):
    for change in ({}, {"name": "another"}, {"normalize": True}, {"max_length": 9}):
        assert filled(tmp_path, ["a"], **change).counts()["texts_encoded"] == 1


def test_two_that_add_the_same_texts_do_not_harm_each_other(tmp_path: Path):
    first, second = (VectorCache(tmp_path).open(NAME) for _ in range(2))
    for kept in (first, second):
        new = kept.missing(["a", "b"])
        kept.add(new, vectors_of(new), [TextTokens(1)] * 2)
    assert len(shards(tmp_path)) == 2
    kept = filled(tmp_path, ["b", "a", "c"])
    assert kept.counts() == {"texts_encoded": 1, "texts_from_cache": 2}
    assert kept.take_counts() == {"texts_cut": 0, "tokens_read": 3, "unknown_tokens": 0}
    assert (kept.rows(["a", "b"]) == vectors_of(["a", "b"])).all()


HOW = ["cut off", "empty", "one byte", "flipped 0", "flipped 0.3", "flipped 0.6", "flipped 0.99"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_shard_is_set_aside_and_its_texts_are_encoded_again(tmp_path: Path, caplog, how):
    texts = [f"text {n}" for n in range(50)]
    filled(tmp_path, texts[:25])
    (first,) = shards(tmp_path)
    filled(tmp_path, texts[25:])
    damage(first, how)
    kept = filled(tmp_path, texts)
    assert (kept.rows(texts) == vectors_of(texts)).all()
    assert kept.counts()["texts_encoded"] == kept.counts()["texts_from_cache"] == 25
    (record,) = caplog.records
    assert "made again" in record.message
    assert filled(tmp_path, texts).counts()["texts_from_cache"] == 50


def test_a_foreign_file_is_set_aside(tmp_path: Path, caplog):
    from lamp_exp.storage.rankings import RankingCache
    from tests.test_cache import IDS, KEY, ORDERS

    filled(tmp_path, ["a"])
    list(RankingCache(tmp_path / "other").rankings(KEY, IDS, lambda: ORDERS))
    (ranking,) = (tmp_path / "other").glob("*.arrow")
    ranking.rename(shards(tmp_path)[0])
    assert filled(tmp_path, ["a"]).counts()["texts_encoded"] == 1
    assert len(caplog.records) == 1


def test_where_nothing_can_be_written_vectors_are_held_in_memory(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("in the way")
    kept = filled(tmp_path / "file" / "vectors", TEXTS)
    assert (kept.rows(TEXTS) == vectors_of(TEXTS)).all()
    assert len(caplog.records) == 1
    assert "vectors are not kept" in caplog.records[0].message


def test_a_full_disk_is_told_once_and_vectors_are_held_in_memory(tmp_path: Path, caplog):
    texts = [f"text {n}" for n in range(5000)]
    kept = VectorCache(tmp_path).open(NAME)
    with no_file_above(9_999):
        for start in range(0, 5000, 1000):
            some = texts[start : start + 1000]
            kept.add(some, vectors_of(some), [TextTokens(1)] * 1000)
    assert (kept.rows(texts) == vectors_of(texts)).all()
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "vectors are held in memory"
    ]
    assert not [path for path in tmp_path.glob("*/*") if "making" in path.name]


def test_a_folder_is_in_use_as_long_as_its_vectors_are(tmp_path: Path):
    from lamp_exp.storage.inventory import entries, remove

    kept = filled(tmp_path / "vectors", ["a"])
    (entry,) = entries(tmp_path)
    assert not remove(entry.path)
    assert kept.rows(["a"]).shape == (1, 3)
    del kept
    assert remove(entry.path)
    assert entries(tmp_path) == []


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from lamp_exp.contracts import TextTokens
from lamp_exp.storage.vectors import VectorCache
kept = VectorCache(Path(sys.argv[1])).open({"name": "an/encoder"})
print("open", flush=True)
for n in range(100_000):
    texts = [f"{n} {m}" for m in range(1000)]
    kept.add(texts, np.full((1000, 64), n, "f4"), [TextTokens(1)] * 1000)
"""


@pytest.mark.slow
def test_killed_at_any_moment_only_whole_shards_are_read(tmp_path: Path, caplog):
    chance = np.random.default_rng(0)
    for _ in range(10):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = VectorCache(tmp_path).open(NAME)
    assert kept.missing(["0 0", "0 999"]) == []
    assert caplog.records == []
    assert (kept.rows(["0 0", "0 999"]) == 0).all()


# With a real encoder.


def test_kept_vectors_rank_as_fresh_ones(encoder):  # noqa: F811
    profile = documents(*TEXTS)
    fresh = dense(encoder).rank(Query("q", "the dog"), profile)
    first, second = kept_by(encoder), kept_by(encoder)
    assert first.rank(Query("q", "the dog"), profile) == fresh
    assert second.rank(Query("q", "the dog"), profile) == fresh
    assert first.facts()["texts_encoded"] == second.facts()["texts_from_cache"] == len(TEXTS) + 1
    assert second.facts()["texts_encoded"] == 0


def test_normalising_does_not_alter_what_is_kept(encoder):  # noqa: F811
    profile = documents(*TEXTS)
    fresh = dense(encoder).rank(Query("q", "cat"), profile)
    for normalize in (False, True, True, False):
        hits = kept_by(encoder, normalize=normalize).rank(Query("q", "cat"), profile)
        assert (hits == fresh) is not normalize


def test_texts_cut_are_counted_in_every_run_that_uses_them(encoder):  # noqa: F811
    profile = documents("the " * 20, "the", "the " * 20)
    for _ in range(2):
        retriever = kept_by(encoder, max_length=8)
        retriever.rank(Query("q", "dog"), profile)
        assert retriever.take_counts()["texts_cut"] == 1
    other = kept_by(encoder, max_length=8)
    other.rank(Query("q", "dog"), documents("the"))
    assert other.take_counts()["texts_cut"] == 0


def test_vectors_of_nan_are_kept_and_come_last(encoder):  # noqa: F811
    retriever = kept_by(encoder)
    nan = np.full((1, 32), np.nan, "f4")
    retriever.vectors.add(["broken"], nan, [TextTokens(1)])
    hits = kept_by(encoder).rank(Query("q", "cat"), documents("broken", "dog"))
    assert [(hit.id, hit.score == -np.inf) for hit in hits] == [("1", False), ("0", True)]


def test_vectors_beyond_16_bits_rank_by_their_size(encoder, monkeypatch):  # noqa: F811
    scale = {"a": 1e6, "b": 2e6, "c": 3e6, "q": 1.0}

    def encode(self, texts, lengths):
        return np.array([[scale[text], 0] for text in texts], dtype="f4")

    monkeypatch.setattr(Dense, "_encode", encode)
    for retriever in (dense(encoder), kept_by(encoder), kept_by(encoder)):
        hits = retriever.rank(Query("q", "q"), documents("a", "c", "b"))
        assert [hit.id for hit in hits] == ["1", "2", "0"]
        assert [hit.score for hit in hits] == pytest.approx([3e6, 2e6, 1e6], rel=2**-11)


def test_texts_that_tokenizers_refuse_do_not_stop_a_run(encoder):  # noqa: F811
    hits = kept_by(encoder).rank(Query("q", "\ud83d dog"), documents(*ODD))
    assert len(hits) == len(ODD)


def test_an_encoder_is_known_by_its_content_and_not_by_its_place(encoder, tmp_path):  # noqa: F811
    import shutil

    shutil.copytree(encoder, tmp_path / Path(encoder).name)
    kept_by(encoder).rank(Query("q", "a"), documents("b"))
    moved = kept_by(str(tmp_path / Path(encoder).name))
    moved.rank(Query("q", "a"), documents("b"))
    assert moved.facts()["texts_from_cache"] == 2


def test_a_sweep_over_k_encodes_each_text_once(encoder, monkeypatch, capsys):  # noqa: F811
    command = [
        "lamp_exp", "-m", "k=1,2,4,8,16", "task=lamp2", "mode=prompts", "model=tiny", "limit=20",
        "retriever=minilm", f"retriever.name={encoder}", "retriever.device=cpu",
        "retriever.max_length=6",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    main()
    results = [json.loads(path.read_text()) for path in Path("outputs").glob("*/result.json")]
    assert len(results) == 5
    part = load(None, Lamp2(), "user", "dev", limit=20)
    texts = {Lamp2().query(example.input) for example in part.examples}
    texts |= {Lamp2().document(item) for example in part.examples for item in example.profile}
    assert sum(result["retrieval"]["texts_encoded"] for result in results) == len(texts)
    caches = [result["retrieval"]["ranking_cache"] for result in results]
    assert sum(told["made"] for told in caches) == 1
    assert sum(told["read"] for told in caches) == 4
    names = ("texts_cut", "tokens_read", "unknown_tokens")  # also where rankings were read
    counts = {tuple(result["retrieval"][name] for name in names) for result in results}
    tokens = AutoTokenizer.from_pretrained(encoder)(sorted(texts))["input_ids"]
    cut, read = sum(len(ids) > 6 for ids in tokens), sum(min(len(ids), 6) for ids in tokens)
    assert counts == {(cut, read, 0)} and cut > 0
    assert "5 of 5 runs: texts cut by the encoder" in capsys.readouterr().out


def test_what_vectors_depend_on_is_told(encoder):  # noqa: F811
    told = kept_by(encoder).dependencies()
    assert told["dtype"] == "torch.float32"
    assert told["torch"].count(".") == 1
    assert told["revision"] is None  # of a folder, whose content counts
    assert hasattr(dense(encoder).encoder[0], "auto_model")  # where a hub's revision is read
