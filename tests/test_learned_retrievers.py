"""Retrievers that learn from feedback: objectives, fitting, interruptions, and runs with them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from lamp_exp.data.view import is_held_out
from lamp_exp.errors import InputError
from lamp_exp.experiment.learning import store_of
from lamp_exp.experiment.run import run
from lamp_exp.experiment.stages import load_parts, work_along
from lamp_exp.experiment.tune import run_tuned
from lamp_exp.models.epochs import STATE
from lamp_exp.results.folder import RunFolder
from lamp_exp.retrievers import learned_encoder
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.learned_encoder import ENCODER, LearnedEncoder
from lamp_exp.retrievers.ropg_kd import RopgKD, distillation_loss
from lamp_exp.retrievers.ropg_rl import RopgRL
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.values import RewardedList
from tests.conftest import build, name_of, recorded
from tests.official import WORDS, official_item, official_rows
from tests.test_dense import encoder  # noqa: F401  (a fixture)

ITEMS = 16
ONE_HIT = torch.tensor([1.0] + [0.0] * (ITEMS - 1), dtype=torch.float64)
ALL = torch.ones(1, ITEMS, dtype=torch.bool)


# The loss of distillation, on a case made by hand: 16 items, of which the first is a hit.


def official(scores: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """The published code's loss, which takes the softmax of the scores twice."""
    return torch.nn.functional.cross_entropy(scores.softmax(-1), rewards.softmax(-1))


def gradient(loss: Any, scores: torch.Tensor) -> torch.Tensor:
    leaf = scores.clone().requires_grad_()
    loss(leaf).backward()
    return leaf.grad


def peaked(item: int, by: float) -> torch.Tensor:
    """Scores (1, items) of which one is higher."""
    scores = torch.zeros(1, ITEMS, dtype=torch.float64)
    scores[0, item] = by
    return scores


def ours(scores: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return distillation_loss(scores, ONE_HIT[None] / temperature, ALL)


def test_the_published_loss_can_hardly_change():
    best, worst = (official(peaked(item, 100.0), ONE_HIT[None]).item() for item in (0, 1))
    assert best == pytest.approx(2.72, abs=0.005)
    assert worst == pytest.approx(2.82, abs=0.005)
    assert best < official(peaked(0, 0.0), ONE_HIT[None]).item() < worst
    wrong = peaked(1, 10.0)
    theirs = gradient(lambda s: official(s, ONE_HIT[None]), wrong).abs().max().item()
    assert theirs < 1e-4, "sure of a miss, it learns nothing"
    assert gradient(ours, wrong).abs().max().item() > 0.8


def test_ours_is_the_divergence_from_target_to_encoder():
    scores = torch.randn(1, ITEMS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, target = scores.softmax(-1)[0], (ONE_HIT / 0.5).softmax(-1)
    expected = sum(t * math.log(t / q) for t, q in zip(target.tolist(), p.tolist(), strict=True))
    assert ours(scores, 0.5).item() == pytest.approx(expected, rel=1e-12)
    assert gradient(lambda s: ours(s, 0.5), scores)[0] == pytest.approx(p - target, abs=1e-12)
    assert ours(ONE_HIT[None] / 0.5, 0.5).item() == pytest.approx(0.0, abs=1e-12)
    assert ours(peaked(1, 100.0)).item() > 50, "it has no upper end"


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_its_gradients_are_those_of_finite_differences(temperature):
    real = torch.ones(3, ITEMS, dtype=torch.bool)
    real[1, 5:] = False
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(3, ITEMS, dtype=torch.float64, generator=generator).requires_grad_()
    rewards = torch.rand(3, ITEMS, dtype=torch.float64, generator=generator) / temperature
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, rewards, real), scores)


def retriever(cls: type[LearnedEncoder] = RopgKD, **changes: Any) -> LearnedEncoder:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    given = {
        "base": BM25(), "name": None, "epochs": 4, "lr": 1e-2, "batch_questions": 4, "warmup": 0.1,
        "max_length": 32, "fresh": {**sizes, "intermediate_size": 32}, "device": "cpu",
    }  # fmt: skip
    temperature = {"target_temperature": 0.1} if cls is RopgKD else {}
    return cls(**{**given, **temperature, **changes})


