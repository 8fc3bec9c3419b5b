"""One adapter per user: it is learned on that user's profile, and depends on nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from lamp_exp.adapters import lora_training
from lamp_exp.adapters.lora_slot import CONFIG, WEIGHTS, LoraShape, LoraSlot
from lamp_exp.adapters.lora_training import LoraRecipe, rows_of, train_adapter
from lamp_exp.adapters.user_lora import FACTS, UserLora
from lamp_exp.data import load
from lamp_exp.errors import InputError
from lamp_exp.experiment.adapting import AskedProfiles, profile_key
from lamp_exp.experiment.learning import learn
from lamp_exp.experiment.run import baseline_folder
from lamp_exp.experiment.stages import load_parts
from lamp_exp.models.causal import Causal
from lamp_exp.models.openai import OpenAI
from lamp_exp.models.seq2seq import Seq2Seq, fresh_t5
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.storage.artefacts import UNITS
from lamp_exp.tasks import all_tasks
from lamp_exp.values import ProfileItem, Prompt
from tests.conftest import TINY, build, compose, name_of, recorded, settings, trainer
from tests.sweeps import finished_here, finished_run
from tests.test_cli import folder_of

SIZES = {
    "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
    "dropout_rate": 0.1,
}  # fmt: skip
QUICK = [
    "task=lamp4", "model=tiny", "mode=zeroshot", "k=0", "adapter=user_lora", "adapter.rank=2",
    "adapter.epochs=2", "adapter.lr=0.05", "limit=3", "profile.max_items=4", "profile.keep=first",
    "trainer=cpu", "trainer.enable_progress_bar=false", "max_new_tokens=4",
]  # fmt: skip


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights that nothing was learned by, with dropout."""
    folder, tokenizer = tmp_path_factory.mktemp("weights"), load_tokenizer(str(TINY))
    torch.manual_seed(0)
    fresh_t5(tokenizer, SIZES).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learned(weights: Path, place: Path, *words: str) -> Path:
    """Learns the adapters of an experiment; returns the folder of its units."""
    experiment, configuration = build(
        *QUICK, f"model.name={weights}", f"output_dir={place}", *words
    )
    made = learn(experiment, configuration, load_parts(experiment))
    return made["adapter"][-1].folder / UNITS


def contents(units: Path) -> dict[str, tuple[bytes, str]]:
    """The files of each adapter that decide its answers, by key."""
    return {
        unit.name: ((unit / WEIGHTS).read_bytes(), (unit / CONFIG).read_text())
        for unit in units.iterdir()
        if not unit.name.startswith(".")
    }


def question(id: str, user: str, text: str, *items: tuple[str, str]) -> dict[str, object]:
    """A question of LaMP-4 whose items have a text and a title."""
    profile = [{"id": f"{id}{n}", "text": t, "title": title} for n, (t, title) in enumerate(items)]
    input = f"Generate a headline for the following article: {text}"
    return {"id": id, "user_id": user, "input": input, "profile": profile}


ANNE = [("the old rose near lake", "the rose"), ("the oven", "an oven"), ("a nurse", "the nurse")]
BERT = [("the sailor meets the nurse", "a sailor"), ("the lakes", "lakes of old")]
CARL = [("one of the lakes meets the sailor", "one lake"), ("an old oven", "old")]


def asked(data_dir, *questions: dict[str, object], golds: str = "the rose") -> str:
    """The word that names a data folder with these questions."""
    answers = [{"id": one["id"], "output": golds} for one in questions]
    place = data_dir("LaMP_4", "dev", list(questions), {"task": "LaMP_4", "golds": answers})
    return f"data_dir={place}"


# --- pairs of items ----------------------------------------------------------------------------


def item(**fields: str) -> ProfileItem:
    return ProfileItem("1", fields)


