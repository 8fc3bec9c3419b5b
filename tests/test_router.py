"""Routers: what they choose and learn, and a routed run from the command line."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from lamp_exp.artefacts import WORK, RouterSource
from lamp_exp.composition import config_dir
from lamp_exp.errors import InputError
from lamp_exp.experiment.stages import read_parts
from lamp_exp.models.distillation import distillation_loss
from lamp_exp.models.epochs import STATE, EpochFit
from lamp_exp.overrides import overrides_of
from lamp_exp.results.folder import RunFolder
from lamp_exp.routers.cross_encoder import CLASSIFIER, FittedRouter, first_best
from lamp_exp.routers.llm import named_candidate
from lamp_exp.routers.oracle import Oracle
from lamp_exp.routers.rspg_post import RspgPost
from lamp_exp.routers.rspg_pre import RspgPre
from lamp_exp.routers.vote import Vote
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.tasks import all_tasks
from lamp_exp.values import RoutedQuestion
from tests.blind_pool import write_pool
from tests.conftest import experiment, recorded
from tests.routers import SMALL, matching
from tests.sweeps import finished_here, finished_run
from tests.test_cli import folder_of, rows, runs_of

NAMES = ("a", "b", "c")


def question(*outputs: str, rewards: tuple[float, ...] | None = None) -> RoutedQuestion:
    return RoutedQuestion("q", "u", "", outputs, outputs, rewards)


def voted(task: str, *outputs: str) -> tuple[int, bool]:
    (choice,) = Vote({}).choose(all_tasks()[task], NAMES, [question(*outputs)])
    return choice.candidate, choice.by_rule


@pytest.mark.parametrize(
    ("task", "outputs", "choice"),
    [
        ("lamp2", ("action", "sci-fi", "sci-fi"), (1, True)),
        ("lamp2", ("sci-fi", "action", "comedy"), (0, True)),  # a tie
        ("lamp2", ("no tag", "no tag", "action"), (2, True)),
        ("lamp2", ("no tag", "", "none"), (0, False)),
        ("lamp3", ("5", "1", "2"), (2, True)),
        ("lamp3", ("5", "1", "2", "4"), (2, True)),  # the lower of two medians
        ("lamp3", ("five", "4", "3"), (2, True)),
        ("lamp3", ("five", "", "x"), (0, False)),
        ("lamp4", ("a red cat", "a red dog", "a red dog runs"), (1, True)),
        ("lamp4", ("same", "same", "same"), (0, True)),
        ("lamp4", ("", " ", ""), (0, False)),
    ],
)
def test_a_vote(task, outputs, choice):
    assert voted(task, *outputs) == choice


def test_the_oracle_takes_the_first_of_the_best_and_needs_rewards():
    ask = Oracle({}).choose
    (choice,) = ask(all_tasks()["lamp2"], NAMES, [question("x", "y", "z", rewards=(0, 1, 1))])
    assert choice.candidate == 1
    with pytest.raises(AssertionError, match="rewards"):
        ask(all_tasks()["lamp2"], NAMES, [question("x", "y", "z")])


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("bm25", 1), (" BM25.", 1), ("I would use bm25_okapi", 2), ("none or bm25", None),
        ("", None), ("bm250", None), ("ropg-kd", None),
    ],
)  # fmt: skip
def test_the_name_in_a_reply(reply, number):
    assert named_candidate(reply, ("none", "bm25", "bm25_okapi", "ropg")) == number


def test_equal_probabilities_give_the_first_candidate():
    assert first_best([0.2, 0.4, 0.4]) == 1
    assert first_best([0.4 - 1e-9, 0.2, 0.4]) == 0


def test_the_loss_is_the_divergence_of_two_softmaxes():
    scores, rewards = torch.randn(4, 3), torch.rand(4, 3)
    real = torch.ones(4, 3, dtype=torch.bool)
    for temperature in (0.5, 2.0):  # divides the numbers before the softmax
        p = (scores / temperature).softmax(-1)
        target = (rewards / 0.1).softmax(-1)
        expected = (target * (target / p).log()).sum()
        torch.testing.assert_close(
            distillation_loss(scores / temperature, rewards / 0.1, real), expected
        )


# --- learning ----------------------------------------------------------------------------------

TINY_BERT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


def router(kind: type = RspgPre, **changes) -> RspgPre:
    usual = {
        "candidates": {}, "folds": 1, "name": None, "epochs": 3, "lr": 1e-3, "batch_questions": 16,
        "warmup": 0.05, "temperature": 1.0, "target_temperature": 0.1, "max_length": 64,
        "fresh": TINY_BERT, "seed": 0,
    }  # fmt: skip
    return kind(**{**usual, **changes})


def fitted(one: RspgPre, questions, folder: Path) -> dict:
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    facts = one.fit(questions, folder)
    one.fitted = folder
    return facts


def weights(folder: Path) -> bytes:
    return (folder / CLASSIFIER / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", [RspgPre, RspgPost])
def test_neither_the_order_of_questions_nor_another_run_changes_what_is_learned(kind, tmp_path):
    questions = matching(120)
    facts = fitted(router(kind), questions, tmp_path / "one")
    shuffled = random.Random(1).sample(questions, len(questions))
    assert fitted(router(kind), shuffled, tmp_path / "other") == facts
    assert weights(tmp_path / "one") == weights(tmp_path / "other")
    assert fitted(router(kind, seed=1), questions, tmp_path / "seed") != facts


def test_the_size_of_batches_of_texts_changes_no_choice(tmp_path):
    questions = matching(60)
    one = router()
    fitted(one, questions, tmp_path / "fit")
    small = router(batch_tokens=64)
    small.fitted = one.fitted
    task = all_tasks()["lamp2"]
    asked = [replace(q, rewards=None) for q in questions]
    for few, many in zip(
        small.choose(task, NAMES, asked), one.choose(task, NAMES, asked), strict=True
    ):
        assert few.candidate == many.candidate
        assert few.probabilities == pytest.approx(many.probabilities, abs=1e-5)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_fit_goes_on_and_ends_alike(tmp_path, monkeypatch, at):
    questions = matching(80)
    facts = fitted(router(), questions, tmp_path / "whole")
    real = EpochFit._epoch

    def killed(self, epoch):
        if epoch == at:
            raise KeyboardInterrupt
        return real(self, epoch)

    broken = tmp_path / "broken"
    (broken / WORK).mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(EpochFit, "_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            router().fit(questions, broken)
    epochs = []
    monkeypatch.setattr(EpochFit, "_epoch", lambda s, e: epochs.append(e) or real(s, e))
    assert fitted(router(), questions, broken) == facts
    assert epochs == list(range(at, 4))
    assert weights(broken) == weights(tmp_path / "whole")


def test_a_damaged_state_is_set_aside_and_the_fit_begins_anew(tmp_path, caplog):
    questions = matching(40)
    facts = fitted(router(), questions, tmp_path / "whole")
    folder = tmp_path / "damaged"
    (folder / STATE).parent.mkdir(parents=True)
    (folder / STATE).write_bytes(b"cut off")
    assert fitted(router(), questions, folder) == facts
    assert "is damaged" in caplog.text


def test_equal_and_several_best_candidates_are_counted(tmp_path):
    questions = matching(40)
    questions[1] = replace(questions[1], rewards=(1.0, 1.0))
    facts = fitted(router(), questions, tmp_path / "fit")
    held_out = sum(one.held_out for one in questions)
    assert facts["questions"] == 40
    assert facts["questions_with_equal_rewards"] == 1
    assert facts["questions_with_several_best"] == 0
    assert facts["questions_held_out"] == held_out
    assert facts["questions_learned_from"] == 40 - held_out - 1
    assert [row["epoch"] for row in facts["curve"]] == [0, 1, 2, 3]
    assert facts["held_out_best_single"] <= facts["held_out_oracle"] == 1.0


def test_the_held_out_users_choose_the_epoch_and_nothing_else_reads_them(tmp_path):
    questions = matching(80)
    other = [replace(one, rewards=one.rewards[::-1]) if one.held_out else one for one in questions]
    one, two = (fitted(router(), qs, tmp_path / str(n)) for n, qs in enumerate([questions, other]))
    losses = [[row.get("loss") for row in facts["curve"]] for facts in (one, two)]
    assert losses[0] == losses[1]
    assert one["curve"] != two["curve"]


def test_long_texts_are_cut_and_counted(tmp_path):
    questions = matching(40)
    questions[3] = replace(questions[3], prompts=("tree " * 100, questions[3].prompts[1]))
    assert fitted(router(), questions, tmp_path / "fit")["texts_cut"] == 1
    post = router(RspgPost)
    assert fitted(post, questions, tmp_path / "post")["texts_cut"] == 1
    assert max(len(r["input_ids"]) for r in post.start().tokenize([("tree " * 99, "x")])[0]) == 64


def test_a_fit_is_an_artefact_of_what_was_learned_from(tmp_path):
    store, questions = ArtefactStore(tmp_path), matching(40)
    source = RouterSource(("a", "b"), questions, {"epochs": 3}, "code", 0)
    one = FittedRouter(router(), source)
    made = store.make(one)
    assert made.kind == "router" and (made.folder / CLASSIFIER).is_dir()
    backwards = FittedRouter(router(), replace(source, questions=questions[::-1]))
    assert store.find(backwards).folder == made.folder
    changed = [replace(questions[0], outputs=("other", "no")), *questions[1:]]
    for other in (
        replace(source, questions=changed), replace(source, seed=1), replace(source, code="x"),
        replace(source, options={"epochs": 4}),
    ):  # fmt: skip
        assert store.find(FittedRouter(router(), other)) is None


def test_a_classifier_from_a_folder(tmp_path):
    fitted(router(), matching(40), tmp_path / "fit")
    folder = str(tmp_path / "fit" / CLASSIFIER)
    router(fresh=None, name=folder).validate(NAMES)
    with pytest.raises(InputError, match="reads at most 64 tokens"):
        router(fresh=None, name=folder, max_length=65).validate(NAMES)
    with pytest.raises(InputError, match="must name a sequence classifier"):
        router(fresh=None).validate(NAMES)


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("lr", 0.0), ("warmup", 2), ("temperature", 0), ("target_temperature", -1),
     ("batch_questions", 1.5), ("folds", 3)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(InputError, match=f"router.{option}={value} must be"):
        router(**{option: value}).validate(NAMES)


# --- from the command line ---------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch, lamp_exp):
    """Runs the command with a reader that copies the first item's title; three candidates."""
    write_pool(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *words: lamp_exp(*WORDS, *words)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pool"]:
        del sys.modules[name]


WORDS = [
    "--config-dir", "pool/conf", "task=lamp4", "split=time", "mode=zeroshot", "model=copy",
    "limit=60", "k=1",
]  # fmt: skip
FIXED = ["router/candidates=fixed"]
VOTE, ORACLE = [["router=vote", *FIXED], ["router=oracle", *FIXED]]
LEARNED = ["router=rspg_post", *FIXED, *SMALL]


def columns(folder: Path) -> dict[str, list]:
    return pyarrow.parquet.read_table(folder / "examples.parquet").to_pydict()


@pytest.mark.long
def test_a_routed_run_is_a_full_record(run, tmp_path):
    code, out, err = run(*LEARNED)
    assert code == 0, err
    folder, result = folder_of(out), RunFolder(folder_of(out)).read()
    assert folder.name.startswith("lamp4-time-dev-zeroshot-rspg_post-copy-s0-")
    examples, routing = columns(folder), result.routing
    assert [one.name for one in routing.candidates] == ["none", "recency", "bm25"]
    assert sum(one.chosen for one in routing.candidates) == 60
    assert set(examples["chosen_candidate"]) <= {"none", "recency", "bm25"}
    assert all(1 / 3 - 1e-6 <= p <= 1 for p in examples["probability"])
    for row, name in enumerate(examples["chosen_candidate"]):
        assert examples["rouge_1"][row] == examples[f"score_of_{name}"][row]
    for one in routing.candidates:  # ordinary runs
        single = RunFolder(folder.parent / one.run)
        own = columns(single.path)
        assert own["rouge_1"] == examples[f"score_of_{one.name}"]
        assert single.read().main_value == one.value
        (train,) = one.learned_from
        assert RunFolder(folder.parent / train).read().part == "train"
        chosen = [n for n, name in enumerate(examples["chosen_candidate"]) if name == one.name]
        for file in ("predictions.json", "prompts.jsonl"):
            assert len(contents(folder / file)) == 60
            for row in chosen:
                assert contents(folder / file)[row] == contents(single.path / file)[row]
    assert result.main_value == pytest.approx(sum(examples["rouge_1"]) / 60)
    assert routing.worst <= result.main_value <= routing.oracle
    fit = result.learned[0]
    assert (fit["kind"], fit["group"], len(fit["curve"])) == ("router", "router", 3)
    assert result.data["learning"].questions == 60
    assert not result.bound and result.k is None
    assert "without profile" in out
    again = run(*LEARNED)[1]
    assert again == out


def contents(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return rows(path)
    return json.loads(path.read_text())["golds"]


@pytest.mark.long
def test_candidates_are_shared_with_ordinary_runs(run):
    single = folder_of(run("retriever=bm25")[1])
    written = (single / "result.json").stat().st_mtime_ns
    routed = RunFolder(folder_of(run(*VOTE)[1])).read()
    assert routed.routing.candidates[2].run == single.name
    assert (single / "result.json").stat().st_mtime_ns == written
    assert folder_of(run("k=0")[1]).name == routed.routing.candidates[0].run


@pytest.mark.long
def test_the_oracle_is_marked_as_a_bound(run):
    result = RunFolder(folder_of(run(*ORACLE)[1])).read()
    values = [one.value for one in result.routing.candidates]
    assert result.bound
    assert result.main_value == result.routing.oracle >= max(values)
    assert result.routing.worst <= min(values)
    assert result.routing.success_rate == 1.0
    assert result.notes[0].startswith("a bound, and no system")
    assert columns(folder_of(run(*ORACLE)[1]))["probability"] == [None] * 60


@pytest.mark.long
def test_a_router_never_sees_the_golds_of_the_asked_part(run, monkeypatch):
    seen = {}
    learn, choose = RspgPost.fit, RspgPost.choose

    def fit(self, questions, folder):
        seen["fit"] = questions
        return learn(self, questions, folder)

    def choose_spied(self, task, candidates, questions):
        seen["choose"] = questions
        return choose(self, task, candidates, questions)

    monkeypatch.setattr(RspgPost, "fit", fit)
    monkeypatch.setattr(RspgPost, "choose", choose_spied)
    examples = columns(folder_of(run(*LEARNED)[1]))
    asked = {one.id for one in seen["choose"]}
    assert asked == set(examples["id"])
    assert not asked & {one.id for one in seen["fit"]}
    assert all(one.rewards is None for one in seen["choose"])
    assert all(one.rewards is not None for one in seen["fit"])


def test_a_candidate_that_cannot_rank_undated_items_is_left_out(run):
    code, out, err = run(*VOTE, "split=user")
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    assert [one.name for one in result.routing.candidates] == ["none", "bm25"]
    assert "orders items by date" in result.routing.left_out["recency"]
    assert "candidate recency is left out" in out


@pytest.mark.long
def test_options_of_candidates(run):
    words = ["router.candidates.bm25.k=2", "+router.candidates.few={retriever:random}", "seed=3"]
    result = RunFolder(folder_of(run(*VOTE, *words)[1])).read()
    identities = result.identity["candidates"]
    assert [one["k"] for one in identities.values()] == [0, 1, 2, 1]
    assert [one["seed"] for one in identities.values()] == [3] * 4
    assert identities["few"]["retriever"] == "random"
    fewer = run(*VOTE, "router.candidates.recency=null", "retriever.k1=1.3")
    result = RunFolder(folder_of(fewer[1])).read()
    assert list(result.identity["candidates"]) == ["none", "bm25"]
    assert result.identity["candidates"]["bm25"]["retriever.k1"] == 1.3


def test_the_options_of_another_retriever_do_not_reach_a_candidate(run):
    code, out, err = run(*VOTE, "retriever=bm25", "retriever.k1=1.3")
    assert code == 0, err
    identities = RunFolder(folder_of(out)).read().identity["candidates"]
    assert "retriever.k1" in identities["bm25"]
    assert "retriever.k1" not in identities["recency"]


@pytest.mark.long
def test_k_of_a_candidate_may_be_tuned(run):
    words = ["router.candidates.bm25.k=tune", "k_values=[1,2]", "part=train"]
    code, out, err = run(*VOTE, *words)
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    tuned = RunFolder(folder_of(out).parent / result.routing.candidates[2].run).read()
    assert tuned.tuned is not None and "-ktune-" in tuned.run


@pytest.mark.long
def test_the_settings_of_a_record_repeat_it(run, lamp_exp):
    words = ["router.candidates.bm25.k=2", "router.candidates.recency=null"]
    folder = folder_of(run(*LEARNED, *words)[1])
    result = RunFolder(folder).read()
    with config_dir(Path("pool/conf")):
        command = overrides_of(result.settings, result.choices)
    assert folder_of(lamp_exp("--config-dir", "pool/conf", *command)[1]) == folder


@pytest.mark.long
def test_a_stale_candidate_makes_the_routed_run_stale(run):
    folder = folder_of(run(*VOTE)[1])
    result = RunFolder(folder).read()
    assert result.stale is None
    candidate = RunFolder(folder.parent / result.routing.candidates[2].run)
    content = recorded(candidate.path)
    content["code"]["fingerprint"] = "of other code"
    (candidate.path / "result.json").write_text(json.dumps(content))
    run(*VOTE)
    assert candidate.stale
    assert "candidate bm25 is stale" in RunFolder(folder).read().stale
    started = result.started
    assert folder_of(run(*VOTE, "rerun=stale")[1]) == folder
    assert candidate.stale is None
    assert RunFolder(folder).read().stale is None
    assert RunFolder(folder).read().started >= started


@pytest.mark.long
def test_folds_cross_what_candidates_learn(run):
    code, out, err = run(*LEARNED, "router.folds=2")
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    ids = []
    for name in result.routing.candidates[2].learned_from:
        train = folder_of(out).parent / name
        assert recorded(train)["identity"]["fold"] == len(ids)
        ids.append(set(columns(train)["id"]))
    assert len(ids) == 2 and not ids[0] & ids[1]
    assert folder_of(run(*LEARNED)[1]) != folder_of(out)


def test_a_fold_is_asked_and_the_other_half_is_learned_from():
    words = ["task=lamp4", "model=tiny", "part=train", "limit=50", "selection=holdout"]
    users = [
        {name: set(part.examples.column("user")) for name, part in parts.by_name.items()}
        for fold in (0, 1)
        for parts in [read_parts(experiment(*words, f"fold={fold}"))]
    ]
    for one in users:
        assert not one["asked"] & (one["train"] | one["selection"])
        assert not one["train"] & one["selection"]
    assert not users[0]["asked"] & users[1]["asked"]


@pytest.mark.long
def test_notes_say_what_a_router_learned_from(run, monkeypatch):
    from lamp_exp.experiment import routing

    monkeypatch.setattr(routing, "_learns", lambda candidate: candidate.name == "bm25")
    notes = RunFolder(folder_of(run(*LEARNED)[1])).read().notes
    assert any("optimistic on train" in note and "(bm25)" in note for note in notes)


@pytest.mark.long
def test_a_language_model_names_candidates(run):
    words = ["router=llm", *FIXED, "router.max_length=400"]
    named = ["router.fallback=none", """router.instruction='"bm25" {question} {candidates}'"""]
    result = RunFolder(folder_of(run(*words, *named)[1])).read()
    assert [one.chosen for one in result.routing.candidates] == [0, 0, 60]
    assert result.counts["choices_by_fallback"] == 0
    result = RunFolder(folder_of(run(*words)[1])).read()  # copies no name: the best on held-out
    best = result.routing.facts["fallback"]
    assert {one.name: one.chosen for one in result.routing.candidates}[best] == 60
    assert result.counts["choices_by_fallback"] == 60
    assert all(one.learned_from for one in result.routing.candidates)


@pytest.mark.long
def test_a_part_without_golds_has_choices_only(run, data_dir):
    instruction = all_tasks()["lamp4"].instruction
    items = [{"id": str(n), "text": f"text {n}", "title": f"title {n}"} for n in range(3)]
    questions = [
        {"id": str(n), "input": f"{instruction} text {n}", "profile": items} for n in range(4)
    ]
    place = data_dir("LaMP_4", "test", questions)
    words = [f"data_dir={place}", "split=user", "part=test"]
    code, out, err = run(*VOTE, *words)
    assert code == 0, err
    result = RunFolder(folder_of(out)).read()
    assert result.metrics is None and result.routing.oracle is None
    assert sum(one.chosen for one in result.routing.candidates) == 4
    assert not any(name.startswith("score_of_") for name in columns(folder_of(out)))
    code, _, err = run(*ORACLE, *words)
    assert code == 2 and "router=oracle reads golds, but" in err


@pytest.mark.long
def test_a_dry_run_names_the_candidates(run):
    out = run(*LEARNED, "dry_run=true")[1]
    assert "(candidate bm25)" in out
    assert "first router: learns from the candidates" in out
    assert not list(Path("outputs").glob("lamp4-*"))
    run(*LEARNED)
    assert "finished" in run(*LEARNED, "dry_run=true")[1]


@pytest.mark.long
def test_a_sweep_with_a_router(run, lamp_exp):
    code, out, err = lamp_exp("-m", *WORDS, *VOTE, "seed=0,1")
    assert code == 0, err
    assert [recorded(path)["choices"]["router"] for path in runs_of(out)] == ["vote", "vote"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["mode=rank"], "a router chooses among answers, and mode=rank has none"),
        (["router.candidates.bm25.retriever=bm52"], "router.candidates.bm25: retriever="),
        (["router.candidates={x:{k:1}}"],
         "router.candidates has no x: add it with a plus, +router.candidates.x="),
        (["+router.candidates.x={part:test}"], "router.candidates.x cannot change part"),
        (["+router.candidates.x={router:vote}"], "router.candidates.x cannot change router"),
        (["+router.candidates.x={mode:rank}"], "router.candidates.x: mode=rank has no answers"),
        (["+router.candidates.x=bm25"], "router.candidates.x=bm25 must name options"),
        (["router.candidates.bm25=null", "router.candidates.none=null"],
         "needs two candidates or more, but router.candidates has 'recency'"),
        (["fold=0"], "fold=0 divides train: use it with part=train"),
        (["router.votes=2"], "router.votes is no option"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_any_work(run, words, line):
    code, _, err = run(*VOTE, *words)
    assert code == 2
    assert line in err and err.count("\n") == 1
    assert not list(Path("outputs").glob("lamp4-*"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*LEARNED, "limit=2"], "too few to hold out a tenth of them"),
        ([*LEARNED, "router.name=./x", "router.fresh=null"], "there is no such folder"),
        (["router=llm", *FIXED, "router.fallback=x"], "router.fallback=x is none of the"),
        (["router=llm", *FIXED, "router.instruction=Choose"], "router.instruction lacks"),
        (["router=llm", *FIXED, "router.max_length=20"], "has no room for a question"),
    ],
)  # fmt: skip
def test_what_a_router_cannot_do_is_told_before_any_work(run, words, line):
    code, _, err = run(*words)
    assert code == 2
    assert line in err and err.count("\n") == 1
    assert not list(Path("outputs").glob("lamp4-*"))


@pytest.mark.long
def test_the_report_of_routers(run, report):
    assert run(*LEARNED)[0] == 0
    assert run(*VOTE)[0] == 0
    code, out, err = report("router", "--format", "csv")
    assert code == 0, err
    result = RunFolder(next(Path("outputs").glob("lamp4-*-rspg_post-*"))).read()
    values = [one.value for one in result.routing.candidates]
    shown = [cell for row in out.splitlines() if "rspg_post" in row for cell in row.split(",")]
    for number in (result.main_value, max(values), result.routing.oracle):
        assert str(number) in shown
    code, _, err = report("router", "--where", "router=oracle")
    assert code == 2 and "no run with a router" in err


@pytest.mark.slow
def test_two_processes_choose_as_one_does(lamp_exp, tmp_path):
    words = ["task=lamp4", "mode=zeroshot", "model=tiny", "k=1", "limit=30", "max_new_tokens=4",
             "trainer.enable_progress_bar=false", "router=rspg_post", *SMALL,
             "router/candidates=fixed", "router.candidates.recency=null",
             "+router.candidates.random={retriever:random}"]  # fmt: skip

    def command(place: str, *devices: str) -> list[str]:
        here = [f"output_dir={tmp_path / place}", "trainer.accelerator=cpu"]
        return [sys.executable, "-m", "lamp_exp", *words, *devices, *here]

    one = finished_here(lamp_exp, command("one", "trainer=cpu"))
    two = finished_run(command("two", "trainer=ddp", "trainer.devices=2"))
    assert one.name == two.name
    assert (one / "predictions.json").read_bytes() == (two / "predictions.json").read_bytes()
    chosen = [columns(run)["chosen_candidate"] for run in (one, two)]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) > 1
