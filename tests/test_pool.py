"""profile.pool: items drawn from the profiles of all users of a part, or those of similar users."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lamp_exp import cache as cache_command
from lamp_exp.config import experiment_from_settings
from lamp_exp.contracts import DenseRetriever, sort_by_score
from lamp_exp.data import Part, load, neighbours
from lamp_exp.data.neighbours import NeighbourSource, most_similar
from lamp_exp.data.view import POOL_DRAWS
from lamp_exp.experiment.run import provenance_of
from lamp_exp.experiment.stages import load_parts
from lamp_exp.options import Usage, changes_numbers
from lamp_exp.overrides import command_of, overrides_of, requested_settings
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.run_options import configuration_key, run_options
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import PartView, ProfileOptions
from tests.conftest import DATA, build, minimal_result, name_of, ranked, ranked_part, recorded
from tests.test_cli import QUICK, TRAIN, folder_of, rows
from tests.test_dense import encoder  # noqa: F401  (a fixture)

ALL_USERS = ["task=lamp4", "retriever=random", "profile.pool=all_users", "limit=20"]


def drawn(*overrides: str) -> dict[str, list[str]]:
    """The ranked item ids of each question."""
    asked = ranked(*ALL_USERS, "mode=rank", *overrides)
    return {example.id: [hit.id for hit in hits] for example, hits in asked}


def test_items_are_drawn_from_all_users_without_repeats():
    items = drawn()
    users = Counter(id.partition("/")[0] for ids in items.values() for id in ids)
    assert len(users) > 100, "the sample has 300 users; 20 questions are asked"
    assert max(users.values()) < 0.05 * sum(users.values())
    for ids in items.values():
        assert len(set(ids)) == len(ids) > POOL_DRAWS / 2


def test_a_draw_depends_on_seed_and_question_alone():
    items = drawn()
    assert drawn("limit=5") == {id: items[id] for id in list(items)[:5]}
    assert drawn("seed=1") != items


def test_items_that_tell_the_answer_are_left_out_and_counted(data_dir):
    """An item with the question's own text, one with its gold, and the user's later one."""

    def item(id: str, text: str, title: str, day: int) -> dict[str, str]:
        return {"id": id, "text": text, "title": title, "date": f"2020-01-{day:02}"}

    ask = Lamp4().instruction
    questions = [
        {"id": "a", "user_id": "u", "input": f"{ask} rain in may",
         "profile": [item("1", "sun", "fair", 1)]},
        {"id": "b", "user_id": "u", "input": f"{ask} snow",
         "profile": [item("2", "ice", "cold", 9)]},
        {"id": "c", "user_id": "v", "input": f"{ask} wind",
         "profile": [item("3", "Rain in  May", "wet", 1), item("4", "fog", "the Gold", 9)]},
    ]  # fmt: skip
    golds = [
        {"id": id, "output": text} for id, text in zip("abc", ["the gold", "x", "y"], strict=True)
    ]
    folder = data_dir("LaMP_4", "dev", questions, {"task": "LaMP_4", "golds": golds}, time=True)
    view = PartView(profile=ProfileOptions(pool="all_users"))
    part = load(str(folder), Lamp4(), "time", "dev", view=view)
    items = {example.id: {item.id for item in example.profile} for example in part.examples}
    assert items == {
        "a": {"u/1"},
        "b": {"u/1", "u/2", "v/3", "v/4"},
        "c": {"u/1", "u/2", "v/3", "v/4"},
    }
    assert part.facts.counts()["items_left_out_of_the_pool"] == 3


def test_a_run_shows_and_records_them(lamp_exp):
    code, out, err = lamp_exp(*ALL_USERS, "mode=prompts", "model=tiny", "k=2")
    assert code == 0, err
    folder = folder_of(out)
    assert all("/" in hit["id"] for row in rows(folder / "prompts.jsonl") for hit in row["items"])
    result = recorded(folder)
    assert result["profile"]["pool"] == "all_users"
    assert result["counts"]["items_left_out_of_the_pool"] >= 0
    assert json.dumps(result["settings"]["profile"]).count("all_users") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retriever=bm25"], "draws items at random: use retriever=random"),
        ([f"k={POOL_DRAWS + 1}", "mode=prompts", "model=tiny"], "draws 64 items: lower k or skip"),
        (["profile.control=shuffled_user"], "profile.control=shuffled_user is for a user's own"),
        (["profile.max_items=2"], "profile.max_items=2 is for a user's own profile"),
    ],
)
def test_what_items_of_all_users_cannot_be_is_refused(lamp_exp, words, message):
    code, _, err = lamp_exp(*ALL_USERS, "mode=rank", *words)
    assert code == 2
    assert message in err


# --- neighbours --------------------------------------------------------------------------------

ASK = Lamp4().instruction


class Letters(DenseRetriever):
    """The vector of a text counts its letters a, b and c."""

    def rank(self, query, documents):
        return sort_by_score(documents, [0.0] * len(documents))

    def encoder_key(self):
        return {"name": "letters"}

    def encode(self, texts):
        counts = [[text.count(letter) for letter in "abc"] for text in texts]
        return np.array(counts, np.float32).reshape(-1, 3)


def question(id: str, user: str, text: str, *items: tuple[str, str, int]) -> dict[str, object]:
    """A question about `text`; `items` have text, title and day."""
    fields = [
        {"id": str(n), "text": text, "title": title, "date": f"2020-01-{day:02}"}
        for n, (text, title, day) in enumerate(items)
    ]
    return {"id": id, "user_id": user, "input": f"{ASK} {text}", "profile": fields}


def plain(user: str, *texts: str) -> dict[str, object]:
    """A question of a user with items of these texts."""
    return question(user, user, "the input", *((text, "title", 1) for text in texts))


PROFILES = {"v4": ["a", "b"], "v3": ["ab"], "w": [], "v2": ["b"], "v1": ["a", "a"]}
FOUR = [plain(user, *texts) for user, texts in PROFILES.items()]


@pytest.fixture
def part(data_dir, tmp_path):
    """Loads a part of the time split that has these questions."""

    def read(questions: list[dict[str, object]], count: int = 1, **changes) -> Part:
        golds = changes.pop("golds", {})
        found = [{"id": one["id"], "output": golds.get(one["id"], "gold")} for one in questions]
        folder = data_dir("LaMP_4", "dev", questions, {"task": "LaMP_4", "golds": found}, time=True)
        options = ProfileOptions(pool="neighbours", neighbours=count, **changes)
        source = NeighbourSource(Letters(), "code", tmp_path / "neighbours")
        view = PartView(profile=options)
        return load(str(folder), Lamp4(), "time", "dev", view=view, neighbours=source)

    return read


def shown(part: Part) -> dict[str, list[str]]:
    """The ids of each question's items."""
    return {example.id: [item.id for item in example.profile] for example in part.examples}