@pytest.mark.parametrize(
    ("task", "fields", "input", "target"),
    [
        ("lamp1", {"title": "A", "abstract": "b"}, '"A"', "b"),
        ("lamp2", {"description": " x ", "tag": "action"}, "description:  x ", "action"),
        ("lamp2_news", {"text": "x", "title": "t", "category": "crime"}, "article: x", "crime"),
        ("lamp3", {"text": "x", "score": "4"}, "review: x", "4"),
        ("lamp4", {"text": "x", "title": "T"}, "article: x", "T"),
        ("lamp5", {"abstract": "x", "title": "T"}, "paper: x", "T"),
        ("lamp6", {"text": "x", "title": "T"}, "email: x", "T"),
    ],
)
def test_an_item_becomes_a_question_with_its_own_answer(task, fields, input, target):
    made = all_tasks()[task]
    pair = made.item_pair(item(**fields), 0)
    assert pair is not None
    assert pair[0].endswith(input)
    assert pair[1] == target
    assert task == "lamp1" or made.follows_template(pair[0])


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("lamp1", {"title": "A", "abstract": " "}),
        ("lamp4", {"text": "x", "title": ""}),
        ("lamp7", {"text": " word "}),
        ("lamp7", {"text": ""}),
    ],
)
def test_an_item_without_a_text_to_learn_has_no_pair(task, fields):
    assert all_tasks()[task].item_pair(item(**fields), 0) is None


def test_a_tweet_is_completed_from_a_share_that_its_text_decides():
    task, shown = all_tasks()["lamp7"], set()
    for number in range(50):
        text = " ".join(f"w{number}x{n}" for n in range(40))
        input, rest = task.item_pair(ProfileItem(str(number), {"text": text}), 0)
        start = input.removeprefix("Complete the following tweet: ")
        assert f"{start} {rest}" == text
        assert 4 <= len(start.split()) <= 10
        assert (input, rest) == task.item_pair(item(text=text), 0)
        shown.add(len(start.split()))
    assert len(shown) > 3
    assert task.item_pair(item(text="two words"), 0)[1] == "words"


@pytest.mark.parametrize(("task", "split"), [("lamp2_news", "user"), ("lamp3", "time")])
def test_pairs_of_real_items_are_the_questions_about_them_byte_for_byte(
    shared, tmp_path, task, split
):
    """Some items are the subject of a question elsewhere in the files."""
    made, place = all_tasks()[task], str(shared / "data")
    parts = [load(place, made, split, part, None, tmp_path) for part in ("train", "dev")]
    examples = [example for part in parts for example in part.examples]
    inputs = {example.input for example in examples}
    pairs = {made.item_pair(i, 0)[0] for example in examples for i in example.profile}
    loosely = {" ".join(text.split()) for text in inputs} & {" ".join(t.split()) for t in pairs}
    assert len(inputs & pairs) == len(loosely) > 50


# --- whose profile -----------------------------------------------------------------------------


def profiles(*words: str) -> AskedProfiles:
    experiment, configuration = build("model=tiny", "mode=zeroshot", *words)
    return AskedProfiles(experiment, configuration, load_parts(experiment).asked.examples)


def test_equal_profiles_share_a_key_whatever_their_ids_and_users(data_dir):
    source = profiles(
        asked(
            data_dir,
            question("1", "a", "new", *ANNE),
            question("2", "b", "other", *ANNE),
            question("3", "a", "new", *ANNE[::-1]),
            question("4", "a", "The oven ", *ANNE),
            question("5", "a", "new", *ANNE[::2]),
        )
    )
    keys = [source.key_of(str(n)) for n in range(1, 6)]
    assert keys[0] == keys[1]
    assert keys[3] == keys[4]  # the question's own item is left out
    assert len(set(keys)) == 3
    assert source.profile_keys() == [keys[0], keys[2], keys[3]]
    assert [source.size(key) for key in source.profile_keys()] == [3, 3, 2]
    assert keys[0] == profile_key([ProfileItem("x", {"text": t, "title": h}) for t, h in ANNE],
                                  ("text", "title"))  # fmt: skip


