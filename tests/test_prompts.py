"""Prompts: what is in them, what is cut, and what is counted as lost."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lamp_exp.augmentations.budget import Budget
from lamp_exp.augmentations.fid import FusionInDecoder
from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.tasks.lamp5 import Lamp5
from lamp_exp.values import Hit
from tests.conftest import TINY, Words, example, recorded
from tests.test_cli import folder_of

ARTICLE = "Generate a headline for the following article: one two three"


def titled(title: str, text: str) -> dict[str, str]:
    return {"title": title, "text": text}


def hits(*ids: int) -> list[Hit]:
    return [Hit(str(id), -float(id)) for id in ids]


def test_the_lamp_1_prompt_keeps_the_question_whole():
    input = (
        'For an author who has written the paper with the title "Own", which reference is '
        "related? Just answer with [1] or [2] without explanation. "
        '[1]: "First" [2]: "Second"'
    )
    items = [{"title": "Alpha", "abstract": ""}, {"title": "Beta", "abstract": ""}]
    asked = example("q", input, *items)
    (text,) = InPromptAugmentation()(Lamp1(), asked, hits(0, 1), Words(), 200).passages
    assert text == (
        "For an author who has written the paper with the title, and "
        '"Alpha", and "Beta" "Own", which reference is related? Just answer with [1] or [2] '
        'without explanation. [1]: "First" [2]: "Second"'
    )


def test_without_items_the_prompt_is_the_bare_input():
    asked = example("q", ARTICLE, titled("T", "t"))
    for augmentation in (InPromptAugmentation(), FusionInDecoder()):
        assert augmentation(Lamp4(), asked, [], Words(), 100).passages == (ARTICLE,)


def test_braces_and_percent_signs_are_only_text():
    asked = example("q", ARTICLE, titled("{title} %s", "{text} {0} %d {"))
    (text,) = InPromptAugmentation()(Lamp4(), asked, hits(0), Words(), 100).passages
    assert text == f'"{{title}} %s" is the title for "{{text}} {{0}} %d {{" . {ARTICLE}'


def test_items_are_still_apart_after_t5_reads_them(t5_tokenizer):
    tokens = TransformersTokenCounter(load_tokenizer(str(t5_tokenizer)))
    asked = example("q", ARTICLE, titled("A\nB", "x\ty"), titled("C", "  z\n"))
    (text,) = InPromptAugmentation()(Lamp4(), asked, hits(0, 1), tokens, 200).passages
    read, _ = tokens.truncate(text, 200)
    assert '"A B" is the title for "x y", and "C" is the title for "z".' in read


def test_a_prompt_fits_and_a_cut_text_is_counted():
    asked = example("q", ARTICLE, titled("T", "word " * 50), titled("U", "short"))
    made = InPromptAugmentation()(Lamp4(), asked, hits(0, 1), Words(), 60)
    assert made.tokens == Words().count(made.passages[0]) <= 60
    assert made.cut_texts == 1
    assert made.lost_items == 0
    assert '"short"' in made.passages[0]


def test_what_one_item_does_not_use_the_next_one_has():
    short, long = titled("T", "a"), titled("T", "word " * 50)
    asked = example("q", ARTICLE, short, long)
    second = InPromptAugmentation()(Lamp4(), asked, hits(0, 1), Words(), 60).passages[0]
    first = InPromptAugmentation()(Lamp4(), asked, hits(1, 0), Words(), 60).passages[0]
    assert second.count("word") > first.count("word")


def test_items_that_do_not_fit_are_lost_worst_first_and_counted():
    items = [titled(f"a title of seven words, number {n}", "text") for n in range(8)]
    asked = example("q", ARTICLE, *items)
    made = InPromptAugmentation()(Lamp4(), asked, hits(*range(8)), Words(), 60)
    assert 0 < len(made.items) < 8
    assert made.items == tuple(hits(*range(8))[: len(made.items)])
    assert made.lost_items == 8 - len(made.items)
    assert "number 0" in made.passages[0]
    assert ARTICLE in made.passages[0]


@pytest.mark.parametrize("augmentation", [InPromptAugmentation, FusionInDecoder])
def test_an_item_without_a_token_of_its_text_does_not_fit(augmentation):
    asked = example("q", ARTICLE, *(titled(f"title {n}", "word " * 9) for n in range(3)))
    emptied = {False: 0, True: 0}
    for official, length in product((False, True), range(15, 80)):
        made = augmentation(official)(Lamp4(), asked, hits(0, 1, 2), Words(), length)
        emptied[official] += sum('for ""' in passage for passage in made.passages)
        assert len(made.items) + made.lost_items == 3
    assert emptied[False] == 0 < emptied[True]


def test_pieces_of_white_space_are_no_token_of_a_text(t5_tokenizer):
    """T5 reads a sign that it does not know as a space and an unknown token."""
    tokens = TransformersTokenCounter(load_tokenizer(str(t5_tokenizer)))
    text = "\u4f60\u597d word"
    assert tokens.truncate(text, 2)[0].strip() == ""
    asked = example("q", ARTICLE, titled("T", f"{text} {text}"))
    for length in range(20, 60):
        (passage,) = InPromptAugmentation()(Lamp4(), asked, hits(0), tokens, length).passages
        assert 'for ""' not in passage


def test_an_item_that_has_no_text_is_shown():
    asked = example("q", ARTICLE, titled("T", " "))
    made = InPromptAugmentation()(Lamp4(), asked, hits(0), Words(), 100)
    assert made.passages == (f'"T" is the title for "" . {ARTICLE}',)
    assert made.items == tuple(hits(0))


@pytest.mark.parametrize("official", [False, True])
def test_a_run_counts_items_that_do_not_fit_as_lost(lamp_exp, official):
    run = ["task=lamp3", "mode=prompts", "model=tiny", "k=8", "limit=40", "max_length=100"]
    _, out, _ = lamp_exp(*run, f"augmentation.official={official}")
    prompts = (folder_of(out) / "prompts.jsonl").read_text()
    counts = recorded(folder_of(out))["counts"]
    assert ('for \\"\\"' in prompts) is official
    assert ("prompts without room for all their items" in out) is (counts["items_lost"] > 0)
    assert counts["items_lost"] > 0 or official


def test_the_official_code_loses_the_whole_profile_there():
    items = [titled(f"a title of seven words, number {n}", "text") for n in range(8)]
    asked = example("q", ARTICLE, *items)
    made = InPromptAugmentation(official=True)(Lamp4(), asked, hits(*range(8)), Words(), 60)
    assert made.passages == (ARTICLE,)
    assert made.lost_items == 8


def test_the_instruction_survives_the_cut_of_a_long_input():
    long = f"{Lamp5().instruction} {'abstract ' * 300}"
    items = [{"title": "t " * 9, "abstract": "a " * 90} for _ in range(4)]
    asked = example("q", long, *items)
    for length in range(10, 200, 10):
        made = InPromptAugmentation()(Lamp5(), asked, hits(0, 1, 2, 3), Words(), length)
        read, _ = Words().truncate(made.passages[0], length)
        assert Lamp5().instruction in read or not made.items
        assert made.cut_passages == 1
        assert made.tokens == length


def test_fid_makes_one_passage_of_each_item_with_the_whole_input():
    asked = example("q", ARTICLE, titled("A", "alpha"), titled("B", "beta"), titled("C", "gamma"))
    made = FusionInDecoder()(Lamp4(), asked, hits(2, 0), Words(), 60)
    assert made.passages == (
        f'"C" is the title for "gamma" . {ARTICLE}',
        f'"A" is the title for "alpha" . {ARTICLE}',
    )
    assert made.items == tuple(hits(2, 0))


def test_fid_drops_a_passage_whose_item_does_not_fit():
    asked = example("q", ARTICLE, titled("word " * 90, "alpha"), titled("B", "beta"))
    made = FusionInDecoder()(Lamp4(), asked, hits(0, 1), Words(), 40)
    assert len(made.passages) == 1
    assert made.items == tuple(hits(1))
    assert made.lost_items == 1


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
def test_no_length_breaks_the_budget(length):
    item = titled("A title", "some text that is long " * 5)
    asked = example("q", ARTICLE, *[item] * 5)
    for k in range(6):
        budget = Budget(Lamp4(), Words(), length)
        fitted = budget.fit(asked.input, asked.profile[:k])
        assert fitted.items <= k
        assert Words().count(fitted.text) <= max(length, Words().count(ARTICLE))


PARTS = [
    "the", "The", "nurse,", "(well)", "it's", "3.5%", "naïve", "e\u0301", "\u0301x", "\u200d",
    "“new”",
    "中文", "😀", "</s>", "a<pad>b", "\t", "\n", "\u00a0", "\u3000", "", "", "...", "oven", "lake",
]  # fmt: skip


def byte_level() -> PreTrainedTokenizerFast:
    """Another kind of tokenizer: spaces belong to words, and a text's begin and end are marked."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator([" ".join(PARTS)] * 9, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("kind", ["tiny", "t5", "byte_level"])