def test_items_of_the_most_similar_users_follow_the_users_own(part):
    """By the cosine of mean vectors, equal ones by user id; without items there are none."""
    two = part(FOUR, 2)
    assert shown(two) == {
        "v1": ["v1/0", "v1/1", "v3/0", "v4/0", "v4/1"],
        "v2": ["v2/0", "v3/0", "v4/0", "v4/1"],
        "v3": ["v3/0", "v4/0", "v4/1", "v1/0", "v1/1"],
        "v4": ["v4/0", "v4/1", "v3/0", "v1/0", "v1/1"],
        "w": [],
    }
    counts = two.facts.counts()
    assert counts["questions_with_fewer_neighbours"] == 1
    assert counts["items_of_neighbours"] == 3 + 3 + 4 + 3
    assert counts["items_left_out_of_the_pool"] == 0
    assert [item.fields["text"] for item in two.examples[0].profile] == ["a", "b", "ab", "a", "a"]


def test_neighbours_do_not_depend_on_the_order_of_the_file_or_on_blocks(part, monkeypatch):
    expected = shown(part(FOUR, 2))
    monkeypatch.setattr(neighbours, "ITEMS_PER_BLOCK", 2)
    monkeypatch.setattr(neighbours, "QUESTIONS_PER_BLOCK", 1)
    assert shown(part(FOUR[::-1], 2)) == expected