def test_an_item_is_shown_with_the_best_of_the_items_before_it(data_dir):
    source = profiles(asked(data_dir, question("1", "a", "new", *ANNE)))
    (key,) = source.profile_keys()
    alone = source.pairs(key, BM25(), 0)
    assert [len(prompt.items) for prompt, _ in alone] == [0, 0, 0]
    assert [target for _, target in alone] == [title for _, title in ANNE]
    shown = [[hit.id for hit in prompt.items] for prompt, _ in source.pairs(key, BM25(), 2)]
    assert shown[:2] == [[], ["10"]]
    assert sorted(shown[2]) == ["10", "11"]
    assert [len(p.items) for p, _ in source.pairs(key, BM25(), 1)] == [0, 1, 1]


def test_dated_items_are_read_oldest_first(lamp_exp):
    source = profiles("task=lamp4", "split=time", "limit=3")
    dates = [i.date for i in source._items(source.examples[0])]
    assert len(set(dates)) > 2
    assert dates == sorted(dates)


# --- the slot ----------------------------------------------------------------------------------


def model(weights: Path, **changes) -> Seq2Seq:
    made = Seq2Seq(str(weights), settings(**changes), {"num_beams": 1})
    made.configure_model()
    made.net.eval()
    return made


SHAPE = LoraShape(2, 4, 0.1, ["q", "k", "v"])
RECIPE = LoraRecipe(2, 0.05, 2, 0.1, 0.01, 1.0)
PAIRS = [(Prompt(str(n), (text,), tokens=9), title) for n, (text, title) in enumerate(ANNE)]
OTHERS = [(Prompt(str(n), (text,), tokens=9), title) for n, (text, title) in enumerate(BERT)]


def train(made, slot, pairs, seed: int = 1) -> dict[str, torch.Tensor]:
    precision = trainer().precision_plugin
    train_adapter(made, slot, pairs, RECIPE, seed, precision.forward_context)
    return {name: weight.detach().clone() for name, weight in slot.weights.items()}


def own_weights(made, slot) -> dict[str, torch.Tensor]:
    adapter = {id(weight) for weight in slot.weights.values()}
    parameters = made.net.named_parameters()
    return {name: p.detach().clone() for name, p in parameters if id(p) not in adapter}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def logits(made, pairs=PAIRS) -> torch.Tensor:
    with torch.no_grad():
        return made.logits(made.collate(*zip(*pairs, strict=True)))[0]


def test_an_adapter_does_not_depend_on_those_trained_before_it(weights):
    first = model(weights)
    slot = LoraSlot(first.net, SHAPE)
    alone = train(first, slot, PAIRS)
    train(first, slot, OTHERS, seed=2)
    again = train(first, slot, PAIRS)
    assert equal(alone, again)
    assert not equal(alone, train(first, slot, PAIRS, seed=2))


def test_learning_leaves_the_models_own_weights_untouched(weights):
    made = model(weights)
    before = logits(made)
    slot = LoraSlot(made.net, SHAPE)
    own = own_weights(made, slot)
    assert torch.equal(logits(made), before)  # an empty slot
    slot.reset(0)
    assert torch.equal(logits(made), before)  # B is zero
    trained = train(made, slot, PAIRS)
    assert all(bool(weight.any()) for name, weight in trained.items() if "lora_B" in name)
    assert not torch.equal(logits(made), before)
    slot.clear()
    assert torch.equal(logits(made), before)
    assert equal(own, own_weights(made, slot))
    assert not made.net.training


def test_a_single_step_learns_in_spite_of_the_warm_up(weights):
    made = model(weights)
    slot = LoraSlot(made.net, SHAPE)
    once = LoraRecipe(1, 0.05, 8, 0.1, 0.01, 1.0)
    train_adapter(made, slot, PAIRS, once, 1, trainer().precision_plugin.forward_context)
    assert any(bool(weight.any()) for name, weight in slot.weights.items() if "lora_B" in name)


