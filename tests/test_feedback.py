"""Feedback: the rewards of single items, whatever the batches, however often it is interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from lamp_exp.data.examples import Examples
from lamp_exp.data.view import is_held_out
from lamp_exp.errors import InputError
from lamp_exp.experiment import feedback as stage
from lamp_exp.experiment.feedback import Feedback
from lamp_exp.experiment.fold_readers import CHECKPOINT, fold_of
from lamp_exp.experiment.learning import artefacts_of, learn, store_of
from lamp_exp.experiment.run import run
from lamp_exp.experiment.stages import load_parts
from lamp_exp.results.display import remarks
from lamp_exp.results.folder import TRAINING_SETTINGS
from lamp_exp.storage.feedback import Row, read_feedback
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Hit
from tests.conftest import TINY, build, minimal_result, name_of, recorded
from tests.official import official_rows
from tests.test_dense import encoder  # noqa: F401  (a fixture)
from tests.test_openai import serving

SMALL = ["model=tiny", "trainer=cpu", "max_new_tokens=3", "feedback.items=3", "limit=7"]


class Power(BaseException):
    """Fails, as a kill does: nothing catches it."""


def made(*words: str) -> Feedback:
    """The feedback that a run of mode=feedback needs."""
    experiment, configuration = build("mode=feedback", *SMALL, *words)
    (feedback,) = artefacts_of(experiment, configuration, load_parts(experiment))["retriever"]
    assert isinstance(feedback, Feedback)
    return feedback


def table(feedback: Feedback, folder: Path) -> list[Row]:
    (folder / "work").mkdir(parents=True, exist_ok=True)
    feedback.make(folder, [])
    return read_feedback(folder)


@pytest.fixture
def words(reader: Path) -> list[str]:
    return [f"reader.name={reader}"]


def test_the_metric_is_that_of_the_answer_to_the_item_alone(words, tmp_path):
    feedback = made(*words)
    rows, rankings = table(feedback, tmp_path / "a"), feedback.ranking.rankings()
    expected = []
    for number, example in enumerate(feedback.part.examples):
        for rank, hit in enumerate(rankings.hits(number, example)[:3]):
            prompt = feedback.reader.prompt(feedback.task, example, [hit])
            assert prompt.items == (hit,)
            (answer,) = feedback.reader.model.predict([prompt], feedback.reader.one_process)
            (reward,) = feedback.task.rewards([answer.output], [example.target])
            expected.append((example.id, hit.id, rank, reward))
    assert rows == expected


def test_the_likelihood_is_that_of_the_gold_after_the_item_alone(words, tmp_path):
    feedback = made(*words, "feedback.reward=likelihood", "limit=2", "max_new_tokens=20")
    rows, model = table(feedback, tmp_path / "a"), feedback.reader.model
    hits, example = feedback.ranking.rankings(), feedback.part.examples[1]
    hit = hits.hits(1, example)[2]
    prompt = feedback.reader.prompt(feedback.task, example, [hit])
    read = model.tokenizer(prompt.passages[0], return_tensors="pt")
    gold = model.tokenizer(example.target, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model.net(**read, labels=gold).logits[0].log_softmax(dim=-1)
    expected = logits.gather(1, gold[0][:, None]).sum().item()
    (reward,) = [r for question, item, _, r in rows if (question, item) == (example.id, hit.id)]
    assert reward == pytest.approx(expected, rel=1e-5)


def test_what_an_encoder_read_to_rank_the_items_is_told(words, encoder, tmp_path):  # noqa: F811
    dense = ["retriever=contriever", f"retriever.name={encoder}", "retriever.max_length=6"]
    counts = []
    for place in (tmp_path / "made", tmp_path / "read"):  # the rankings
        (place / "work").mkdir(parents=True)
        facts = made(*words, *dense, "limit=2").make(place, [])
        counts.append(facts["read_to_rank"])
    assert counts[0] == counts[1] and counts[0]["tokens_read"] > 0
    told = f"{counts[0]['texts_cut']} texts cut by the encoder"
    assert told in remarks(minimal_result(learned=[{"kind": "feedback", **facts}]))
    own = {"retrieval": {"base": counts[0]}, "bound": True}  # it ranks the same texts again
    assert told in remarks(minimal_result(learned=[{"kind": "feedback", **facts}], **own))


@pytest.mark.parametrize("reward", ["metric", "likelihood"])
def test_batches_chunks_and_order_change_no_reward(words, reward, tmp_path, monkeypatch):
    words = [*words, f"feedback.reward={reward}"]
    whole = made(*words)
    rows = table(whole, tmp_path / "whole")
    assert len(rows) == 21
    for size in (1, 5):
        monkeypatch.setattr(stage, "QUESTIONS_AT_ONCE", size)
        other = made(*words, f"predict_batch_size={size}")
        assert table(other, tmp_path / str(size)) == rows
        assert other.identity() == whole.identity()
    backwards = replace(whole, ranking=Backwards(whole))
    assert sorted(table(backwards, tmp_path / "order")) == sorted(rows)


class Backwards:
    """The ranking of a feedback, with the part's questions backwards."""

    def __init__(self, feedback: Feedback) -> None:
        ranking = feedback.ranking
        rankings, examples = ranking.rankings(), ranking.part.examples
        self.found = {e.id: rankings.hits(n, e) for n, e in enumerate(examples)}
        backwards = Examples(examples.store, examples.rows[::-1], examples.view)
        self.part = replace(ranking.part, examples=backwards)
        self.task, self.key, self.counts = ranking.task, ranking.key, rankings.counts

    def rankings(self) -> Backwards:
        return self

    def hits(self, row: int, example: Any) -> list[Hit]:
        return list(self.found[example.id])