def test_a_user_with_several_questions_has_the_largest_profile_and_is_no_neighbour_of_itself(part):
    several = [
        question("x1", "x", "the input", ("a", "title", 1)),
        question("x2", "x", "the input", ("a", "title", 1), ("aa", "title", 1)),
        question("x3", "x", "the input", ("a", "title", 1), ("c", "title", 1)),
        plain("y", "ab"),
        plain("z", "c"),
    ]
    items = shown(part(several))
    assert items["y"] == ["y/0", "x/0", "x/1"]
    assert items["x1"] == ["x/0", "y/0"]
    assert items["x3"] == ["x/0", "x/1", "z/0"], "z is as similar as y but for rounding, or nearer"


def test_the_vector_of_a_profile_leaves_out_the_questions_own_item(part):
    leak = question("u", "u", "ccc", ("ccc", "title", 1), ("a", "title", 1))
    questions = [leak, plain("v", "a"), plain("w", "c")]
    assert shown(part(questions))["u"] == ["u/0", "u/1", "v/0"]
    assert shown(part(questions, own_items="remove"))["u"] == ["u/1", "v/0"]
    assert part(questions).facts.counts()["profiles_that_hold_the_question"] == 1
    assert part(questions, own_items="remove").facts.counts()["items_left_out_of_the_pool"] == 0


def test_items_of_neighbours_that_tell_or_come_later_are_left_out_and_counted(part):
    items = [("ab", "x", 1), ("Rain in  May", "y", 2), ("ac", "The Gold", 3), ("a", "z", 9)]
    asked = question("u", "u", "rain in may", ("aaa", "t", 5), ("aaa", "the gold", 4))
    others = [question("v", "v", "other", *items), question("w", "w", "input", ("b", "t", 9))]
    questions = [asked, *others]
    read = part(questions, golds={"u": "the gold"})
    found = shown(read)
    assert found["u"] == ["u/0", "u/1", "v/0"], "own items stay, whatever their title"
    assert found["v"] == ["v/0", "v/1", "v/2", "v/3", "u/0", "u/1"]
    assert read.facts.counts()["items_left_out_of_the_pool"] == 3


def test_the_search_is_exact_and_ties_go_to_the_first_user(monkeypatch):
    """Many users are equal, so that faiss cuts among equal ones."""
    monkeypatch.setattr(neighbours, "QUESTIONS_PER_BLOCK", 7)
    rng = np.random.default_rng(0)
    users = rng.integers(0, 3, (300, 4)).astype("f4") + np.float32(0.1)
    users[:120] = users[0]
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    own = np.arange(300)
    for count in (1, 5, 40):
        found = list(most_similar(users, users, own, count))
        for query, numbers in enumerate(found):
            scores = (users.astype("f8") * users[query]).sum(axis=1)
            order = [n for n in np.lexsort((own, -scores)) if n != query]
            assert numbers.tolist() == order[:count]


def test_fewer_users_than_are_wanted_are_all_neighbours():
    vectors = np.eye(3, dtype="f4")
    assert [n.tolist() for n in most_similar(vectors, vectors[:2], np.array([0, 1, -1]), 5)] == [
        [1], [0], [0, 1],
    ]  # fmt: skip
    none = most_similar(vectors, vectors[:0], np.full(3, -1), 5)
    assert [n.tolist() for n in none] == [[], [], []]


NEIGHBOURS = ["task=lamp4", "profile.pool=neighbours"]


@pytest.fixture
def similar(encoder) -> list[str]:  # noqa: F811
    """The overrides by which the sample's neighbours are found by a small random BERT."""
    by = ["retriever@profile.neighbours_by=contriever", f"profile.neighbours_by.name={encoder}"]
    return [*NEIGHBOURS, *by]