def test_a_kept_adapter_is_a_folder_that_peft_loads(weights, tmp_path):
    made = model(weights)
    slot = LoraSlot(made.net, SHAPE)
    train(made, slot, PAIRS)
    slot.save(tmp_path)
    expected = logits(made)
    text = (tmp_path / CONFIG).read_text()
    assert str(weights) not in text
    base = AutoModelForSeq2SeqLM.from_pretrained(weights)
    other = model(weights)
    other.network = PeftModel.from_pretrained(base, tmp_path).eval().base_model.model
    assert torch.allclose(logits(other), expected, atol=1e-6)
    slot.reset(5)
    slot.load(tmp_path)
    assert torch.equal(logits(made), expected)


def test_rows_of_a_batch_are_the_batch_of_these_rows(weights):
    made = model(weights)
    slot = LoraSlot(made.net, SHAPE)
    whole = made.collate(*zip(*PAIRS, strict=True))
    for rows in ([0], [2, 1], [0, 1, 2]):
        picked = rows_of(whole, rows)
        alone = made.collate(*zip(*[PAIRS[n] for n in rows], strict=True))
        assert picked["ids"] == alone["ids"]
        assert torch.equal(picked["labels"], alone["labels"])
        slot.clear()
        assert torch.equal(made.loss(picked)[0], made.loss(alone)[0])