def test_counts_and_cuts_are_the_tokenizers_own(kind, request):
    if kind == "byte_level":
        tokenizer = byte_level()
    elif kind == "t5":
        tokenizer = load_tokenizer(str(request.getfixturevalue("t5_tokenizer")))
    else:
        tokenizer = load_tokenizer(str(TINY))
    chance, tokens = Random(0), TransformersTokenCounter(tokenizer)
    assert tokens.by_words == (kind != "byte_level")
    texts = [" ".join(chance.choices(PARTS, k=chance.randrange(40))) for _ in range(200)]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokens.count(text) == len(ids)
        assert tokens.count_unknown(text) == ids.count(tokenizer.unk_token_id)
        for limit in (2, 3, 9, 20, 500):
            cut = tokenizer(text, max_length=limit, truncation=True)["input_ids"]
            shown = tokenizer.decode(cut, skip_special_tokens=True)
            assert tokens.truncate(text, limit) == (shown, len(cut))


def test_each_word_is_tokenize_once(monkeypatch):
    asked = []
    tokens = TransformersTokenCounter(load_tokenizer(str(TINY)))
    tokenised = tokens._tokenize
    monkeypatch.setattr(
        tokens, "_tokenize", lambda texts: (asked.extend(texts), tokenised(texts))[1]
    )
    items = [titled(f"the title {n}", "the nurse meets the oven " * n) for n in range(1, 9)]
    question = example("q", ARTICLE, *items)
    for k in (1, 4, 8):
        for length in (40, 80, 300):
            InPromptAugmentation()(Lamp4(), question, hits(*range(k)), tokens, length)
            FusionInDecoder()(Lamp4(), question, hits(*range(k)), tokens, length)
    assert len(asked) == len(set(asked)) > 20


def test_the_words_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("lamp_exp.models.token_counter.MAX_WORDS", 10)
    tokens = TransformersTokenCounter(load_tokenizer(str(TINY)))
    texts = [" ".join(f"oven{n + m}" for m in range(7)) for n in range(30)]
    assert [tokens.count(text) for text in texts] == [
        len(tokens.tokenizer(text)["input_ids"]) for text in texts
    ]
    assert len(tokens._word_ids) <= 10


def test_the_tiny_tokenizer_gives_back_what_it_reads():
    tokens = TransformersTokenCounter(load_tokenizer(str(TINY)))
    for text in (
        '"noble proud oven" is the title for "the nurse near lake" . Generate',
        '[1]: "a b" [2]: "sci-fi, (really)?!"',
        f"{Lamp2().instruction} the oven",
    ):
        assert tokens.truncate(text, 500)[0] == text
        assert tokens.count_unknown(text) == 0
    assert tokens.count_unknown("naïve") == 1