def pooled(*overrides: str) -> dict[str, list[str]]:
    """The ranked item ids of each question."""
    return {example.id: [hit.id for hit in hits] for example, hits in ranked(*overrides)}


@pytest.mark.long
def test_any_retriever_ranks_the_pooled_items(similar, encoder):  # noqa: F811
    rank = [*similar, "mode=rank", "limit=6"]
    first = pooled(*rank, "retriever=bm25")
    for ids in first.values():
        assert len({id.partition("/")[0] for id in ids}) == 6
        assert len(set(ids)) == len(ids)
    dense = ["retriever=contriever", f"retriever.name={encoder}"]
    for words in (["retriever=random"], dense, ["split=time", "retriever=recency"]):
        items = pooled(*rank, *words)
        assert len(items) == 6
        if "split=time" not in words:
            assert {id: set(one) for id, one in items.items()} == {
                id: set(one) for id, one in first.items()
            }


@pytest.mark.long
def test_what_was_read_to_find_neighbours_is_recorded_by_all_runs(lamp_exp, similar):
    counts = []
    for k in (1, 2):
        words = ["mode=prompts", "model=tiny", "limit=3", "retriever=random", f"k={k}"]
        code, out, _ = lamp_exp(*similar, *words, "profile.neighbours_by.max_length=6")
        assert code == 0 and "texts cut by the encoder" in out
        facts = recorded(folder_of(out))["retrieval"]["neighbours_by"]
        counts.append([facts[name] for name in ("texts_cut", "tokens_read", "unknown_tokens")])
    assert facts["texts_encoded"] == 0 and counts[0] == counts[1] and counts[0][0] > 0


@pytest.mark.long
def test_neighbours_depend_on_nothing_but_the_part(similar, monkeypatch):
    """Not on the limit, the seed, processes, or batches."""
    rank = [*similar, "mode=rank", "retriever=bm25"]
    items = pooled(*rank, "limit=12")
    assert pooled(*rank, "limit=12", "seed=3") == items
    assert pooled(*rank, "limit=12", "rank_processes=2", "output_dir=elsewhere") == items
    assert pooled(*rank, "limit=4") == {id: items[id] for id in list(items)[:4]}
    monkeypatch.setattr(neighbours, "ITEMS_PER_BLOCK", 300)
    monkeypatch.setattr(neighbours, "QUESTIONS_PER_BLOCK", 17)
    assert pooled(*rank, "limit=12", "output_dir=again") == items


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["mode=rank"],
        ["mode=prompts", "model=tiny"],
        ["mode=zeroshot", "k=tune", "k_values=[1,2]", *QUICK],
        ["mode=finetune", "k=1", *TRAIN],
    ],
    ids=lambda words: words[0],
)
def test_a_run_of_each_mode_shows_and_records_neighbours(lamp_exp, similar, data_dir, words):
    for part in ("train", "dev"):
        users = [f"{part}{n}" for n in range(8)]
        asked = [plain(user, "the cat", "a dog", f"item {user}") for user in users]
        golds = [{"id": user, "output": "gold"} for user in users]
        folder = data_dir("LaMP_4", part, asked, {"task": "LaMP_4", "golds": golds})
    code, out, err = lamp_exp(*similar, *words, f"data_dir={folder}")
    assert code == 0, err
    folder = folder_of(out)
    result = recorded(folder)
    assert result["profile"]["pool"] == "neighbours"
    assert result["identity"]["profile.neighbours_by"] == "contriever"
    assert result["counts"]["items_of_neighbours"] == 8 * 5 * 3
    assert result["counts"]["questions_with_fewer_neighbours"] == 0
    assert result["retrieval"]["neighbours_by"]["device"] == "cpu"
    if "mode=rank" not in words:
        items = [hit["id"] for row in rows(folder / "prompts.jsonl") for hit in row["items"]]
        assert items and all(id.startswith("dev") and "/" in id for id in items)
    if "mode=finetune" in words:
        tables = list(Path("outputs/.cache/neighbours").glob("LaMP_4-*.arrow"))
        assert len(tables) == 2, "the users of dev, and those of train"
    again = command_of(requested_settings(RunFolder(folder).read()), result["choices"])
    assert "retriever@profile.neighbours_by=contriever" in again