def test_several_rows_whose_targets_are_shorter_than_the_longest_can_be_learned(weights):
    made = model(weights)
    LoraSlot(made.net, SHAPE)
    prompts = [prompt for prompt, _ in PAIRS]
    whole = made.collate(prompts, ["a", "b", "a much longer target than these"])
    assert made.loss(rows_of(whole, [0, 1]))[0].isfinite()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder-only model, whose layers are named q_proj, k_proj, v_proj."""
    folder, tokenizer = tmp_path_factory.mktemp("llama"), load_tokenizer(str(TINY))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(**sizes, **heads, **ends, vocab_size=len(tokenizer))
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_decoder_only_model_has_adapters_too(llama, tmp_path):
    made = Causal(str(llama), settings(), {"do_sample": False})
    made.configure_model()
    made.net.eval()
    before, slot = logits(made), LoraSlot(made.net, SHAPE)
    own = own_weights(made, slot)
    train(made, slot, PAIRS)
    assert {name.split(".")[-3] for name in slot.weights} == {"q_proj", "k_proj", "v_proj"}
    slot.save(tmp_path)
    expected = logits(made)
    assert not torch.equal(expected, before)
    assert equal(own, own_weights(made, slot))
    base = AutoModelForCausalLM.from_pretrained(llama)
    made.network = PeftModel.from_pretrained(base, tmp_path).eval().base_model.model
    assert torch.allclose(logits(made), expected, atol=1e-6)
    whole = made.collate(*zip(*PAIRS, strict=True))
    alone = made.collate(*zip(*PAIRS[1:], strict=True))
    assert torch.allclose(made.loss(rows_of(whole, [1, 2]))[0], made.loss(alone)[0], atol=1e-5)


# --- learning for a run ------------------------------------------------------------------------


def test_an_adapter_is_the_same_alone_in_another_order_and_with_others(weights, tmp_path, data_dir):
    questions = [
        question("1", "anne", "new", *ANNE),
        question("2", "bert", "new", *BERT),
        question("3", "carl", "new", *CARL),
    ]
    together = contents(learned(weights, tmp_path / "a", asked(data_dir, *questions)))
    reverse = contents(learned(weights, tmp_path / "b", asked(data_dir, *questions[::-1])))
    alone = contents(learned(weights, tmp_path / "c", asked(data_dir, questions[1])))
    assert together == reverse
    assert len(together) == 3
    assert alone.items() < together.items()


def test_the_gold_of_a_user_in_anothers_profile_changes_nothing_for_the_first(
    weights, tmp_path, data_dir
):
    first = question("1", "anne", "new", *ANNE)
    plain = asked(data_dir, first, question("2", "bert", "new", *BERT), golds="one lake")
    before = contents(learned(weights, tmp_path / "a", plain))
    canary = [("new", "one lake"), *BERT]
    planted = asked(data_dir, first, question("2", "bert", "newer", *canary), golds="old rose")
    after = contents(learned(weights, tmp_path / "b", planted))
    assert len(before.keys() & after.keys()) == 1
    assert all(before[key] == after[key] for key in before.keys() & after.keys())
    # It is there to be seen: of the second user, the adapter is another one.
    assert len(before.keys() | after.keys()) == 3


@pytest.mark.long
def test_runs_share_adapters_whatever_they_retrieve_and_how_they_decode(weights, tmp_path):
    units = learned(weights, tmp_path)
    stamps = {unit.name: unit.stat().st_mtime_ns for unit in units.iterdir()}
    for words in (["k=2"], ["predict_batch_size=1"], ["model.generation.num_beams=2"]):
        assert learned(weights, tmp_path, *words) == units
    fewer = learned(weights, tmp_path, "adapter.min_items=9", "limit=2")
    assert fewer == units
    assert {unit.name: unit.stat().st_mtime_ns for unit in units.iterdir()} == stamps
    for words in (["adapter.rank=3"], ["seed=1"], ["adapter.k=1"], ["max_new_tokens=5"]):
        assert learned(weights, tmp_path, *words, "limit=1") != units


class Killed(BaseException):
    """Ends the process."""


def test_what_was_broken_off_goes_on_with_the_next_user(weights, tmp_path, monkeypatch):
    whole = contents(learned(weights, tmp_path / "whole"))
    calls, train_one = [], lora_training._train

    def breaking(*given):
        calls.append(given)
        if len(calls) == 3:
            raise Killed
        return train_one(*given)

    monkeypatch.setattr(lora_training, "_train", breaking)
    with pytest.raises(Killed):
        learned(weights, tmp_path / "broken")
    again = contents(learned(weights, tmp_path / "broken"))
    assert len(calls) == 4  # the first two were kept
    assert again == whole


@pytest.mark.parametrize("file", [WEIGHTS, FACTS, CONFIG])
def test_a_damaged_adapter_is_made_again(weights, tmp_path, caplog, file):
    units = learned(weights, tmp_path, "limit=2")
    whole = contents(units)
    place = sorted(units.iterdir())[0] / file
    place.write_bytes(place.read_bytes()[:-20] if file == WEIGHTS else b"")
    assert contents(learned(weights, tmp_path, "limit=2")) == whole
    assert "is damaged" in caplog.text


# --- runs --------------------------------------------------------------------------------------


def ran(lamp_exp, weights: Path, place: Path, *words: str) -> Path:
    code, out, err = lamp_exp(*QUICK, f"model.name={weights}", f"output_dir={place}", *words)
    assert code == 0, err
    return folder_of(out)


def predictions(folder: Path) -> dict[str, str]:
    golds = json.loads((folder / "predictions.json").read_text())["golds"]
    return {gold["id"]: gold["output"] for gold in golds}


STRONG = ["adapter.lr=0.5", "adapter.epochs=4"]  # so that every user has answers of its own


@pytest.mark.long
def test_a_run_answers_each_question_with_the_adapter_of_its_profile(lamp_exp, weights, tmp_path):
    kept = ran(lamp_exp, weights, tmp_path, *STRONG, "limit=4")
    record = recorded(kept)
    adapter = record["adapter"]
    assert adapter["adapters"] == adapter["profiles"] == 4
    assert adapter["questions_without_adapter"] == 0
    assert adapter["items"] == 16
    assert adapter["bytes_per_adapter"] > 1000
    assert adapter["seconds_per_adapter"] > 0
    (one,) = record["learned"]
    assert one["kind"] == "user_lora"
    assert one["group"] == "adapter"
    assert one["made_now"]
    assert "user_lora" in kept.name
    assert record["identity"]["adapter"] == "user_lora"
    assert record["identity"]["adapter.lr"] == 0.5

    dropped = ran(lamp_exp, weights, tmp_path / "dropped", *STRONG, "limit=4", "adapter.keep=false")
    assert dropped.name == kept.name
    assert predictions(dropped) == predictions(kept)
    assert not list((tmp_path / "dropped" / ".cache").glob("artefacts/user_lora*"))
    assert recorded(dropped)["adapter"]["adapters"] == 4

    few = ran(lamp_exp, weights, tmp_path, *STRONG, "limit=2")
    assert predictions(few).items() <= predictions(kept).items()
    assert not recorded(few)["learned"][0]["made_now"]

    assert len(set(predictions(kept).values())) > 1


def test_users_with_few_items_keep_the_shared_weights_and_are_counted(lamp_exp, weights, tmp_path):
    none = ran(lamp_exp, weights, tmp_path, *STRONG, "adapter.min_items=5")
    words = [word for word in QUICK if not word.startswith("adapter")]
    code, out, err = lamp_exp(*words, f"model.name={weights}", f"output_dir={tmp_path}")
    assert code == 0, err
    assert predictions(none) == predictions(folder_of(out))
    adapter = recorded(none)["adapter"]
    assert adapter["adapters"] == 0
    assert adapter["profiles_without_adapter"] == adapter["questions_without_adapter"] == 3
    assert recorded(folder_of(out))["adapter"] == {}


@pytest.mark.long
def test_a_run_with_an_adapter_is_not_the_baseline(weights, tmp_path):
    def of(*words: str):
        made, configuration = build(*words, f"output_dir={tmp_path}")
        return made, configuration, load_parts(made), tmp_path

    plain = [word for word in QUICK if not word.startswith("adapter")]
    plain += [f"model.name={weights}"]
    personal = [*QUICK, f"model.name={weights}"]
    baseline = [word for word in plain if not word.startswith("profile")]
    assert baseline_folder(*of(*personal)).name == name_of(*baseline)
    assert baseline_folder(*of(*plain)) is None
    assert name_of(*plain) == name_of(*baseline)  # without any reader of profiles
    assert name_of(*personal) != name_of(*personal, "profile.control=shuffled_user")
    assert name_of(*personal) == name_of(*personal, "adapter.keep=false")
    assert name_of(*personal) != name_of(*personal, "adapter=oppu")
    assert name_of(*plain) == name_of(*plain, "adapter=none")


def test_the_named_variants_have_the_published_values():
    user_lora, oppu = (compose(f"adapter={name}")[0].adapter for name in ("user_lora", "oppu"))
    shared = {"rank": 8, "batch_size": 16, "k": 0, "min_items": 1}
    values = {"alpha": 32, "dropout": 0.1, "targets": ["q", "k", "v"], "epochs": 30, "lr": 5e-5,
              "warmup": 0.05, "weight_decay": 1e-4, "clip": 1.0, **shared}  # fmt: skip
    assert {name: user_lora[name] for name in values} == values
    values = {"alpha": 8, "dropout": 0.05, "targets": ["q", "v"], "epochs": 2, "lr": 1e-4,
              "warmup": 0.1, "weight_decay": 1e-2, "clip": 0.3, **shared}  # fmt: skip
    assert {name: oppu[name] for name in values} == values


# --- mistakes ----------------------------------------------------------------------------------

MISTAKES = [
    ("mode=finetune", "fine-tune first (mode=finetune adapter=none), then use mode=zeroshot"),
    ("model.name=null", "an adapter on random weights learns nothing: name fine-tuned ones"),
    ("adapter.targets=[q,w9]", "adapter.targets: the model has no linear layer named w9, but"),
    ("adapter.rank=0", "adapter.rank=0 must be at least 1"),
    ("adapter.lr=0", "adapter.lr=0 must be above 0"),
    ("adapter.dropout=2", "adapter.dropout=2 must be at most 1"),
    ("adapter.epochs=1.5", "adapter.epochs=1.5 must be a whole number"),
    ("adapter.keep=maybe", "adapter.keep=maybe must be one of true, false"),
    ("adapter.min_items=0", "adapter.min_items=0 must be at least 1"),
    ("adapter.ranks=3", "adapter.ranks"),
    ("adapter=user_loras", "user_loras does not exist: choose one of none, oppu, soft_prompt"),
    ("retriever@adapter.base=recency", "adapter.base must rank by itself and without dates"),
    ("profile.max_items=null profile.keep=newest profile.pool=all_users retriever=random",
     "profile.pool=all_users is for retrieval alone: use adapter=none"),
    ("adapter.lr=1e30 adapter.clip=null adapter.epochs=4",
     "the loss of an adapter became infinite or no number"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_line(lamp_exp, weights, words, message):
    code, _, err = lamp_exp(*QUICK, f"model.name={weights}", *words.split())
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err


def test_without_peft_the_extra_is_named(lamp_exp, weights, monkeypatch):
    for name in ("user_lora", "lora_slot", "lora_training"):
        monkeypatch.delitem(sys.modules, f"lamp_exp.adapters.{name}")
        monkeypatch.delattr(f"lamp_exp.adapters.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "peft", None)
    code, _, err = lamp_exp(*QUICK, f"model.name={weights}")
    assert code == 2
    assert err == "lamp_exp: adapter needs peft: pip install 'lamp-exp[lora]'\n"


def test_models_elsewhere_and_quantised_ones_are_refused(llama, tmp_path):
    lora = UserLora(
        BM25(), 2, 4, 0.1, ["q"], 1, 0.1, 2, 0.1, 0.1, None, k=0, min_items=1, keep=True, seed=0
    )
    gguf = Causal(str(llama), settings(), {}, gguf_file="weights.gguf")
    with pytest.raises(InputError, match="quantised weights of a GGUF file cannot be adapted"):
        lora.validate("zeroshot", all_tasks()["lamp4"], gguf)
    api = OpenAI.__new__(OpenAI)
    with pytest.raises(InputError, match="use model=flan_t5_base or model=causal, not an API"):
        lora.validate("zeroshot", all_tasks()["lamp4"], api)


# --- several processes -------------------------------------------------------------------------


def command(weights: Path, place: Path, *words: str) -> list[str]:
    where = [f"model.name={weights}", f"output_dir={place}"]
    return [sys.executable, "-m", "lamp_exp", *QUICK, *STRONG, *where, *words]


@pytest.mark.process
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(lamp_exp, weights, tmp_path):
    many = ["limit=12", "adapter.epochs=20"]
    whole = finished_here(lamp_exp, command(weights, tmp_path / "whole", *many))
    with subprocess.Popen(command(weights, tmp_path / "killed", *many)) as process:
        while len(list((tmp_path / "killed").glob(".cache/artefacts/user_lora-*/units/[!.]*"))) < 3:
            assert process.poll() is None, "it was too fast to be killed"
            time.sleep(0.02)
        process.kill()
    units = list((tmp_path / "killed").glob(".cache/artefacts/user_lora-*/units/[!.]*"))
    assert 3 <= len(units) < 12
    stamps = {unit: unit.stat().st_mtime_ns for unit in units}
    again = finished_here(lamp_exp, command(weights, tmp_path / "killed", *many))
    assert again.name == whole.name
    assert {unit: unit.stat().st_mtime_ns for unit in units} == stamps  # they were not made again
    assert predictions(again) == predictions(whole)
    kept, other = (
        contents(next((tmp_path / name).glob(".cache/artefacts/user_lora-*")) / UNITS)
        for name in ("whole", "killed")
    )
    assert kept == other
    assert not list((tmp_path / "killed").glob(".cache/artefacts/*/units/.*"))


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["true", "false"])
def test_two_processes_answer_as_one_does(lamp_exp, weights, tmp_path, keep):
    words = ["limit=6", f"adapter.keep={keep}"]
    one = finished_here(lamp_exp, command(weights, tmp_path / "one", *words))
    devices = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    quiet = ["trainer.enable_progress_bar=false"]
    two = finished_run(command(weights, tmp_path / "two", *words, *devices, *quiet))
    assert one.name == two.name
    assert predictions(one) == predictions(two)
    adapters = [recorded(run)["adapter"] for run in (one, two)]
    assert [adapter["profiles"] for adapter in adapters] == [6, 6]