def test_the_rewards_of_ratings_lie_between_wrong_and_right():
    outputs, golds = ["5", "1", "3", "4", "nothing", "9"], ["5", "5", "2", "2", "2", "5"]
    assert Lamp3().rewards(outputs, golds) == [
        1.0,
        0.0,
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        0.0,
        0.0,
    ]
    assert Lamp4().rewards(["a b", "x"], ["a b", "a b"]) == [1.0, 0.0]


# Interruptions.


class Breaking:
    """A model of which the n-th call breaks off, or a call breaks off between its answers."""

    def __init__(self, feedback: Feedback, name: str, at: int, monkeypatch: Any) -> None:
        self.calls, model = 0, feedback.reader.model
        inner: Callable[..., Any] = getattr(model, name)

        def call(*given: Any) -> Any:
            if self.calls == at:
                raise Power
            self.calls += 1
            return inner(*given)

        monkeypatch.setattr(type(model), name, lambda _, *given: call(*given))


@pytest.mark.parametrize(
    ("reward", "function", "at"),
    [
        ("metric", "predict", 0), ("metric", "predict", 2), ("metric", "answers", 0),
        ("metric", "answers", 3), ("likelihood", "log_likelihoods", 1),
        ("likelihood", "likelihoods", 3),
    ],
)  # fmt: skip
def test_what_was_interrupted_goes_on_and_ends_alike(
    words, tmp_path, monkeypatch, reward, function, at
):
    monkeypatch.setattr(stage, "QUESTIONS_AT_ONCE", 3)
    words = [*words, f"feedback.reward={reward}", "predict_batch_size=2"]
    rows = table(made(*words), tmp_path / "whole")
    broken = made(*words)
    with monkeypatch.context() as patch:
        Breaking(broken, function, at, patch)
        with pytest.raises(Power):
            table(broken, tmp_path / "broken")
    again = made(*words)
    with monkeypatch.context() as patch:
        told = Breaking(again, function, -1, patch)
        assert table(again, tmp_path / "broken") == rows
    calls = {"predict": 3, "answers": 5 + 5 + 2, "log_likelihoods": 3, "likelihoods": 7}[function]
    done = at if function in ("predict", "answers") else at // 3 * 3 if at >= 3 else at
    assert told.calls == calls - done


# What decides a table, and what does not.