@pytest.mark.long
def test_the_command_of_a_run_makes_the_same_run(similar):
    asked = [*similar, "mode=rank", "limit=5", "profile.neighbours=2"]
    _, configuration = build(*asked)
    words = overrides_of(configuration.settings, configuration.choices)
    assert name_of(*words) == name_of(*asked)


@pytest.mark.long
def test_the_command_of_a_run_before_there_were_pools_is_made():
    for run in (DATA / "runs").iterdir():
        result = RunFolder(run).read()
        assert "pool" not in result.profile
        assert "profile" not in command_of(requested_settings(result), result.choices).replace(
            "profile.control=shuffled_user", ""
        )


def test_what_decides_neighbours_is_in_the_identity_and_devices_are_not(similar, encoder, tmp_path):  # noqa: F811
    rank = [*similar, "mode=rank", "limit=5"]
    other = shutil.copytree(encoder, tmp_path / "other")
    (other / "more").write_text("other content")
    names = [
        name_of(*rank, *more)
        for more in (
            [],
            ["profile.neighbours=4"],
            [f"profile.neighbours_by.name={other}"],
            ["profile.neighbours_by.max_length=64"],
            ["retriever@profile.neighbours_by=minilm"],
        )
    ]
    assert len(set(names)) == len(names)
    same = shutil.copytree(encoder, tmp_path / "same")
    for more in ("profile.neighbours_by.device=cpu", f"profile.neighbours_by.name={same}"):
        assert name_of(*rank, more) == names[0]
    usage = Usage("rank", True)
    assert not changes_numbers("profile.neighbours_by.batch_tokens", usage)
    assert not changes_numbers("profile.neighbours_by.name", Usage("zeroshot", False))


def test_the_code_of_the_encoder_counts(similar):
    with_encoder, without = (build(*words, "mode=rank")[0] for words in (similar, ["task=lamp4"]))
    assert provenance_of(with_encoder).code != provenance_of(without).code


def test_a_run_without_profiles_looks_for_no_neighbours(lamp_exp, similar):
    baseline = ["task=lamp4", "mode=prompts", "model=tiny", "k=0", "limit=5"]
    assert name_of(*similar, *baseline) == name_of(*baseline)
    code, _, err = lamp_exp(*similar, *baseline)
    assert code == 0, err
    assert not Path("outputs/.cache/vectors").exists()
    assert not Path("outputs/.cache/neighbours").exists()


def test_reports_tell_runs_of_other_neighbours_apart():
    place = "retriever@profile.neighbours_by"
    keys = {
        configuration_key(run_options(minimal_result(k=2, choices={place: name})))
        for name in (None, "contriever", "minilm")
    }
    assert len(keys) == 3


@pytest.mark.long
def test_neighbours_are_found_once_and_their_rankings_known_by_them(similar, monkeypatch, capsys):
    asked = [*similar, "mode=rank", "limit=5"]
    made, configuration = build(*asked)
    rankings = RankingCache(made.data.cache_dir / "rankings")

    def rank_again() -> list[list[str]]:
        again, _ = build(*asked)
        part = load_parts(again).asked
        return [[hit.id for hit in hits]
                for _, hits in ranked_part(again, configuration, part, rankings)]  # fmt: skip

    first = rank_again()
    with monkeypatch.context() as patch:
        patch.setattr(neighbours.Neighbours, "_find", lambda self: 1 / 0)
        assert rank_again() == first
    assert (rankings.made, rankings.read) == (1, 1)
    assert cache_command.main(["verify"]) == 0
    assert cache_command.main(["list"]) == 0
    assert "LaMP_4 neighbours=5 by folder:" in capsys.readouterr().out
    (file,) = Path("outputs/.cache/neighbours").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-99])
    assert cache_command.main(["verify"]) == 1
    assert rank_again() == first, "damaged neighbours are found anew"
    assert (rankings.made, rankings.read) == (1, 2)
    file.unlink()
    found = neighbours.most_similar
    monkeypatch.setattr(neighbours, "most_similar", lambda *given: (n[::-1] for n in found(*given)))
    rank_again()
    assert rankings.made == 2, "other neighbours, as rounding may make them, have other rankings"