@pytest.mark.parametrize("cls", [RopgKD, RopgRL])
def test_pads_have_no_probability_and_no_gradient(cls):
    """Whatever their scores and rewards are: those of the published code are the best of all."""
    real = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    scores = torch.zeros(2, 5, dtype=torch.float64)
    rewards = torch.tensor([[0.2, 0.5, 0.1, 9.0, 9.0], [0.1, 0.4, 0.3, 0.2, 0.2]]).double()
    model = retriever(cls)
    for pad in (0.0, 50.0):
        scores[0, 3:] = pad
        found = [
            gradient(lambda s, seed=seed: model.objective(s, rewards, real, [seed, seed]), scores)
            for seed in range(40)
        ]
        assert all((one[0, 3:] == 0).all() and one.isfinite().all() for one in found)
        alone = [
            gradient(
                lambda s, seed=seed: model.objective(s, rewards[:1, :3], real[:1, :3], [seed]),
                scores[:1, :3],
            )
            for seed in range(40)
        ]
        for one, other in zip(found, alone, strict=True):
            assert one[0, :3] == pytest.approx(other[0], abs=1e-12)


# REINFORCE.


def test_the_mean_gradient_is_that_of_the_expected_reward_over_the_first_item():
    scores = torch.tensor([[0.3, -0.2, 0.8]], dtype=torch.float64)
    rewards = torch.tensor([[0.5, 1.0, 0.0]], dtype=torch.float64)
    count = 20_000
    rows, model = scores.repeat(count, 1), retriever(RopgRL)
    real = torch.ones(count, 3, dtype=torch.bool)
    mean = gradient(
        lambda s: model.objective(s, rewards.repeat(count, 1), real, range(count)) / count, rows
    ).sum(0)
    p, advantage = scores.softmax(-1)[0], rewards[0] - rewards[0, 0]
    expected = -p * (advantage - (p * advantage).sum())
    assert mean == pytest.approx(expected, abs=0.01)
    assert mean[1] < 0 < mean[2], "the better item's score rises, the worse one's falls"


def test_the_first_item_drawn_teaches_nothing_and_a_draw_depends_on_its_seed_alone():
    model, real = retriever(RopgRL), torch.ones(1, 3, dtype=torch.bool)
    rewards = torch.tensor([[0.5, 1.0, 0.0]], dtype=torch.float64)
    first = peaked(0, 100.0)[:, :3]
    assert model.objective(first, rewards, real, [1]).item() == 0.0
    scores = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    many, all_real = rewards.repeat(6, 1), real.repeat(6, 1)
    together = model.objective(scores, many, all_real, range(6)).item()
    torch.manual_seed(99)
    alone = [model.objective(scores[n : n + 1], rewards, real, [n]).item() for n in range(6)]
    backwards = model.objective(scores.flip(0), many, all_real, range(6)[::-1]).item()
    assert together == pytest.approx(sum(alone), rel=1e-12)
    assert together == pytest.approx(backwards, rel=1e-12)
    assert len(set(alone)) > 1


# Fitting.


def lists(questions: int = 24, equal: bool = False) -> list[RewardedList]:
    """A question is a word; the item that holds it has the reward."""
    found = []
    for number in range(questions):
        draw = Random(number)
        word, *others = draw.sample(WORDS, 4 + number % 3)
        texts = [f"the {other} meets the {other}" for other in others]
        place = draw.randrange(len(texts) + 1)
        texts.insert(place, f"near the {word} one {word}")
        rewards = [0.5 if equal else float(n == place) for n in range(len(texts))]
        user = f"user {number}"
        found.append(
            RewardedList(f"q{number}", user, f"the {word}", texts, rewards, number % 4 == 0)
        )
    return found


def fit(made: LearnedEncoder, some: Sequence[RewardedList], folder: Path) -> dict[str, Any]:
    (folder / "work").mkdir(parents=True, exist_ok=True)
    return made.fit(some, folder)


def weights(folder: Path) -> bytes:
    return (folder / ENCODER / "model.safetensors").read_bytes()


