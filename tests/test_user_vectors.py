"""Adapters of soft tokens: they learn on train, and never from the questions that are asked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from lamp_exp.adapters import learned_tokens
from lamp_exp.adapters.learned_tokens import READER, Shown
from lamp_exp.adapters.soft_prompt import SoftPrompt
from lamp_exp.adapters.text_encoders import SentenceEncoders
from lamp_exp.adapters.user_vector import WEIGHTS, UserVector, kept_items
from lamp_exp.adapters.word_means import WordMeans
from lamp_exp.experiment.learning import artefacts_of, learn, needed_artefacts
from lamp_exp.experiment.run import baseline_folder
from lamp_exp.experiment.stages import load_parts, make_prompts
from lamp_exp.models.soft_tokens import SOFT_TOKENS
from lamp_exp.retrievers.dense import Dense
from lamp_exp.tasks import all_tasks
from lamp_exp.values import History
from tests.conftest import build, compose, name_of, recorded, trainer
from tests.sweeps import finished_here, finished_run
from tests.test_adapters import llama, model, question, weights  # noqa: F401  (fixtures)
from tests.test_cli import folder_of
from tests.test_dense import encoder  # noqa: F401  (a fixture)

BASE = [
    "task=lamp4", "model=tiny", "mode=zeroshot", "k=0", "limit=12", "profile.max_items=4",
    "profile.keep=first", "trainer=cpu", "trainer.enable_progress_bar=false", "max_new_tokens=4",
]  # fmt: skip
QUICK = ["adapter.epochs=2", "adapter.lr=0.05", "adapter.batch_size=4"]
USERS = [*BASE, "adapter=user_vector_fresh", *QUICK]
PROMPT = [*BASE, "adapter=soft_prompt", *QUICK]
TOGETHER = "adapter.train_reader=true"


def prepared(weights: Path, place: Path, *words: str):  # noqa: F811
    """An experiment whose adapter has learned, its prompts, and the folder of what was learned."""
    made, configuration = build(*words, f"model.name={weights}", f"output_dir={place}")
    parts = load_parts(made)
    learned = learn(made, configuration, parts)["adapter"][-1]
    return made, make_prompts(made, parts.asked, None).prompts, learned


def answers(made, prompts) -> dict[str, str]:
    found = made.model.predict(prompts, trainer)
    return {one.id: one.output for one in found}


def content(folder: Path) -> dict[str, str]:
    """A digest of each file of weights."""
    files = sorted(folder.rglob("*.safetensors"))
    assert files
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# --- the vectors -------------------------------------------------------------------------------


def adapter(**changes) -> UserVector:
    given = {
        "encoder": WordMeans(8), "query_prefix": "", "soft_tokens": 3, "sharpness": 5.0,
        "learn_sharpness": False, "subsets": 0, "dropped": 0.5, "train_reader": False, "epochs": 1,
        "lr": 0.1, "batch_size": 2, "warmup": 0.0, "weight_decay": 0.0, "seed": 0,
    }  # fmt: skip
    return UserVector(**(given | changes))


ROSE = History("the old rose", ["the rose near lake", "an oven", "the nurse meets the judge"])


def shown(history: History, part: str | None = None) -> Shown:
    return Shown("q", lambda id: history, part)


@torch.no_grad()
def test_a_user_is_the_mean_of_projected_items_by_the_softmax_of_cosines(weights):  # noqa: F811
    reader = model(weights)
    network = adapter().new_network(reader).eval()
    (vectors,) = network.tokens([shown(ROSE)])
    table = reader.net.get_input_embeddings().weight

    def mean(text: str) -> torch.Tensor:
        found = table[reader.tokenizer(text, add_special_tokens=False)["input_ids"]].mean(dim=0)
        return found / found.norm()

    items = torch.stack([mean(text) for text in ROSE.items])
    shares = (5.0 * (items @ mean(ROSE.query))).softmax(dim=0)
    user = sum(share * network.project(one) for share, one in zip(shares, items, strict=True))
    norm = table.norm(dim=1).mean()
    assert vectors.shape == (3, table.shape[1])
    assert torch.allclose(vectors[1:].flatten(), user * norm, atol=1e-4)
    instruction = network.instruct(network.instruction)[0]
    assert torch.allclose(vectors[0], instruction * norm, atol=1e-4)
    (other,) = network.tokens([shown(replace(ROSE, items=ROSE.items[:1]))])
    assert torch.equal(other[0], vectors[0])  # alike for all users
    assert not torch.allclose(other[1:], vectors[1:])


@torch.no_grad()
def test_a_single_soft_token_is_the_users_and_no_history_is_zero(weights):  # noqa: F811
    network = adapter(soft_tokens=1).new_network(model(weights)).eval()
    empty = shown(History("the old rose", []))
    assert network.tokens([shown(ROSE), empty])[1].tolist() == [[0.0] * network.width]
    assert network.tokens([shown(ROSE)]).abs().sum() > 0


@torch.no_grad()
def test_texts_are_cut_at_the_tokens_of_the_encoder_and_counted(weights):  # noqa: F811
    reader, long = model(weights), History("the", ["old " * 8 + "rose", "old " * 8])
    made = adapter()
    network = made.new_network(reader)
    assert torch.allclose(*network.encoders.items(long.items))
    counts = made.count_histories(reader, ["a", "b"], lambda id: long)
    assert counts == {
        "questions_without_history": 0, "items": 4, "own_items_left_out": 0, "items_cut": 2
    }  # fmt: skip
    assert not network.encoders.queries([""]).any()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 10, 101])
def test_a_random_part_of_a_history_lacks_up_to_half_of_it(number):
    sizes = set()
    for seed in range(60):
        kept = kept_items(number, 0.5, f"{seed}")
        assert kept == sorted(set(kept)) == kept_items(number, 0.5, f"{seed}")
        assert set(kept) <= set(range(number))
        sizes.add(number - len(kept))
    most = max(1, number // 2) if number > 1 else 0
    assert (min(sizes), max(sizes)) == (min(most, 1), most)
    assert kept_items(number, 0.0, "any") == list(range(number))


def test_each_copy_of_a_question_is_shown_with_its_own_part_in_each_epoch(weights):  # noqa: F811
    network = adapter().new_network(model(weights))
    history = History("the", [f"{word} oven" for word in ("old", "rose", "lake", "nurse", "judge")])
    parts = [network._items(shown(history, f"0:1:q:{copy}"), history) for copy in range(1, 9)]
    assert {len(part) for part in parts} == {3, 4}
    assert len(network._items(shown(history), history)) == 5


def test_a_sentence_encoder_learns_and_its_items_stay(weights, encoder, tmp_path):  # noqa: F811
    words = [*USERS, "+retriever@adapter.encoder=minilm", f"adapter.encoder.name={encoder}"]
    made, prompts, learned = prepared(weights, tmp_path, *words, "limit=2", "adapter.epochs=1")
    network = made.adapter.new_network(model(weights))
    assert isinstance(network.encoders, SentenceEncoders)
    start = {n: w.clone() for n, w in network.encoders.trained.state_dict().items()}
    texts = ["the old rose", "an oven"]
    items = torch.from_numpy(Dense(encoder, normalize=True, device="cpu").encode(texts))
    assert torch.allclose(network.encoders.items(texts), items, atol=1e-3)
    with torch.no_grad():
        queries = torch.nn.functional.normalize(network.encoders.queries(texts))
    assert torch.allclose(queries, items, atol=1e-3)
    made.adapter.read(network, learned.folder)
    end = network.encoders.trained.state_dict()
    assert learned.facts["chosen_epoch"] == 0 or any(
        not torch.equal(start[name], end[name]) for name in start
    )
    assert learned.facts["encoder"]["encoder"] == encoder
    assert len(answers(made, prompts)) == 2


def test_a_soft_prompt_is_a_folder_that_peft_loads(weights, llama, tmp_path):  # noqa: F811
    for folder, of in ((weights, AutoModelForSeq2SeqLM), (llama, AutoModelForCausalLM)):
        kind = "model=tiny" if folder == weights else "model=causal"
        words = [*PROMPT, kind, "limit=6", "adapter.soft_tokens=3"]
        made, prompts, learned = prepared(folder, tmp_path / folder.name, *words)
        reader = made.model
        reader.configure_model()
        batch = reader.collate(prompts[:1], ["the rose"])
        vectors = made.adapter.soft_tokens(reader, [prompts[0].id])
        tuned = PeftModel.from_pretrained(of.from_pretrained(folder), learned.folder).eval()
        assert str(folder) not in (learned.folder / "adapter_config.json").read_text()
        with torch.no_grad():
            own, labels = reader.logits({**batch, SOFT_TOKENS: vectors})
            if reader.multiple_passages:
                inputs = {n: batch[n][:, 0] for n in ("input_ids", "attention_mask")}
                theirs = tuned(**inputs, labels=batch["labels"]).logits[0]
            else:
                theirs = tuned(**batch["learned"]).logits[0, -len(labels) - 1 : -1]
        assert torch.allclose(own, theirs, atol=1e-5)


# --- learning ----------------------------------------------------------------------------------


def test_answers_depend_on_no_other_question_nor_on_batches(weights, tmp_path):  # noqa: F811
    made, prompts, _ = prepared(weights, tmp_path, *USERS)
    together = answers(made, prompts)
    made.model.settings = replace(made.model.settings, predict_batch_size=5)
    assert answers(made, prompts[::-1]) == together
    assert answers(made, prompts[3:4]) == {prompts[3].id: together[prompts[3].id]}
    ids = [prompt.id for prompt in prompts]
    vectors = made.adapter.soft_tokens(made.model, ids)
    assert len({str(one.tolist()) for one in vectors}) == len(ids)  # of each user


@pytest.mark.parametrize("words", [USERS, PROMPT], ids=["user_vector", "soft_prompt"])
def test_a_reader_that_is_frozen_keeps_its_weights(weights, tmp_path, words):  # noqa: F811
    made, prompts, learned = prepared(weights, tmp_path, *words)
    own = model(weights).net.state_dict()
    answers(made, prompts)
    assert all(torch.equal(own[name], now) for name, now in made.model.net.state_dict().items())
    assert all(weight.requires_grad for weight in made.model.net.parameters())
    assert [row["epoch"] for row in learned.facts["curve"]] == [0, 1, 2]
    assert learned.facts["questions_learned_from"] + learned.facts["questions_held_out"] == 12
    assert not (learned.folder / READER).exists()


def test_a_reader_that_learns_along_lives_in_the_artefact(weights, tmp_path):  # noqa: F811
    before = content(weights)
    words = [*USERS, TOGETHER, "adapter.epochs=3"]
    made, prompts, learned = prepared(weights, tmp_path, *words)
    assert learned.facts["chosen_epoch"] > 0
    assert content(weights) == before
    told = answers(made, prompts)
    kept = AutoModelForSeq2SeqLM.from_pretrained(learned.folder / READER).state_dict()
    assert all(torch.equal(kept[name], now) for name, now in made.model.net.state_dict().items())
    own = model(weights).net.state_dict()
    assert not all(torch.equal(own[name], kept[name]) for name in own)
    again, prompts, learned = prepared(weights, tmp_path, *words)
    assert learned.was_there
    assert answers(again, prompts) == told


def test_the_golds_of_the_asked_questions_are_never_read(weights, tmp_path, data_dir):  # noqa: F811
    items = [("the old rose near lake", "the rose"), ("the oven", "an oven")]
    train = [question(f"t{n}", f"u{n}", f"old {n}", *items) for n in range(30)]
    asked = [question(f"d{n}", f"v{n}", f"new {n}", *items[::-1]) for n in range(3)]

    def learned(*golds: str, place: str) -> tuple[str, dict[str, str], dict[str, str]]:
        for part, questions, texts in (("train", train, ["the rose"] * 30), ("dev", asked, golds)):
            pairs = zip(questions, texts, strict=True)
            outputs = {"task": "LaMP_4", "golds": [{"id": q["id"], "output": g} for q, g in pairs]}
            where = data_dir("LaMP_4", part, questions, outputs)
        words = [*USERS, "limit=null", f"data_dir={where}"]
        made, prompts, found = prepared(weights, tmp_path / place, *words)
        return found.folder.name, content(found.folder), answers(made, prompts)

    assert learned("a", "b", "c", place="one") == learned("x", "canary", "", place="two")
    # They may be missing, but those of train may not.
    (tmp_path / "data" / "LaMP_4" / "dev" / "dev_outputs.json").unlink()
    words = [*USERS, "limit=null", f"data_dir={tmp_path / 'data'}", f"model.name={weights}"]
    made, _ = build(*words, f"output_dir={tmp_path / 'three'}")
    load_parts(made)


class Killed(BaseException):
    """Ends the process."""


@pytest.mark.long
@pytest.mark.parametrize("words", [USERS, [*USERS, TOGETHER]], ids=["frozen", "learning"])
def test_what_was_broken_off_goes_on_after_the_last_epoch(
    weights, tmp_path, monkeypatch, words  # noqa: F811
):  # fmt: skip
    many = [*words, "adapter.epochs=3", "adapter.subsets=1"]
    whole = prepared(weights, tmp_path / "whole", *many)[2]
    epoch, calls = learned_tokens._Fit._epoch, []

    def breaking(fit, number: int) -> float:
        calls.append(number)
        if len(calls) == 3:
            raise Killed
        return epoch(fit, number)

    monkeypatch.setattr(learned_tokens._Fit, "_epoch", breaking)
    with pytest.raises(Killed):
        prepared(weights, tmp_path / "broken", *many)
    again = prepared(weights, tmp_path / "broken", *many)[2]
    assert calls == [1, 2, 3, 3]
    assert content(again.folder) == content(whole.folder)
    assert again.facts["curve"] == whole.facts["curve"]


@pytest.mark.long
def test_runs_share_what_was_learned_but_for_what_decides_it(weights, tmp_path):  # noqa: F811
    def place(*words: str) -> Path:
        made, configuration = build(*words, f"model.name={weights}", f"output_dir={tmp_path}")
        parts = load_parts(made)
        ((artefact, state),) = needed_artefacts(made, configuration, parts)
        assert state == "to make"
        (same,) = artefacts_of(made, configuration, parts)["adapter"]
        assert same.identity() == artefact.identity()
        return artefact.identity()

    shuffled = "profile.control=shuffled_user"
    users, prompt = place(*USERS), place(*PROMPT)
    assert place(*USERS, "predict_batch_size=2") == users
    assert place(*PROMPT, shuffled) == prompt
    for word in (shuffled, "k=1", "seed=1", "limit=11", "adapter.sharpness=2", TOGETHER):
        assert place(*USERS, word) != users
    assert place(*PROMPT, "k=1", shuffled) != place(*PROMPT, "k=1")


# --- runs --------------------------------------------------------------------------------------


def ran(lamp_exp: Callable[..., tuple[int, str, str]], *words: str) -> Path:
    code, out, err = lamp_exp(*words)
    assert code == 0, err
    return folder_of(out)


def test_a_run_records_what_was_learned_and_what_was_read(lamp_exp, weights, tmp_path):  # noqa: F811
    where = [f"model.name={weights}", f"output_dir={tmp_path}"]
    run = ran(lamp_exp, *USERS, *where, "k=1", "summary=statistics", "profile.max_items=3")
    record = recorded(run)
    assert 24 < record["adapter"].pop("items") <= 36
    assert record["adapter"] == {
        "soft_tokens": 2, "train_reader": False, "questions_without_history": 0,
        "own_items_left_out": 0, "items_cut": 0, "sharpness": 10.0,
    }  # fmt: skip
    (learned,) = record["learned"]
    assert (learned["group"], learned["kind"], learned["made_now"]) == ("adapter", "adapter", True)
    assert {"reward", "log_likelihood", "loss"} <= learned["curve"][1].keys()
    assert learned["items"] > 0
    assert "the adapter has learned from the golds of train" in record["notes"]
    assert "user_vector_fresh" in run.name
    assert "learning" in record["data"]
    prompt = recorded(ran(lamp_exp, *PROMPT, *where))
    assert prompt["adapter"] == {"uses_profile": False, "soft_tokens": 2, "train_reader": False}
    again = ran(lamp_exp, *PROMPT, *where, "profile.control=shuffled_user")
    assert recorded(again)["started"] == prompt["started"]  # it is the same run


def test_a_soft_prompt_reads_no_profile_and_is_not_the_baseline(weights, tmp_path):  # noqa: F811
    def of(*words: str):
        made, configuration = build(*words, f"model.name={weights}", f"output_dir={tmp_path}")
        return made, configuration, load_parts(made), tmp_path

    plain = [word for word in BASE if not word.startswith("profile")]
    plain += [f"model.name={weights}"]
    own = [*PROMPT, f"model.name={weights}"]
    users = [*USERS, f"model.name={weights}"]
    control = "profile.control=shuffled_user"
    assert baseline_folder(*of(*own)).name == baseline_folder(*of(*users)).name == name_of(*plain)
    assert name_of(*own) == name_of(*own, control)
    assert name_of(*users) != name_of(*users, control)
    assert name_of(*own) != name_of(*own, "adapter.soft_tokens=3")
    usage = of(*own)[0].usage
    assert usage.personal
    assert not usage.reads_profile
    with_items = of(*own, "k=1")[0].usage
    assert with_items.reads_profile
    assert of(*own, "mode=prompts")[0].usage.others == frozenset()


def test_tables_tell_the_control_from_the_baseline(lamp_exp, report, weights, tmp_path):  # noqa: F811
    where = [f"model.name={weights}", f"output_dir={tmp_path}"]
    for words in (BASE, PROMPT, USERS):
        ran(lamp_exp, *words, *where)
    code, out, err = report("table", "--runs", str(tmp_path))
    assert code == 0, err
    assert "soft_prompt" in out
    assert "user_vector_fresh" in out
    code, out, err = report("personal", "--runs", str(tmp_path))
    assert code == 0, err
    assert "soft_prompt" in out


def test_user_vector_has_the_published_values():
    cfg, _ = compose("adapter=user_vector")
    values = {"soft_tokens": 2, "sharpness": 1.0, "learn_sharpness": False, "subsets": 10,
              "dropped": 0.5, "train_reader": False, "epochs": 2, "lr": 1e-4, "batch_size": 64,
              "warmup": 0.05, "weight_decay": 1e-4}  # fmt: skip
    assert {name: cfg.adapter[name] for name in values} == values
    assert cfg.adapter.encoder.name == "BAAI/bge-base-en-v1.5"
    fresh, prompt = (
        compose(f"adapter={n}")[0].adapter for n in ("user_vector_fresh", "soft_prompt")
    )
    assert prompt.epochs == fresh.epochs * (1 + fresh.subsets)  # as many steps
    for name in ("soft_tokens", "lr", "batch_size", "warmup", "weight_decay", "train_reader"):
        assert prompt[name] == fresh[name]


def test_sharpness_can_learn_along(weights):  # noqa: F811
    fixed, free = (
        adapter(learn_sharpness=learn).new_network(model(weights)) for learn in (False, True)
    )
    assert not fixed.log_sharpness.requires_grad
    free.tokens([shown(ROSE)]).pow(3).sum().backward()
    assert free.log_sharpness.grad.abs() > 0


# --- mistakes ----------------------------------------------------------------------------------

MISTAKES = [
    ("mode=finetune", "this adapter learns from train itself: use mode=zeroshot"),
    ("model.name=null", "soft tokens in front of random weights learn nothing"),
    ("limit=1", "has 1 user, too few to hold out a tenth of them"),
    ("adapter.soft_tokens=0", "adapter.soft_tokens=0 must be at least 1"),
    ("adapter.sharpness=0", "adapter.sharpness=0 must be above 0"),
    ("adapter.dropped=2", "adapter.dropped=2 must be at most 1"),
    ("adapter.subsets=-1", "adapter.subsets=-1 must be at least 0"),
    ("adapter.train_reader=maybe", "adapter.train_reader=maybe must be one of true, false"),
    ("adapter.encoder.max_length=0", "adapter.encoder.max_length=0 must be a number from 1 on"),
    ("adapter.encoder=null", "adapter.encoder: NoneType has no encoder of texts: choose"),
    ("adapter=user_vector", "adapter.encoder.name=BAAI/bge-base-en-v1.5: no files could be loaded"),
    ("adapter.train_reader=true trainer.precision=bf16-true", "needs weights in 32 bits"),
    ("k=1 retriever=oracle retriever@retriever.base=bm25", "which no adapter may learn from"),
    ("adapter.lr=1e30", "the loss of the soft tokens became"),
    ("profile.max_items=null profile.keep=newest k=1 profile.pool=all_users retriever=random",
     "profile.pool=all_users is for retrieval alone: use adapter=none"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_line(lamp_exp, weights, words, message):  # noqa: F811
    code, _, err = lamp_exp(*USERS, f"model.name={weights}", *words.split())
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err


def test_train_without_golds_is_one_line(lamp_exp, weights, data_dir):  # noqa: F811
    questions = [question(f"q{n}", f"u{n}", "new", ("the oven", "an oven")) for n in range(30)]
    data_dir("LaMP_4", "train", questions)
    place = data_dir("LaMP_4", "dev", [{**one, "user_id": one["id"]} for one in questions])
    code, _, err = lamp_exp(*USERS, f"model.name={weights}", "limit=null", f"data_dir={place}")
    assert code == 2, err
    assert "this adapter learns from the golds of train, but" in err


def test_models_elsewhere_and_quantised_ones_are_refused(llama):  # noqa: F811
    from lamp_exp.errors import InputError
    from lamp_exp.models.causal import Causal
    from lamp_exp.models.openai import OpenAI
    from tests.conftest import settings

    made = SoftPrompt(2, False, 1, 0.1, 2, 0.0, 0.0, 0)
    gguf = Causal(str(llama), settings(), {}, gguf_file="weights.gguf")
    for one, message in (
        (gguf, "quantised weights of a GGUF file"),
        (OpenAI.__new__(OpenAI), "API"),
    ):
        with pytest.raises(InputError, match=message):
            made.validate("zeroshot", all_tasks()["lamp4"], one)


# --- several processes -------------------------------------------------------------------------


def command(weights: Path, place: Path, *words: str) -> list[str]:  # noqa: F811
    where = [f"model.name={weights}", f"output_dir={place}"]
    return [sys.executable, "-m", "lamp_exp", *USERS, *where, *words]


def predictions(folder: Path) -> object:
    return json.loads((folder / "predictions.json").read_text())


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(lamp_exp, weights, tmp_path):  # noqa: F811
    many = ["limit=100", "adapter.epochs=4", TOGETHER]
    whole = finished_here(lamp_exp, command(weights, tmp_path / "whole", *many))
    with subprocess.Popen(command(weights, tmp_path / "killed", *many)) as process:
        while not list((tmp_path / "killed").glob(".cache/artefacts/.adapter-*/work/state.pt")):
            assert process.poll() is None, "it was too fast to be killed"
            time.sleep(0.02)
        process.kill()
    again = finished_here(lamp_exp, command(weights, tmp_path / "killed", *many))
    assert again.name == whole.name
    assert predictions(again) == predictions(whole)
    kept, other = (
        content(next((tmp_path / name).glob(".cache/artefacts/adapter-*")))
        for name in ("whole", "killed")
    )
    assert kept == other
    assert kept.keys() == {WEIGHTS, f"{READER}/model.safetensors"}


@pytest.mark.slow
def test_two_processes_answer_as_one_does(lamp_exp, weights, tmp_path):  # noqa: F811
    one = finished_here(lamp_exp, command(weights, tmp_path / "one", TOGETHER))
    devices = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    quiet = ["trainer.enable_progress_bar=false"]
    two = finished_run(command(weights, tmp_path / "two", TOGETHER, *devices, *quiet))
    assert one.name == two.name
    assert predictions(one) == predictions(two)
    assert recorded(one)["adapter"] == recorded(two)["adapter"]