@pytest.mark.long
def test_a_dry_run_looks_for_no_neighbours(lamp_exp, similar):
    """Also where a retriever learns from rankings that depend on them."""
    learns = ["retriever=ropg_kd", "retriever@retriever.base=bm25", "reader.model=tiny"]
    asked = [*similar, "mode=rank", "limit=5", *learns, "dry_run=true"]
    code, out, err = lamp_exp(*asked)
    assert code == 0, err
    assert "first neighbours: 300 profiles of dev to encode: no estimate\n" in out
    assert "profiles of train to encode: no estimate\n" in out
    assert not Path("outputs/.cache/neighbours").exists()
    assert not Path("outputs/.cache/vectors").exists()


def test_where_nothing_can_be_written_neighbours_are_found_each_time(part, tmp_path, caplog):
    (tmp_path / "neighbours").write_text("a file where the folder would be")
    assert shown(part(FOUR))["v1"] == ["v1/0", "v1/1", "v3/0"]
    assert "neighbours are not kept" in caplog.text


def test_processes_that_share_a_run_find_the_same_neighbours(similar):
    made, configuration = build(*similar, "mode=rank", "limit=5")
    worker = experiment_from_settings(configuration.settings)
    ids = [shown(load_parts(one).asked) for one in (made, worker)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (NEIGHBOURS, "profile.pool=neighbours needs what compares profiles: retriever@profile."),
        (
            [*NEIGHBOURS, "profile.neighbours_by=contriever"],
            "choose a component with retriever@profile.neighbours_by=contriever",
        ),
        ([*NEIGHBOURS, "retriever@profile.neighbours_by=bm25"], "BM25 compares no vectors"),
        ([*NEIGHBOURS, "retriever@profile.neighbours_by=rrf"], "compares no vectors"),
        (["profile.neighbours=3"], "has no effect without profile.pool=neighbours"),
        (
            ["retriever@profile.neighbours_by=contriever"],
            "profile.neighbours_by has no effect without profile.pool=neighbours",
        ),
        (
            ["profile.pool=all_users", "retriever=random", "profile.neighbours=3"],
            "profile.neighbours has no effect without profile.pool=neighbours",
        ),
        (
            [*NEIGHBOURS, "retriever@profile.neighbours_by=contriever",
             "profile.neighbours_by.name=./nowhere"],
            "profile.neighbours_by.name=./nowhere: there is no such folder",
        ),
        (
            [*NEIGHBOURS, "retriever@profile.neighbours_by=contriever",
             "profile.neighbours_by.widht=3"],
            "widht",
        ),
    ],
)  # fmt: skip
def test_neighbours_that_cannot_be_found_are_refused(lamp_exp, words, message):
    code, _, err = lamp_exp("task=lamp4", "mode=rank", "limit=5", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["profile.neighbours=0"], "profile.neighbours=0 must be at least 1"),
        (["profile.neighbours=300"], "but this part has 299: lower it"),
        (["profile.control=shuffled_user"], "profile.control=shuffled_user is for a user's own"),
        (["profile.max_items=2"], "profile.max_items=2 is for a user's own profile"),
        (["profile.neighbours_by.max_length=99999", "retriever=random"], "profile.neighbours_by: "),
        (["retriever=recency"], "has none: use split=time"),
    ],
)
def test_what_neighbours_cannot_be_is_refused(lamp_exp, similar, words, message):
    code, _, err = lamp_exp(*similar, "mode=rank", "limit=5", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