@pytest.mark.long
def test_what_changes_a_table_and_what_does_not(words, tmp_path):
    first = made(*words).identity()
    same = ["k=1", "skip=2", "predict_batch_size=1", "rank_processes=2", "trainer.devices=1"]
    for word in same:
        assert made(*words, word).identity() == first, word
    others = [
        "feedback.items=2", "feedback.reward=likelihood", "max_length=100", "max_new_tokens=2",
        "limit=6", "retriever.k1=1.2", "task=lamp5", "profile.own_items=remove", "part=train",
        "model.generation.num_beams=2", "augmentation=fid",
    ]  # fmt: skip
    found = [made(*words, word).identity() for word in others]
    for word, identity in zip(others, found, strict=True):
        assert identity != first, word
    assert made(*words, "seed=1").identity() == first
    drawn = [
        made(*words, "+model.generation.do_sample=true", f"seed={seed}").identity()
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_options_of_feedback_name_no_run_that_does_not_learn():
    plain = name_of("mode=zeroshot", "model=tiny")
    for word in ("feedback.items=2", "feedback.reward=likelihood", "reader.model=tiny"):
        assert name_of("mode=zeroshot", "model=tiny", word) == plain


# Odd parts, and readers that are refused.


def item(id: str, title: str) -> dict[str, str]:
    return {"id": id, "title": title, "text": f"about {title}"}


@pytest.fixture
def odd(data_dir) -> str:
    """Questions of LaMP-4 with three, one and no items."""
    head = Lamp4().instruction
    rows = [
        {
            "id": str(n),
            "input": f"{head} about rose {n}",
            "profile": [item(f"{n}{i}", "rose") for i in range(size)],
        }
        for n, size in enumerate((3, 1, 0))
    ]
    golds = {"task": "LaMP_4", "golds": [{"id": str(n), "output": "rose"} for n in range(3)]}
    return f"data_dir={data_dir('LaMP_4', 'dev', rows, golds)}"


@pytest.mark.parametrize("reward", ["metric", "likelihood"])
def test_short_and_empty_profiles(words, odd, reward, tmp_path):
    feedback = made(*words, odd, "feedback.items=2", f"feedback.reward={reward}")
    assert [(q, i, r) for q, i, r, _ in table(feedback, tmp_path / "a")] == [
        ("0", "00", 0), ("0", "01", 1), ("1", "10", 0),
    ]  # fmt: skip
    facts = feedback.make(tmp_path / "a", [])
    assert facts["questions"] == 3
    assert facts["questions_without_items"] == 1
    assert facts["questions_with_equal_rewards"] == 2, "items of the same text"
    assert facts["prompts"] == 3


def test_without_any_item_there_is_an_empty_table(words, data_dir, tmp_path):
    rows = [{"id": "1", "input": f"{Lamp4().instruction} x", "profile": []}]
    golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "rose"}]}
    feedback = made(*words, f"data_dir={data_dir('LaMP_4', 'dev', rows, golds)}")
    assert table(feedback, tmp_path / "a") == []
    assert feedback.make(tmp_path / "a", [])["mean_reward"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["reader.name=null"], "the feedback of random weights says nothing"),
        (["part=test"], "has no outputs file beside it"),
        (["retriever=none"], "mode=feedback rewards items, and this retriever ranks none"),
        (["retriever=ropg_kd_fresh"], "use its base, such as retriever=contriever"),
        (["reader.name=./nowhere"], "reader.name=./nowhere: there is no such folder"),
        (["feedback.items=0"], "feedback.items=0 must be at least 1"),
        (["reader.model=openai", "reader.name=null"], "reader.name must be given"),
        (["reader.model=nothing"], "reader.model=nothing is no option of model"),
    ],
)
def test_what_cannot_give_feedback_is_refused(words, lamp_exp, odd, changes, message):
    if "part=test" in changes:
        folder = Path(odd.removeprefix("data_dir=")) / "LaMP_4"
        (folder / "test").mkdir()
        questions = (folder / "dev" / "dev_questions.json").read_text()
        (folder / "test" / "test_questions.json").write_text(questions)
    more = [] if "retriever=ropg_kd_fresh" in changes else [odd]
    code, _, err = lamp_exp("mode=feedback", *SMALL, *words, *more, *changes)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1, err


