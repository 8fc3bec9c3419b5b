"""Summaries of profiles: what they say, where prompts show them, and how a model's are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from lamp_exp import load_results
from lamp_exp.augmentations.fid import FusionInDecoder
from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.errors import InputError
from lamp_exp.experiment import summaries
from lamp_exp.experiment.learning import learn
from lamp_exp.experiment.run import baseline_folder, run_identity
from lamp_exp.experiment.stages import load_parts, make_prompts, summarise
from lamp_exp.experiment.summaries import Summaries, request_key
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.summaries.llm import LlmSummary
from lamp_exp.summaries.statistics import Statistics
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.tasks.lamp7 import Lamp7
from lamp_exp.values import Hit, ProfileItem
from tests.conftest import Words, build, example, name_of, options, recorded
from tests.test_cli import folder_of

ZERO = ["mode=zeroshot", "model=tiny", "trainer=cpu", "trainer.enable_progress_bar=false"]
LLM = [
    "summary=llm",
    "summary.max_tokens=8",
    "summary.max_items=3",
    "summary.input_tokens=300",
    "+model.generation.suppress_tokens=[0,1,2]",  # the special ones: random weights prefer them
]
ARTICLE = "Generate a headline for the following article: one two three"


def items(**columns: list[str]) -> list[ProfileItem]:
    rows = zip(*columns.values(), strict=True)
    return [ProfileItem(str(n), dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)]


# --- statistics --------------------------------------------------------------------------------


def test_the_statistics_of_tags_are_their_shares_and_words():
    movies = items(
        description=["a spy and a gun", "the spy hides", "a robot dreams", "some robot sings"],
        tag=["action", "action", "sci-fi", "classic"],
    )
    assert Statistics().text(Lamp2(), movies) == (
        "The user's tag for movies is usually action: action 50% (spy); classic 25%; sci-fi 25%."
    )


def test_the_statistics_of_scores_have_their_mean():
    reviews = items(text=["great fun", "great", "dull", "great stuff"], score=["5", "5", "1", "4"])
    assert Statistics().text(Lamp3(), reviews) == (
        "The user's mean score is 3.8. The user's score for reviews is usually 5: 5 50% (great); "
        "1 25%; 4 25%."
    )


def test_the_statistics_of_titles_are_length_form_and_words():
    titles = ["Budget Talks: What Now?", "Budget Deal Reached In Senate", "BUDGET ENDS", "Why Tax?"]
    articles = items(title=titles, text=["t"] * 4)
    assert Statistics().text(Lamp4(), articles) == (
        "The user's headlines: usually 2 words (11 characters), 75% in title case, 25% have a "
        "colon, 50% end with a question mark. Frequent words: budget."
    )


def test_the_statistics_of_tweets_know_their_signs():
    tweets = items(text=["so #happy @you http://t.co/happy", "happy day!", "oh no"])
    assert Statistics().text(Lamp7(), tweets) == (
        "The user's tweets: usually 2 words (10 characters), 100% in lower case, 33% have an "
        "exclamation mark, 33% have a hashtag, 33% mention someone, 33% have a link. Frequent "
        "words: happy."
    )


def test_statistics_ignore_the_order_of_items():
    movies = items(description=["a b c"] * 3 + ["d e"] * 3, tag=["action"] * 3 + ["classic"] * 3)
    assert Statistics().text(Lamp2(), movies) == Statistics().text(Lamp2(), movies[::-1])


def test_items_without_text_have_no_statistics():
    assert Statistics().text(Lamp7(), items(text=["", "  "])) == ""


# --- prompts -----------------------------------------------------------------------------------


def test_the_summary_stands_before_the_items_and_in_each_passage():
    titled = [{"title": "T", "text": "t"}, {"title": "U", "text": "u"}]
    asked, hits = example("q", ARTICLE, *titled), [Hit("0", 1.0), Hit("1", 0.0)]
    one = InPromptAugmentation()(Lamp4(), asked, hits, Words(), 100, summary="Likes puns.")
    assert one.passages == (
        f'Likes puns.\n"T" is the title for "t" , and "U" is the title for "u" . {ARTICLE}',
    )
    assert (one.summary_tokens, one.summary_cut, one.summary_lost) == (2, False, False)
    several = FusionInDecoder()(Lamp4(), asked, hits, Words(), 100, summary="Likes puns.")
    assert [text.partition("\n")[0] for text in several.passages] == ["Likes puns."] * 2
    assert several.summary_tokens == 4
    alone = FusionInDecoder()(Lamp4(), asked, [], Words(), 100, summary="Likes puns.")
    assert alone.passages == (f"Likes puns.\n{ARTICLE}",)


def test_the_summary_of_lamp_1_stands_before_the_question():
    prompt = Lamp1().join('paper with the title "Own", which', ['"Alpha"'])
    assert Lamp1().place_summary(prompt, "S.") == (
        'S.\npaper with the title, and "Alpha" "Own", which'
    )


def test_the_summary_takes_its_tokens_before_the_items():
    asked = example("q", ARTICLE, {"title": "T", "text": " ".join("abcdefghij")})
    prompts = [
        InPromptAugmentation()(Lamp4(), asked, [Hit("0", 1.0)], Words(), 30, summary=summary)
        for summary in ("", "w x y z")
    ]
    words = [prompt.passages[0].rpartition('for "')[2].count(" ") for prompt in prompts]
    assert words[0] - words[1] == 4


@pytest.mark.parametrize(("length", "shown", "lost"), [(14, 6, False), (8, 0, True)])
def test_a_long_summary_is_cut_and_never_pushes_the_instruction_out(length, shown, lost):
    asked = example("q", ARTICLE)
    prompt = InPromptAugmentation()(Lamp4(), asked, [], Words(), length, summary="a b c d e f g h")
    assert len(prompt.passages[0].split()) - len(ARTICLE.split()) == shown
    assert (prompt.summary_cut, prompt.summary_lost) == (not lost, lost)
    if lost:
        assert prompt.passages == (ARTICLE,)


def test_max_tokens_cuts_the_summary_and_the_record_counts(lamp_exp):
    words = ["task=lamp2", "k=0", "summary=statistics", "limit=4", *ZERO, "mode=prompts"]
    code, out, err = lamp_exp(*words, "summary.max_tokens=5")
    assert code == 0, err
    counts = recorded(folder_of(out))["counts"]
    assert counts["summaries_cut"] == counts["summaries_shown"] == 4
    assert 4 * 4 <= counts["summary_tokens"] <= 4 * 6
    assert "4 summaries cut to fit into their prompts" in out


# --- what a run is -----------------------------------------------------------------------------


def test_the_baseline_has_no_summary_and_is_named_as_before():
    words = ["task=lamp3", "k=0", "limit=3", *ZERO]
    plain = name_of(*words)
    assert plain == name_of(*words, "summary=none")
    assert "summary" not in plain
    made, configuration = build(*words, "summary=statistics")
    parts = load_parts(made)
    identity = run_identity(made, configuration, parts)
    assert identity["summary"] == "statistics"
    assert not {"retriever", "augmentation", "document_dates"} & identity.keys()
    assert made.usage.personal and not made.usage.retrieves
    assert baseline_folder(made, configuration, parts, Path("out")).name == plain
    assert "-none-k0-summary_statistics-tiny-" in name_of(*words, "summary=statistics")


def test_options_of_the_profile_count_with_a_summary_alone():
    words = ["task=lamp3", "k=0", "limit=3", *ZERO]
    control = "profile.control=shuffled_user"
    assert name_of(*words) == name_of(*words, control)
    assert name_of(*words, "summary=statistics") != name_of(*words, "summary=statistics", control)


@pytest.mark.parametrize("mode", ["rank", "feedback"])
def test_modes_without_prompts_of_k_items_have_no_summary(mode):
    made, configuration = build("task=lamp3", f"mode={mode}", "summary=statistics", "model=tiny")
    assert made.summary is None
    assert not made.usage.others
    assert configuration.choices["summary"] == "statistics"


def test_prompts_without_a_summary_are_those_of_today():
    made, _ = build("task=lamp4", "k=0", "limit=5", *ZERO)
    parts = load_parts(made)
    prompts = make_prompts(made, parts.asked, None)
    assert [p.passages for p in prompts.prompts] == [(e.input,) for e in parts.asked.examples]
    assert not any("summar" in name for name in prompts.counts)


def test_the_profile_is_that_which_the_question_sees():
    def texts(*words: str) -> dict[str, str]:
        made, _ = build("task=lamp2", "limit=40", *ZERO, "summary=statistics", *words)
        asked = load_parts(made).asked.examples
        return {one.id: summarise(made, one) for one in asked}

    own, others = texts(), texts("profile.control=shuffled_user")
    few = texts("profile.max_items=1", "profile.keep=first")
    assert all(own[id] != others[id] for id in own if own[id] and others[id])
    assert all(text.count("%") <= 1 for text in few.values())


# --- written by a model ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with weights, as a checkpoint has them, large enough for answers to differ."""
    folder = tmp_path_factory.mktemp("writer")
    model = build("task=lamp4", "k=0", *ZERO)[0].model
    assert isinstance(model, Seq2Seq)
    model.configure_model()
    with torch.no_grad():
        for weight in model.net.parameters():
            weight.mul_(3)
    model.net.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def written(weights: Path, *words: str) -> tuple[dict[str, str], dict]:
    """The summary of each question, and the facts for the record."""
    given = ["task=lamp2", "k=0", "limit=12", *ZERO, *LLM, f"summary.name={weights}", *words]
    made, configuration = build(*given)
    parts = load_parts(made)
    (facts,) = learn(made, configuration, parts)["summary"]
    texts = {one.id: summarise(made, one) for one in parts.asked.examples}
    return texts, {**facts.facts, "made_now": not facts.was_there, "folder": facts.folder}