@pytest.mark.parametrize("cls", [RopgKD, RopgRL])
def test_it_learns_and_the_same_again_is_the_same(cls, tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    facts = fit(retriever(cls), lists(), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state), "others' random numbers are left alone"
    rewards = [row["expected_reward"] for row in facts["curve"]]
    assert max(rewards) > rewards[0]
    assert facts["questions_learned_from"] == 18
    assert facts["questions_held_out"] == 6
    assert facts["steps_per_epoch"] == 5
    assert len(facts["curve"]) == 5
    assert fit(retriever(cls), lists(), tmp_path / "b") == facts
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    other = fit(retriever(cls, seed=1), lists(), tmp_path / "c")
    assert other["curve"] != facts["curve"]


def test_how_texts_are_divided_changes_nothing_but_rounding(tmp_path, monkeypatch):
    whole = fit(retriever(), lists(), tmp_path / "a")["curve"]
    monkeypatch.setattr(learned_encoder, "TOKENS_AT_ONCE_ON_CPU", 20)
    few = fit(retriever(), lists(), tmp_path / "b")["curve"]
    for one, other in zip(whole, few, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


class Power(Exception):
    """Fails."""


@pytest.mark.long
@pytest.mark.parametrize("cls", [RopgKD, RopgRL])
@pytest.mark.parametrize(
    ("function", "at"),
    [("_epoch", 0), ("_epoch", 2), ("loss", 7), ("_finish_epoch", 0), ("_finish_epoch", 3)],
)
def test_interrupted_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch, cls, function, at):
    facts = fit(retriever(cls), lists(), tmp_path / "whole")
    inner, calls = getattr(learned_encoder.EncoderFit, function), []

    def breaking(self: Any, *given: Any) -> Any:
        if len(calls) == at:
            raise Power
        calls.append(None)
        return inner(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(learned_encoder.EncoderFit, function, breaking)
        with pytest.raises(Power):
            fit(retriever(cls), lists(), tmp_path / "broken")
    assert fit(retriever(cls), lists(), tmp_path / "broken") == facts
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_a_damaged_state_is_set_aside_and_fitting_begins_anew(tmp_path, caplog):
    facts = fit(retriever(), lists(), tmp_path)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    assert fit(retriever(), lists(), tmp_path) == facts
    assert "state.pt is damaged" in caplog.text


def test_held_out_users_choose_the_epoch_and_are_not_learned_from(tmp_path):
    some = lists()
    changed = [replace(one, rewards=one.rewards[::-1]) if one.held_out else one for one in some]
    facts, other = (fit(retriever(), x, tmp_path / n) for x, n in ((some, "a"), (changed, "b")))
    losses = [[row.get("loss") for row in one["curve"]] for one in (facts, other)]
    assert losses[0] == losses[1]
    assert facts["curve"] != other["curve"]


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ([(0.1, 0.1), (0.3, 0.1), (0.2, 0.9), (0.1, 0.1), (0.2, 0.1)], 1),
        ([(0.3, 0.1), (0.3, 0.2), (0.3, 0.2), (0.1, 0.1), (0.2, 0.1)], 1),
        ([(0.3, 0.2), (0.3, 0.2), (0.3, 0.1), (0.1, 0.1), (0.2, 0.1)], 0),
        ([(0.1, 0.1), (0.2, 0.1), (0.3, 0.1), (0.4, 0.1), (0.5, 0.1)], 4),
    ],
)
def test_the_best_epoch_is_kept(tmp_path, monkeypatch, values, chosen):
    rows, seen = iter(values), []

    def validate(self: Any) -> dict[str, float]:
        seen.append({n: v.clone() for n, v in self.encoder.state_dict().items()})
        return dict(zip(("reward_of_first", "expected_reward"), next(rows), strict=True))

    monkeypatch.setattr(learned_encoder.EncoderFit, "validate", validate)
    assert fit(retriever(), lists(), tmp_path)["chosen_epoch"] == chosen
    saved = SentenceTransformer(str(tmp_path / ENCODER), device="cpu").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in seen[chosen].items())


def test_equal_rewards_are_counted_and_teach_nothing(tmp_path):
    facts = fit(retriever(), lists(equal=True), tmp_path / "a")
    assert facts["chosen_epoch"] == 0
    assert len(facts["curve"]) == 1
    assert facts["questions_with_equal_rewards"] == 24
    assert facts["questions_learned_from"] == 0
    start = retriever().start_encoder().state_dict()
    saved = SentenceTransformer(str(tmp_path / "a" / ENCODER), device="cpu").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in start.items())


def test_questions_without_items_are_counted(tmp_path):
    empty = RewardedList("x", "nobody", "the rose", [], [], False)
    facts = fit(retriever(), [*lists(), empty], tmp_path)
    assert facts["questions_without_items"] == 1
    assert facts["questions"] == 25