def test_a_model_behind_an_api_gives_metrics_only_and_each_answer_once(lamp_exp, odd, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with serving(lambda prompt, number: (200, "a rose")) as server:
        words = ["mode=feedback", odd, "model=openai", "model.name=m", "feedback.items=2"]
        words += [f"model.base_url={server.url}", f"model.tokenizer={TINY}"]
        code, _, err = lamp_exp(*words, "feedback.reward=likelihood")
        assert code == 2
        assert "this model gives answers only: use feedback.reward=metric" in err
        assert server.bodies == []
        code, out, err = lamp_exp(*words)
        assert code == 0, err
        asked = len(server.bodies)
        assert asked == 2, "three prompts, of which two are equal"
        (facts,) = recorded(Path(out.splitlines()[-1]))["learned"]
        assert facts["mean_reward"] == pytest.approx(2 / 3)  # rouge_1 of "a rose" and "rose"
        shutil.rmtree("outputs/.cache/artefacts")
        code, _, err = lamp_exp(*words, "rerun=true")
        assert code == 0, err
        assert len(server.bodies) == asked, "answers are cached"


def test_several_passages_need_an_encoder_decoder(words, odd):
    feedback = made(*words, odd, "augmentation=fid")

    class OnePassage:
        multiple_passages = has_random_weights = False
        gives_likelihoods = True

    with pytest.raises(InputError, match="augmentation=fid needs an encoder-decoder as reader"):
        stage.validate_reader(replace(feedback.reader, model=OnePassage()), feedback.part)


# The run, its record, and what the terminal shows.


def test_a_run_writes_its_table_and_shows_the_mean_rewards(words, odd, lamp_exp):
    code, out, err = lamp_exp("mode=feedback", *SMALL, *words, odd)
    assert code == 0, err
    folder = Path(out.splitlines()[-1])
    columns = pq.read_table(folder / "feedback.parquet").to_pydict()
    assert columns["question"] == ["0", "0", "0", "1"]
    assert columns["rank"] == [0, 1, 2, 0]
    (facts,) = recorded(folder)["learned"]
    assert facts["made_now"]
    for name, text in (("mean_reward_of_first_item", "first item"), ("mean_reward", "all items")):
        assert text in out
        assert f"{facts[name]:.4f}" in out
    assert "1 question without items, which has no feedback" in out
    assert "2 questions whose items all have the same reward" in out
    assert "golds that it rewards" not in out
    _, again, _ = lamp_exp("mode=feedback", *SMALL, *words, odd, "k=1")
    assert again.splitlines()[-1] == str(folder), "k changes nothing"


@pytest.mark.long
def test_a_reader_that_saw_the_golds_is_told(reader, tmp_path):
    settings = {"task": "lamp4", "split": "user", "k": 1, "skip": 0, "retriever": "bm25"}
    settings |= {"augmentation": "ipa", "max_length": 512}
    (reader_copy := tmp_path / "reader").mkdir()
    for file in reader.iterdir():
        (reader_copy / file.name).write_bytes(file.read_bytes())
    (reader_copy / TRAINING_SETTINGS).write_text(json.dumps(settings))
    seen = {}
    for words in (["part=train"], ["part=dev"], ["part=train", "task=lamp5"]):
        experiment, configuration = build(
            "mode=feedback", *SMALL, "limit=2", f"reader.name={reader_copy}", *words
        )
        result = run(experiment, configuration, tmp_path / "outputs").folder.read()
        seen[" ".join(words)] = result.learned[0]["saw_these_golds"]
        told = "the reader of the feedback was fine-tuned on the golds that it rewards"
        assert (told in remarks(result)) == result.learned[0]["saw_these_golds"]
    assert list(seen.values()) == [True, False, False]
    assert len(list(store_of(experiment).folder.glob("feedback-*"))) in (1, 3)


def test_readers_of_folds_reward_the_users_that_they_have_not_learned_from(data_dir, tmp_path):
    users = [f"train{number}" for number in range(40)]
    questions, golds = official_rows("train", len(users))
    place = data_dir("LaMP_4", "train", questions, {"task": "LaMP_4", "golds": golds})
    experiment, configuration = build(
        "mode=feedback", "part=train", *SMALL, "limit=null", f"data_dir={place}",
        "feedback.folds=2", "feedback.reward=likelihood", "trainer.max_epochs=1",
        "trainer.enable_progress_bar=false",
    )  # fmt: skip
    parts = load_parts(experiment)
    *readers, table = learn(experiment, configuration, parts)["retriever"]
    assert [one.kind for one in (*readers, table)] == ["reader", "reader", "feedback"]
    assert table.facts["saw_these_golds"] is False
    rewards = {(question, item): value for question, item, _, value in read_feedback(table.folder)}
    (feedback,) = artefacts_of(experiment, configuration, parts)["retriever"]
    rankings = feedback.ranking.rankings()
    for fold, reader in enumerate(readers):
        others = [user for user in users if fold_of(user) != fold]
        assert reader.facts["learned_from"] == sum(not is_held_out(user) for user in others)
        assert reader.facts["held_out"] == sum(map(is_held_out, others))
        model = experiment.reader.build(str(reader.folder / CHECKPOINT))
        row = next(n for n, user in enumerate(users) if fold_of(user) == fold)
        example = parts.asked.examples[row]
        hits = rankings.hits(row, example)[:3]
        prompts = [experiment.reader.prompt(experiment.task, example, [hit]) for hit in hits]
        group = [(prompts, example.target)]
        (values,) = model.log_likelihoods(group, experiment.reader.one_process)
        assert values == [rewards[example.id, hit.id] for hit in hits]


def test_too_few_users_for_folds_are_one_line(odd, lamp_exp):
    words = ["mode=feedback", *SMALL, odd, "feedback.folds=2"]
    code, _, err = lamp_exp(*words)
    assert code == 2
    assert "feedback.folds=2: " in err
    assert "too few for readers that choose their epochs on held-out users" in err


@pytest.mark.parametrize(
    ("learned_from", "reason"),
    [(0, "no question had different rewards"), (5, "no epoch was better on the held-out users")],
)
def test_an_encoder_that_has_learned_nothing_is_told(learned_from, reason):
    facts = {"kind": "encoder", "chosen_epoch": 0, "questions_learned_from": learned_from}
    result = minimal_result(learned=(facts,))
    assert remarks(result) == [f"the encoder is as it was before learning: {reason}"]