def test_summaries_are_written_once_for_all_runs(weights, tmp_path):
    texts, first = written(weights)
    assert len({*texts.values()} - {""}) > 1
    assert first["made_now"]
    again, second = written(weights, "k=2", "limit=6", "max_length=200")
    assert not second["made_now"]
    assert second["folder"] == first["folder"]
    assert again == {id: texts[id] for id in again}
    units = list((first["folder"] / "units").iterdir())
    assert len(units) == first["summaries"] <= len(texts)
    _, other = written(weights, "summary.max_new_tokens=4", "limit=2")
    assert other["folder"] != first["folder"]


def test_neither_batches_nor_order_nor_other_users_change_a_summary(weights, monkeypatch):
    texts, _ = written(weights, "output_dir=a")
    monkeypatch.setattr(summaries, "WRITTEN_AT_ONCE", 1)
    one_by_one, _ = written(weights, "output_dir=b", "predict_batch_size=1")
    assert one_by_one == texts
    few, _ = written(weights, "output_dir=c", "limit=4")
    assert few == {id: texts[id] for id in few}


def test_an_interrupted_run_writes_only_what_is_missing(weights, monkeypatch):
    monkeypatch.setattr(summaries, "WRITTEN_AT_ONCE", 4)
    predict, asked = Seq2Seq.predict, []

    def interrupted(self, prompts, *rest):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.extend(prompt.id for prompt in prompts)
        return predict(self, prompts, *rest)

    monkeypatch.setattr(Seq2Seq, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(weights, "output_dir=a")
    first, asked = list(asked), []
    monkeypatch.setattr(
        Seq2Seq, "predict", lambda s, p, *r: asked.extend(x.id for x in p) or predict(s, p, *r)
    )
    texts, facts = written(weights, "output_dir=a")
    assert len(first) == 4
    assert not {*first} & {*asked}
    assert len(asked) + len(first) == facts["summaries"]
    assert texts == written(weights, "output_dir=b")[0]


def test_another_users_profile_decides_nothing(weights, data_dir):
    """A gold that is planted in another user's profile changes no summary of the first user."""
    seen = []
    for planted in ("a plain movie", "CANARY"):
        profiles = [["a spy", "a robot"], [planted, "a robot"]]
        questions = [
            {
                "id": f"{n}",
                "input": f"{Lamp2.instruction} CANARY",
                "profile": [
                    {"id": f"{n}{m}", "description": text, "tag": "action"}
                    for m, text in enumerate(texts)
                ],
            }
            for n, texts in enumerate(profiles)
        ]
        place = data_dir("LaMP_2", "dev", questions)
        words = [f"data_dir={place}", "task=lamp2", "mode=prompts", "k=0", "model=tiny"]
        made, _ = build(*words, *LLM, f"summary.name={weights}", f"output_dir={planted[:6]}")
        part = load_parts(made).asked
        keys = Summaries(made.summary, made.writer, made.task, [part]).unit_keys()
        counted, _ = build(*words, "summary=statistics")
        seen.append([keys[0], summarise(counted, part.examples[0]), keys[1]])
    assert seen[0][:2] == seen[1][:2]
    assert seen[0][2] != seen[1][2]


def test_the_writer_reads_what_fits():
    summary = LlmSummary({"lamp4": "How?"}, items="newest", max_items=3, input_tokens=24)
    dated = [
        item._replace(date=datetime(2020, 1, 1 + n))
        for n, item in enumerate(items(title=["A", "B", "C", "D"], text=["x " * 9] * 4))
    ]
    request = summary.request(Lamp4(), dated, Words())
    assert request.text.startswith('"D" is the title for')
    assert request.text.endswith("\n\nHow?")
    assert Words().count(request.text) <= 24
    assert (request.items, request.cut) == (1, 0)
    assert replace_budget(summary, 60).request(Lamp4(), dated, Words()).items == 3
    cut = replace_budget(summary, 12).request(Lamp4(), dated, Words())
    assert (cut.items, cut.cut) == (1, 1)


def replace_budget(summary: LlmSummary, tokens: int) -> LlmSummary:
    summary.input_tokens = tokens
    return summary


def test_the_sample_of_items_depends_on_seed_and_content_alone():
    many = items(description=[f"movie {n}" for n in range(30)], tag=["action"] * 30)
    texts = [
        LlmSummary({"lamp2": "?"}, seed=seed).request(Lamp2(), many, Words()).text
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert request_key(texts[0]) != request_key(texts[2])


def test_a_run_with_written_summaries_tells_what_was_written(lamp_exp, weights):
    lengths = ["summary.max_tokens=60", "summary.max_new_tokens=6"]
    words = ["task=lamp3", "limit=4", "k=1", *ZERO, *LLM, *lengths, f"summary.name={weights}"]
    code, out, err = lamp_exp(*words)
    assert code == 0, err
    folder = folder_of(out)
    record = recorded(folder)
    (facts,) = record["learned"]
    assert (facts["group"], facts["kind"], facts["made_now"]) == ("summary", "summaries", True)
    assert facts["summaries"] == 4 and facts["writer"]["weights"] == str(weights)
    assert record["identity"]["summary.name"].startswith("folder:")
    assert record["counts"]["summaries_shown"] + record["counts"]["summaries_empty"] == 4
    code, out, err = lamp_exp(*words, "mode=summaries")
    assert code == 0, err
    rows = lines_of(folder_of(out) / "summaries.jsonl")
    assert [row["id"] for row in rows] == [f"20000{n}" for n in range(4)]
    prompts = [row["passages"][0] for row in lines_of(folder / "prompts.jsonl")]
    assert all(p.startswith(r["summary"]) for r, p in zip(rows, prompts, strict=True))
    assert not recorded(folder_of(out))["learned"][0]["made_now"]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- the command -------------------------------------------------------------------------------


def test_the_mode_makes_and_shows_summaries(lamp_exp):
    code, out, err = lamp_exp("task=lamp2", "mode=summaries", "summary=statistics", "limit=5")
    assert code == 0, err
    folder = folder_of(out)
    assert folder.name.startswith("lamp2-user-dev-summaries-summary_statistics-s0-")
    assert out.count("question 2") == 3
    assert "The user's tag for movies is usually" in out
    record = recorded(folder)
    assert "summaries.jsonl" in record["files"]
    assert not {"model", "k", "retriever", "max_length"} & record["identity"].keys()


def test_reports_tell_runs_with_summaries_apart(lamp_exp, report):
    words = ["task=lamp3", "limit=4", *ZERO, "model.decoding=likelihood"]
    for summary in ("none", "statistics"):
        code, _, err = lamp_exp(*words, "k=0", f"summary={summary}", "output_dir=out")
        assert code == 0, err
    frame = load_results("out")
    assert sorted(frame["summary"].unique()) == ["none", "statistics"]
    (baseline,) = frame[frame["summary"] == "statistics"]["baseline"].unique()
    assert baseline == frame[frame["summary"] == "none"]["configuration"].iloc[0]
    code, out, err = report("tests", "--runs", "out")
    assert code == 0, err
    assert "summary" in out and "statistics" in out
    code, out, err = report("personal", "--runs", "out")
    assert code == 0, err
    assert "Gain of the profile" in out


@pytest.mark.long
def test_wandb_receives_no_summary(lamp_exp):
    words = ["task=lamp2", "k=0", "limit=2", *ZERO, "max_new_tokens=2", "logger=wandb"]
    code, out, err = lamp_exp(*words, "summary=statistics")
    assert code == 0, err
    folder = folder_of(out)
    said = b"The user's tag"
    assert said in (folder / "prompts.jsonl").read_bytes()
    files = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if said in path.read_bytes()]


@pytest.mark.slow
def test_statistics_beat_no_profile_where_they_tell_the_answer(lamp_exp):
    """The sample's users have a tag for each of their few topics, which the statistics name."""
    words = ["experiment=first", "task=lamp2", "augmentation=ipa", "k=0", "trainer.max_epochs=16"]
    words += ["trainer.enable_progress_bar=false"]
    for seed in range(3):
        found = []
        for summary in ("none", "statistics"):
            code, out, err = lamp_exp(*words, f"seed={seed}", f"summary={summary}")
            assert code == 0, err
            found.append(recorded(folder_of(out))["metrics"]["accuracy"])
        print(seed, found)
        assert found[1] > found[0] + 0.1, (seed, found)


BAD = {
    "mode=summaries": "mode=summaries makes summaries: choose one, such as summary=statistics",
    "mode=summaries summary=llm": "a model of random weights writes no summary",
    "mode=zeroshot summary=llm summary.model=causal": "summary.model=causal needs summary.name",
    "mode=zeroshot summary=llm summary.name=./no": "summary.name=./no: there is no such folder",
    "mode=prompts summary=statistics profile.pool=all_users retriever=random": (
        "profile.pool=all_users is for retrieval alone: use summary=none"
    ),
    "mode=prompts summary=llm summary.items=oldest": "must be one of newest, sampled",
    "mode=prompts summary=statistics summary.max_tokens=0": "must be at least 1",
    "mode=prompts summary=statistics summary.words=3": "summary.words",
    "mode=prompts summary=llm summary.items=newest summary.name=WEIGHTS": "needs dates, which not",
    "mode=prompts summary=llm summary.name=WEIGHTS summary.instructions.lamp4=''": (
        "summary.instructions has none for this task"
    ),
}


@pytest.mark.parametrize("words", BAD)
def test_mistakes_are_one_line(lamp_exp, weights, words):
    given = words.replace("WEIGHTS", str(weights)).split()
    code, out, err = lamp_exp("task=lamp4", "model=tiny", "limit=3", *given)
    assert code == 2, out
    assert err.count("\n") == 1
    assert BAD[words] in err


class Elsewhere:
    """A model behind an API, as far as the check of licences looks at it."""

    has_random_weights = False
    uses_trainer = False

    def validate(self, *given) -> None:
        pass


def test_licensed_texts_go_to_no_api_unless_it_is_allowed(weights):
    words = ["task=lamp6", "k=0", *ZERO, *LLM, f"summary.name={weights}"]
    made, _ = build(*words)
    part = load_parts(made).asked  # the sample: anything may be sent
    writer = replace(made.writer, model=Elsewhere())
    real = [replace(part, made_up=False)]
    with pytest.raises(InputError, match="under a licence .*Avocado.*summary.allow_api=true"):
        summaries._validate_writer(writer, made.summary, made.task, real)
    summaries._validate_writer(writer, made.summary, made.task, [part])
    allowed, _ = build(*words, "summary.allow_api=true")
    summaries._validate_writer(writer, allowed.summary, made.task, real)
    assert name_of(*words) == name_of(*words, "summary.allow_api=true")


def test_an_augmentation_without_room_for_a_summary_is_refused(monkeypatch):
    def older(self, task, example, hits, counter, max_length):
        raise NotImplementedError

    monkeypatch.setattr(InPromptAugmentation, "__call__", older)
    made, _ = build("task=lamp4", "limit=3", *ZERO, "summary=statistics")
    with pytest.raises(InputError, match="InPromptAugmentation shows no summary"):
        load_parts(made)


def test_every_task_has_an_instruction():
    made, _ = build("task=lamp4", "summary=llm", "mode=prompts", "model=tiny")
    assert made.summary.instructions.keys() == set(options("task"))
