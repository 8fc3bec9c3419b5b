"""The decoder-only model: what it reads, what it learns from, and what it answers."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from lamp_exp.errors import InputError
from lamp_exp.models.causal import Causal
from lamp_exp.models.reasoning import ReasoningMarks, template_marks
from lamp_exp.models.training import IGNORED
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prompt, TrainingOptions, TrainingSet
from tests.conftest import TINY, mean_loss, settings, trainer

CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
SHORT, LONG = "the old rose near", " ".join(["the singer meets the judge near lake"] * 7)


def tokenizer(template: str | None):
    """The tiny one, with a beginning as decoder-only models have it, and without an end."""
    made = AutoTokenizer.from_pretrained(TINY)
    made.add_special_tokens({"bos_token": "<s>"})
    begin = ("<s>", made.bos_token_id)
    made.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[begin])
    made.chat_template = template
    return made


def network(kind: str, size: int, end: int):
    """Random, with weights so large that each token read changes what is written."""
    torch.manual_seed(0)
    given = {"vocab_size": size, "bos_token_id": None, "eos_token_id": end, "pad_token_id": None}
    if kind == "gpt2":
        small = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 128}
        still = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(**given, **small, **still, initializer_range=0.3))
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**given, **sizes, **heads, initializer_range=0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """Writes a model once: `gpt2` or `llama`, `base` or `chat`."""

    @functools.cache
    def write(kind: str = "gpt2", use: str = "base") -> str:
        path = tmp_path_factory.mktemp(f"{kind}-{use}")
        words = tokenizer(CHAT if use == "chat" else None)
        words.save_pretrained(path)
        network(kind, len(words), words.eos_token_id).save_pretrained(path)
        return str(path)

    return write


def model(name: str, generation: dict[str, object] | None = None, **changes) -> Causal:
    return Causal(name, settings(**changes), {"do_sample": False, **(generation or {})})


def loaded(name: str, generation: dict[str, object] | None = None, **changes) -> Causal:
    made = model(name, generation, **changes)
    made.configure_model()
    return made.eval()


def prompt(id: str, text: str) -> Prompt:
    return Prompt(id, (text,), tokens=len(text.split()))


def lesson(path: Path, epochs: int = 1, count: int = 12) -> TrainingSet:
    texts = [("the old rose", "the rose"), ("the singer", "the singer meets"), ("the oven", "near")]
    pairs = [(prompt(str(n), texts[n % 3][0]), texts[n % 3][1]) for n in range(count)]
    return TrainingSet(pairs, pairs[:3], Lamp4().score, Lamp4().main_metric, epochs, path)


@pytest.mark.parametrize("use", ["base", "chat"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_batch_of_a_short_and_a_long_prompt_answers_as_each_alone(folder, kind, use):
    causal = loaded(folder(kind, use), max_new_tokens=12)
    assert causal.token_counter.count(SHORT) == 5
    assert causal.token_counter.count(LONG) == 50
    short, long = prompt("a", SHORT), prompt("b", LONG)
    with torch.no_grad():
        together = causal.generate(causal.collate([short, long])).tolist()
        alone = [causal.generate(causal.collate([one]))[0].tolist() for one in (short, long)]
    assert [row[: len(own)] for row, own in zip(together, alone, strict=True)] == alone
    assert len({token for row in alone for token in row}) > 4  # they say something


def test_batch_mates_and_batch_size_change_no_prediction(folder):
    prompts = [prompt(str(n), " ".join(LONG.split()[: 1 + 7 * n])) for n in range(7)]
    told = []
    for size in (1, 3, 7):
        causal = model(folder(), predict_batch_size=size)
        told.append(causal.predict(prompts, trainer))
        assert [answer.id for answer in told[-1]] == [one.id for one in prompts]
    assert told[0] == told[1] == told[2]
    assert model(folder()).predict(prompts[::-1], trainer) == told[0][::-1]


def test_prompts_are_padded_on_the_left_to_be_answered(folder):
    causal = model(folder())
    batch = causal.collate([prompt("a", SHORT), prompt("b", LONG)])
    assert batch["input_ids"].shape == (2, 50)
    assert batch["attention_mask"][0].tolist() == [0] * 45 + [1] * 5
    assert batch["attention_mask"][1].all()
    assert causal.tokenizer.decode(batch["input_ids"][0][45:]) == f"<s> {SHORT}"


def test_the_prompt_is_not_part_of_the_answer(folder):
    causal = loaded(folder(), max_new_tokens=3)
    asked = causal.collate([prompt("a", SHORT)])
    with torch.no_grad():
        new = causal.generate(asked)
        whole = causal.net.generate(asked["input_ids"], max_new_tokens=3, do_sample=False)
    assert whole[0].tolist() == asked["input_ids"][0].tolist() + new[0].tolist()
    (answer,) = causal.predict([prompt("a", SHORT)], trainer)
    assert answer.output == causal.tokenizer.decode(new[0], skip_special_tokens=True)
    assert SHORT not in answer.output


def test_a_template_that_writes_the_beginning_gives_exactly_one(folder):
    causal = model(folder(use="chat"))
    (row,) = causal.collate([prompt("a", SHORT)])["input_ids"].tolist()
    assert row.count(causal.tokenizer.bos_token_id) == 1
    assert row[0] == causal.tokenizer.bos_token_id
    bare = causal.tokenizer(f"user: {SHORT}\nassistant:", add_special_tokens=False)["input_ids"]
    assert row[1:] == bare
    assert causal.facts()["chat_template"] is True


def test_a_base_model_reads_the_bare_prompt(folder):
    causal = model(folder())
    (row,) = causal.collate([prompt("a", SHORT)])["input_ids"].tolist()
    assert row == causal.tokenizer(SHORT)["input_ids"]
    (answer,) = causal.predict([prompt("a", SHORT)], trainer)
    assert answer.tokens > 0
    assert causal.facts()["chat_template"] is False
    assert causal.facts()["weights"] == folder()


@pytest.mark.parametrize("use", ["base", "chat"])
def test_a_prompt_longer_than_max_length_is_cut(folder, use):
    causal = model(folder(use=use), max_length=10)
    (row,) = causal.collate([prompt("a", LONG)])["input_ids"].tolist()
    kept = " ".join(LONG.split()[:9])
    (expected,) = causal.collate([prompt("a", kept)])["input_ids"].tolist()
    assert row == expected
    assert use == "chat" or len(row) == 10
    if use == "chat":  # what the template writes after the prompt is never cut
        assert causal.tokenizer.decode(row).endswith("assistant:")


@pytest.mark.parametrize("use", ["base", "chat"])
def test_labels_cover_the_target_and_its_end_only(folder, use):
    causal = model(folder(use=use))
    texts, golds = [LONG, SHORT], ["near", "the old rose near lake"]
    prompts = [prompt(str(n), text) for n, text in enumerate(texts)]
    batch = causal.collate(prompts, golds)
    assert batch["targets"] == golds
    assert batch["labels"].shape == batch["learned"]["input_ids"].shape
    end, size = causal.tokenizer.eos_token_id, batch["labels"].shape[1]
    for n, gold in enumerate(golds):
        read = causal.collate([prompts[n]])["input_ids"][0].tolist()
        target = [*causal.tokenizer(gold, add_special_tokens=False)["input_ids"], end]
        rest = size - len(read) - len(target)
        learned = batch["learned"]["input_ids"][n].tolist()
        assert learned[: size - rest] == read + target
        assert batch["labels"][n].tolist() == [IGNORED] * len(read) + target + [IGNORED] * rest
        assert batch["learned"]["attention_mask"][n].tolist() == [1] * (size - rest) + [0] * rest
        assert causal.target_ids(gold) == target


def test_a_target_is_cut_at_max_new_tokens(folder):
    causal = model(folder(), max_new_tokens=3)
    labels = causal.collate([prompt("a", SHORT)], ["the old rose near lake"])["labels"][0].tolist()
    assert [token for token in labels if token != IGNORED] == labels[-3:]
    assert causal.tokenizer.decode(labels[-3:]) == "the old rose"


@torch.no_grad()
def test_the_loss_is_the_mean_over_the_targets_tokens(folder):
    causal = loaded(folder())
    pairs = [(prompt("a", SHORT), "the rose"), (prompt("b", LONG), "near")]
    batch = causal.collate([one for one, _ in pairs], [gold for _, gold in pairs])
    losses = []
    for one, gold in pairs:
        read = causal.collate([one])["input_ids"][0].tolist()
        target = causal.tokenizer(gold, add_special_tokens=False)["input_ids"]
        row = torch.tensor([[*read, *target, causal.tokenizer.eos_token_id]])
        chances = causal.net(row).logits[0].log_softmax(-1)
        losses += [-chances[n - 1, row[0, n]].item() for n in range(len(read), row.shape[1])]
    assert mean_loss(causal, batch) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("use", ["base", "chat"])
def test_training_lowers_the_loss_and_teaches_to_end(folder, tmp_path: Path, use):
    training = TrainingOptions(lr=1e-2, batch_size=4)
    causal = model(folder(use=use), training=training)
    taught = lesson(tmp_path, epochs=12)
    report = causal.fit(taught, trainer)
    losses = [epoch["train_loss"] for epoch in report["epochs"]]
    assert losses[-1] < losses[0] / 4
    assert report["train_targets_cut"] == 0
    answers = causal.predict([one for one, _ in taught.train[:3]], trainer)
    assert [answer.output for answer in answers] == [gold for _, gold in taught.train[:3]]
    assert not any(answer.capped for answer in answers)
    again = model(str(tmp_path / "checkpoint"), training=training)
    assert again.predict([one for one, _ in taught.train[:3]], trainer) == answers
    assert again.tokenizer.chat_template == causal.tokenizer.chat_template


def test_an_answer_ends_with_the_tokenizers_end_even_if_the_weights_name_another(
    folder, tmp_path: Path
):
    other = AutoModelForCausalLM.from_pretrained(folder())
    other.generation_config.eos_token_id = other.config.eos_token_id = 5
    other.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder()).save_pretrained(tmp_path)
    end = AutoTokenizer.from_pretrained(folder()).eos_token_id
    causal = model(str(tmp_path), {"forced_eos_token_id": end}, max_new_tokens=3)
    (answer,) = causal.predict([prompt("a", SHORT)], trainer)
    assert (answer.tokens, answer.capped) == (3, False)
    assert causal.end_tokens() == {5, end}
    causal.generation = {**causal.generation, "max_new_tokens": 6, "forced_bos_token_id": end}
    with torch.no_grad():
        (row,) = causal.generate(causal.collate([prompt("a", "")])).tolist()
    assert row == [end]  # nothing is written after it


def test_an_output_that_never_ends_stops_at_max_new_tokens_and_is_counted(folder):
    end = AutoTokenizer.from_pretrained(folder()).eos_token_id
    causal = model(folder(), {"suppress_tokens": [end]}, max_new_tokens=20)
    (answer,) = causal.predict([prompt("a", SHORT)], trainer)
    assert (answer.tokens, answer.capped) == (20, True)
    assert causal.facts()["generation"]["max_new_tokens"] == 20


def test_a_tokenizer_without_padding_pads_with_its_end(folder, tmp_path: Path):
    bare = AutoTokenizer.from_pretrained(folder())
    bare.pad_token = None
    bare.save_pretrained(tmp_path)
    causal = model(str(tmp_path))
    assert causal.tokenizer.pad_token_id == causal.tokenizer.eos_token_id
    batch = causal.collate([prompt("a", SHORT), prompt("b", LONG)], ["near", "near"])
    ends = batch["labels"] == causal.tokenizer.eos_token_id
    assert ends.sum(1).tolist() == [1, 1]  # the end is learned, the padding is not
    network("gpt2", len(bare), bare.eos_token_id).save_pretrained(tmp_path)
    prompts = [prompt("a", SHORT), prompt("b", LONG)]
    alone = [answer for one in prompts for answer in causal.predict([one], trainer)]
    assert causal.predict(prompts, trainer) == alone


def test_training_gguf_weights_is_refused(folder):
    quantised = Causal(folder(), settings(), {}, gguf_file="x.gguf")
    with pytest.raises(InputError, match=r"model\.gguf_file is for mode=zeroshot"):
        quantised.validate(True, "32-true")


def test_a_gguf_file_that_does_not_exist_is_one_line(folder):
    pytest.importorskip("gguf")
    with pytest.raises(InputError, match=r"model\.name=.*no tokenizer could be loaded"):
        Causal(folder(), settings(), {}, gguf_file="x.gguf").validate(False, "32-true")


def test_a_type_of_weights_that_does_not_exist_is_one_line(folder):
    for wrong in ("float23", "nn"):
        with pytest.raises(InputError, match=rf"model\.dtype={wrong} does not exist"):
            Causal(folder(), settings(), {}, dtype=wrong).validate(False, "32-true")
    half = Causal(folder(), settings(), {"do_sample": False}, dtype="bfloat16")
    half.validate(False, "32-true")
    half.configure_model()
    assert half.net.dtype == torch.bfloat16


# --- reasoning ---------------------------------------------------------------------------------

TURN = (
    "{%% for message in messages %%}{{ message['role'] }} {%% if message.reasoning_content %%}"
    "%s{%% endif %%}{{ message['content'] }}<|end|>{%% endfor %%}"
    "{%% if add_generation_prompt %%}assistant %s{%% endif %%}"
)
THINK = "<think>\n{{ message.reasoning_content }}\n</think>\n\n"
CHANNEL = "<|analysis|>{{ message.reasoning_content }}<|end|><|final|>"
TEMPLATES = {
    "marked": TURN % (THINK, ""),
    "opened": TURN % (THINK, "<think>\n"),
    "switched off": TURN % (THINK, "<think>\n\n</think>\n\n"),
    "special tokens": TURN % (CHANNEL, ""),
    "dropped": CHAT.replace("message['content']", "message['content'].split('</think>')[-1]"),
    "unmarked": CHAT,
    "none": None,
}
MARKS = {
    "marked": ReasoningMarks(),
    "opened": ReasoningMarks(opened=True),
    "switched off": ReasoningMarks(),
    "special tokens": ReasoningMarks("<|analysis|>", "<|end|> <|final|>"),
    "dropped": ReasoningMarks(),
}


def chat_tokenizer(template: str | None):
    words = tokenizer(template)
    words.add_tokens(["<think>", "</think>"])
    words.add_tokens(["<|analysis|>", "<|end|>", "<|final|>"], special_tokens=True)
    return words


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_chat_template_tells_the_marks_of_reasoning(template):
    assert template_marks(chat_tokenizer(TEMPLATES[template])) == MARKS.get(template)


def test_a_template_for_prompts_only_has_no_marks():
    refuses = "{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}" + CHAT
    assert template_marks(tokenizer(refuses)) is None


THOUGHT = "<think> singer near lake </think> the old rose"
CASES = {  # template, option, what the model writes: output, whether the raw output is kept
    ("marked", "auto", THOUGHT): ("the old rose", True),
    ("marked", False, THOUGHT): (THOUGHT, False),
    ("marked", "auto", "the old rose"): ("the old rose", False),
    ("marked", "auto", "<think> singer near"): ("", True),
    ("opened", "auto", THOUGHT[8:]): ("the old rose", True),
    ("opened", "auto", "singer near"): ("", True),
    ("opened", "auto", "singer near </s>"): ("singer near", False),  # it ended by itself
    ("none", "auto", THOUGHT): (THOUGHT, False),
    ("none", True, THOUGHT): ("the old rose", True),
    ("special tokens", "auto", "<|analysis|> near <|end|><|final|> the old rose "
     "</s>"): ("the old rose", True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reasoning_is_removed_from_answers_and_the_raw_output_kept(tmp_path: Path, case):
    template, option, written = case
    words = chat_tokenizer(TEMPLATES[template])
    words.save_pretrained(tmp_path)
    network("llama", len(words), words.eos_token_id).save_pretrained(tmp_path)
    causal = Causal(str(tmp_path), settings(), {"do_sample": False}, strip_reasoning=option)
    causal.configure_model()
    row = words(written, add_special_tokens=False)["input_ids"]
    causal.generate = lambda batch, **options: torch.tensor([row])
    (answer,) = causal.answers({"ids": ["a"]})
    output, kept = CASES[case]
    assert " ".join(answer.output.split()) == output
    assert (answer.raw is not None) == kept
    if kept:
        assert written.split()[0] in answer.raw