def test_the_folder_is_one_of_sentence_transformers_with_the_vectors_of_learning(tmp_path):
    fit(retriever(), lists(), tmp_path)
    texts = ["the rose", "near the oven one oven meets the nurse", "", "  \ud800 odd"]
    loaded = SentenceTransformer(str(tmp_path / ENCODER), device="cpu")
    made = retriever()
    learning = learned_encoder.EncoderFit(made, [], tmp_path / "none")
    learning.encoder = loaded
    some = RewardedList("q", "u", texts[0], texts[1:], [0.0] * 3, False)
    learning.tokens = learned_encoder._tokenized(loaded, [some], 32)
    expected = loaded.encode([learned_encoder.without_surrogates(text) for text in texts])
    with torch.no_grad():
        assert learning._encode(texts).numpy() == pytest.approx(expected, abs=1e-5)


def test_an_encoder_that_normalises_stops_doing_so(encoder, tmp_path):  # noqa: F811
    whole = SentenceTransformer(encoder, device="cpu")
    SentenceTransformer(modules=[*whole, Normalize()]).save(str(tmp_path / "unit"))
    made = retriever(fresh=None, name=str(tmp_path / "unit"))
    made.validate()
    fit(made, lists(), tmp_path / "fitted")
    vector = SentenceTransformer(str(tmp_path / "fitted" / ENCODER), device="cpu").encode("rose")
    assert not math.isclose(float(np.linalg.norm(vector)), 1.0, rel_tol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "retriever.epochs=0 must be a whole number from 1 on"),
        ({"batch_questions": 2.5}, "retriever.batch_questions=2.5 must be a whole number"),
        ({"lr": 0.0}, "retriever.lr=0.0 must be above 0"),
        ({"lr": math.nan}, "retriever.lr=nan must be above 0"),
        ({"warmup": 2.0}, "retriever.warmup=2.0 must be between 0 and 1"),
        ({"target_temperature": 0.0}, "retriever.target_temperature=0.0 must be above 0"),
        ({"fresh": None}, "retriever.name must name an encoder, or retriever.fresh describe one"),
        ({"base": retriever()}, "retriever.base learns from feedback itself: choose a fixed one"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        retriever(**changes).validate()


# Runs.


@pytest.fixture
def words(data_dir, reader: Path) -> list[str]:
    """The overrides of small runs on official files; some users of train are held out."""
    for part, count in (("train", 40), ("dev", 4)):
        questions, golds = official_rows(part, count)
        place = data_dir("LaMP_4", part, questions, {"task": "LaMP_4", "golds": golds})
    assert 0 < sum(is_held_out(f"train{number}") for number in range(40)) < 10
    return [
        f"data_dir={place}", "task=lamp4", "retriever=ropg_kd_fresh", "retriever.epochs=2",
        "retriever.fresh.hidden_size=16", "retriever.max_length=32", "retriever.batch_questions=8",
        f"reader.name={reader}", "feedback.items=3", "feedback.reward=likelihood",
        "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false", "max_new_tokens=4",
    ]  # fmt: skip


def ran(output_dir: Path, *words: str) -> RunFolder:
    return run(*build(*words, f"output_dir={output_dir}"), output_dir).folder


def learned(folder: RunFolder) -> list[str]:
    return [facts["artefact"] for facts in recorded(folder.path)["learned"]]


@pytest.mark.long
def test_one_command_learns_ranks_and_answers_and_k_is_a_slice(words, tmp_path):
    out = tmp_path / "outputs"
    ranked = ran(out, *words, "mode=rank")
    record = recorded(ranked.path)
    assert [facts["kind"] for facts in record["learned"]] == ["feedback", "encoder"]
    assert [facts["made_now"] for facts in record["learned"]] == [True, True]
    curve = record["learned"][1]["curve"]
    assert len(curve) == 3
    assert record["data"]["learning"]["questions"] == 40
    assert record["retrieval"]["encoder"] == record["learned"][1]["artefact"]
    rankings = {
        row["id"]: [hit["id"] for hit in row["items"]]
        for row in map(json.loads, (ranked.path / "rankings.jsonl").read_text().splitlines())
    }
    for k in (1, 3):
        prompts = ran(out, *words, "mode=prompts", f"k={k}")
        assert learned(prompts) == learned(ranked)
        assert not any(facts["made_now"] for facts in recorded(prompts.path)["learned"])
        for row in map(json.loads, (prompts.path / "prompts.jsonl").read_text().splitlines()):
            assert [hit["id"] for hit in row["items"]] == rankings[row["id"]][:k]
    answered = ran(out, *words, "mode=finetune", "trainer.max_epochs=1", "k=1")
    assert learned(answered) == learned(ranked)
    assert recorded(answered.path)["metrics"]


def test_a_worker_of_a_run_loads_what_the_leader_has_made(words, tmp_path, monkeypatch):
    out = tmp_path / "outputs"
    answered = [*words, "mode=finetune", "trainer.max_epochs=1", "k=1", f"output_dir={out}"]
    ran(out, *answered)
    experiment, configuration = build(*answered)
    monkeypatch.setattr(ArtefactStore, "_make", lambda *_: 1 / 0)
    (tmp_path / "worker").mkdir()
    work_along(experiment, configuration, load_parts(experiment), tmp_path / "worker")
    assert list((tmp_path / "worker").glob("answers-*.jsonl"))


def test_tuning_k_learns_once(words, reader, tmp_path):
    out = tmp_path / "outputs"
    words = [*words, "mode=zeroshot", f"model.name={reader}", f"output_dir={out}"]

    def made(k: int | None, part: str | None) -> Any:
        return build(*words, f"k={k or 1}", f"part={part or 'dev'}")

    tuned = run_tuned(made, [1, 2], out).folder
    folders = store_of(made(1, None)[0]).folder
    assert sorted(path.name.partition("-")[0] for path in folders.glob("[!.]*")) == [
        "encoder", "feedback",
    ]  # fmt: skip
    assert len(learned(tuned)) == 2


@pytest.mark.long
def test_nothing_of_the_asked_part_is_learned(words, tmp_path, data_dir):
    """A canary in its golds, questions and profiles changes no artefact."""
    first = ran(tmp_path / "one", *words, "mode=rank")
    questions, _ = official_rows("dev", 3)
    for row in questions:
        row["profile"] = [official_item(9, "canary"), *row["profile"][:2]]
    golds = [{"id": row["id"], "output": "canary"} for row in questions]
    data_dir("LaMP_4", "dev", questions, {"task": "LaMP_4", "golds": golds})
    second = ran(tmp_path / "two", *words, "mode=rank")
    assert learned(first) == learned(second)
    encoders = [
        weights(place / ".cache" / "artefacts" / learned(first)[1])
        for place in (tmp_path / "one", tmp_path / "two")
    ]
    assert encoders[0] == encoders[1]
    assert first.path.name != second.path.name, "the data are others"


@pytest.mark.long
def test_what_changes_what_is_learned_names_the_run(words):
    names = {
        name_of(*words, "mode=rank", *change.split())
        for change in (
            "", "retriever.lr=2e-3", "retriever=ropg_rl_fresh", "feedback.items=2", "seed=1",
            "feedback.reward=metric", "retriever.base.k1=1.2",
        )
    }  # fmt: skip
    assert len(names) == 7
    plain = name_of(*words, "mode=rank")
    assert name_of(*words, "mode=rank", "retriever.device=cpu", "predict_batch_size=3") == plain


ORACLE = ["retriever=oracle", "retriever@retriever.base=bm25", "mode=finetune"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["limit=1"], "has 1 user, too few to hold out a tenth of them"),
        (["retriever@retriever.base=ropg_rl_fresh"], "retriever.base learns from feedback itself"),
        (["retriever@retriever.base=none"], "retriever.base ranks nothing"),
        (["reader.name=null"], "the feedback of random weights says nothing"),
        (ORACLE, "use mode=zeroshot"),
    ],
)  # fmt: skip
def test_what_cannot_learn_is_refused(words, lamp_exp, changes, message):
    if changes is ORACLE:
        words = [word for word in words if not word.startswith("retriever")]
    code, _, err = lamp_exp("mode=rank", *words, *changes)
    assert code == 2, err
    assert message in err
    assert len(err.strip().splitlines()) == 1, err


def test_without_golds_for_train_nothing_is_learned(words, lamp_exp):
    place = Path(words[0].removeprefix("data_dir="))
    (place / "LaMP_4" / "train" / "train_outputs.json").unlink()
    code, _, err = lamp_exp("mode=rank", *words)
    assert code == 2
    assert "has no outputs file beside it" in err


def test_the_oracle_ranks_by_the_golds_of_the_asked_part_and_is_marked(words, tmp_path, lamp_exp):
    plain = [word for word in words if not word.startswith("retriever")]
    code, out, err = lamp_exp(
        *plain, "mode=rank", "retriever=oracle", "retriever@retriever.base=bm25"
    )
    assert code == 0, err
    record = recorded(Path(out.splitlines()[-1]))
    assert record["bound"]
    assert "a bound, and no system" in record["notes"][0]
    assert "learning" not in record["data"]
    (facts,) = record["learned"]
    assert facts["questions"] == 4
