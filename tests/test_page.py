"""The page as a file: whole, safe, telling what is left out. `test_page_browser.py` looks at it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.__main__ import main
from lamp_exp.report.coldstart import Bin
from lamp_exp.report.colours import DARK, LIGHT, SERIES, STEPS
from lamp_exp.report.formats import TEMPLATES
from lamp_exp.report.loading import find
from lamp_exp.report.page import page
from lamp_exp.report.page.browser import Limits, embed, rounded, rounded_rows, script_of
from lamp_exp.report.page.content import SHADES, page_rows, text_columns
from lamp_exp.report.page.gains import answer, best_user_gains, card, matrix
from lamp_exp.report.page.panels import Panel, panels
from lamp_exp.report.page.sections import all_numbers, cold_start_bins, curves, k_curves, training
from lamp_exp.report.paired_examples import pair_of_runs
from lamp_exp.report.plots import Point, Series
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.record import Record
from lamp_exp.results.schema import RoutedCandidate, Routing, TunedK
from lamp_exp.statistics import Interval, compare
from tests.records import (
    QUESTION,
    change_record,
    make_grid,
    make_import,
    make_run,
    question_texts,
)

EVIL = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "a\u2028b\u2029c \\u003c & \" ' `${alert(1)}`",
]
VOID = {"meta", "link", "input", "br", "img"}


class Parsed(HTMLParser):
    """The elements of a page; fails where they are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def values(self, attribute: str) -> list[str]:
        return [a[attribute] or "" for _, a in self.elements if attribute in a]

    def data(self, name: str) -> Any:
        places = [a.get("id") for tag, a in self.elements if tag == "script"]
        return json.loads(self.scripts[places.index(name)])


def records(folder: Path) -> list[Record]:
    return find([folder]).records


def made(folder: Path, **limits: Any) -> str:
    return page(records(folder), Limits(**limits), "A <title> & more")


def asked(n: int) -> dict[str, Any]:
    """What the page's runs have in common: so many questions, of three to a user."""
    return {
        "questions": n, "per_user": 3, "texts": question_texts(n), "first_id": 10000,
        "mode": "zeroshot", "model": "tiny", "made_up": True,
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_grid(folder, ["lamp3", "lamp4"], **asked(12))
    make_run(folder, "lamp4", k=16, outputs=EVIL, **asked(12))
    return folder


@pytest.fixture(scope="module")
def text(runs: Path) -> str:
    return made(runs)


def test_it_is_well_formed_with_one_title_and_ids_of_its_own(text: str):
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.elements]
    drawn = sum(tag == "svg" and "role" in a for tag, a in parsed.elements)
    assert tags.count("h1") == tags.count("main") == tags.count("title") - drawn == 1
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-describedby"):
        assert set(parsed.values(name)) <= set(ids)
    targets = parsed.values("href") + parsed.values("xlink:href")
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_it_asks_for_nothing(text: str):
    parsed = Parsed(text)
    targets = parsed.values("href") + parsed.values("xlink:href") + parsed.values("src")
    assert all(target.startswith("#") or target == "data:," for target in targets)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    (policy,) = (a["content"] for _, a in parsed.elements if "http-equiv" in a)
    assert policy and "default-src 'none'" in policy and "sha256-" in policy


def test_every_section_is_linked_and_headed(text: str):
    parsed = Parsed(text)
    sections = [str(a["id"]) for tag, a in parsed.elements if tag == "section"]
    links = [target[1:] for target in parsed.values("href") if target[0] == "#"]
    assert links == ["main", *sections[:-1]]
    assert sections == [
        "answer", "methods", "gains", "k", "users", "coldstart", "cost", "field", "results",
        "agreement", "runs", "examples", "absent",
    ]  # fmt: skip
    drawn = [a for tag, a in parsed.elements if tag == "svg" and "aria-hidden" not in a]
    assert len(drawn) == 5 * 2 and {a["role"] for a in drawn} == {"img"}
    assert text.count("<summary>The numbers</summary>") == len(drawn)
    assert (
        "<b>Training</b>: no run here was fine-tuned, and no component of one has learned" in text
    )


def test_routed_runs_have_no_place_on_a_curve_over_k(tmp_path: Path):
    runs = [make_run(tmp_path, k=k) for k in (0, 1, 4)]
    routed = make_run(tmp_path, k=2)
    candidates = tuple(
        RoutedCandidate(run.name, {"k": n}, run.name, 1, 0.5) for n, run in enumerate(runs)
    )
    identity = {**RunFolder(routed).read().identity, "candidates": {"a": {}, "b": {}}}
    change_record(routed, k=None, routing=Routing(candidates, {}, {}), identity=identity)
    (panel,) = panels(records(tmp_path))
    assert len(panel.groups) == 3
    assert [point.x for line in curves(panel) for point in line.points] == [1.0, 4.0]


def test_no_output_of_a_model_is_markup(text: str):
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.elements]
    assert "img" not in tags and "onerror" not in " ".join(parsed.values("class"))
    kinds = [a.get("type") for tag, a in parsed.elements if tag == "script"]
    assert kinds.count(None) == 1 and set(kinds) == {None, "application/json"}
    listed = parsed.data("example-runs")
    place = next(n for n, run in enumerate(listed) if "-k16-" in run["label"])
    assert parsed.data(f"examples-{place}")["prediction"][: len(EVIL)] == EVIL


def test_data_can_end_neither_its_element_nor_a_line():
    script = script_of("x", EVIL)
    inside = script.removeprefix('<script type="application/json" id="x">').removesuffix(
        "</script>"
    )
    assert not set("<\u2028\u2029") & set(inside)
    assert json.loads(inside) == EVIL


def test_names_of_runs_are_text_everywhere(tmp_path: Path):
    choices = {
        "task": "lamp4",
        "retriever": '$x_1$"><s onx=1>',
        "augmentation": "<u>",
        "model": "m",
    }
    make_run(tmp_path, k=0, **asked(20))
    make_run(tmp_path, k=4, choices=choices, **asked(20))
    make_run(tmp_path, k=1, choices=choices, **asked(20))
    text = made(tmp_path)
    tags = {tag for tag, _ in Parsed(text).elements}
    assert not tags & {"s", "u"} and "$x_1$" in text
    assert "<title>A &lt;title&gt; &amp; more</title>" in text


def test_the_same_runs_make_the_same_page(runs: Path, text: str):
    assert made(runs) == text


def test_made_up_data_are_told_first(text: str):
    assert text.index("MADE-UP SAMPLE") < text.index("<nav")


# ---- examples ----


def is_of(record: Record, retriever: str, augmentation: str, k: int) -> bool:
    choices = record.result.choices
    its = (choices["retriever"], choices["augmentation"], record.result.k)
    return its == (retriever, augmentation, k)


def test_examples_are_joined_with_their_question_and_name_their_baseline(runs: Path, text: str):
    parsed = Parsed(text)
    listed = parsed.data("example-runs")
    assert {run["task"] for run in listed[:4]} == {"lamp3", "lamp4"}
    record = next(r for r in records(runs) if r.task == "lamp4" and is_of(r, "bm25", "fid", 4))
    place = next(n for n, run in enumerate(listed) if record.name in run["label"])
    answers = parsed.data(f"examples-{place}")
    questions = parsed.data(f"questions-{listed[place]['questions']}")
    bare = next(r for r in records(runs) if r.configuration == record.baseline)
    assert questions["id"] == record.column("id")
    assert questions["input"][3] == bare.prompts()[record.column("id")[3]][0]
    assert questions["input"][3].startswith(QUESTION)
    assert bare.name in listed[listed[place]["baseline"]]["label"]
    without = parsed.data(f"examples-{listed[place]['baseline']}")
    assert without["prediction"] == bare.column("prediction")
    own = record.prompts()[record.column("id")[3]]
    told = [passage[0] + questions["input"][3] for passage in answers["passages"][3]]
    assert told == own and answers["cut"][3] == 0


def test_examples_of_another_order_are_put_in_the_same(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(6))
    run = make_run(tmp_path, k=4, **asked(6))
    import pyarrow.parquet

    path = run / "examples.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.take([5, 3, 1, 0, 2, 4]), path)
    embedded = embed(records(tmp_path), Limits())
    assert [one["questions"] for one in embedded.runs] == [0, 0]
    parsed = Parsed(embedded.html)
    ids = parsed.data("questions-0")["id"]
    record = next(r for r in records(tmp_path) if r.personal)
    place = next(n for n, one in enumerate(embedded.runs) if record.name in one["label"])
    answers = parsed.data(f"examples-{place}")["prediction"]
    assert dict(zip(ids, answers, strict=True)) == record.by_question("prediction")


def test_pairs_have_the_test_that_the_verb_compare_makes(runs: Path):
    embedded = embed(records(runs), Limits(conditions=("task=lamp3",)))
    tests = Parsed(embedded.html).data("example-tests")
    assert len(tests) == 13 * 12 // 2
    names = {r.name: r for r in records(runs)}
    a, b = (names[embedded.runs[place]["label"].split()[0]] for place in (0, 5))
    samples = pair_of_runs(a, b, "mae")
    assert samples
    expected = compare(*samples)
    found = tests["0-5"]
    assert found["difference"] == pytest.approx(expected.difference.value, abs=1e-6)
    assert found["p"] == pytest.approx(expected.decisive.p, rel=1e-5)
    assert found["test"] == expected.decisive.name


def test_what_is_left_out_is_told(runs: Path):
    embedded = embed(records(runs), Limits(examples=5, characters=100, megabytes=0))
    told = " ".join(embedded.notes)
    assert len(embedded.runs) == 4  # of each task the best and its baseline, whatever the size
    assert "4 of 27 runs, one seed of each" in told
    assert "23 more are left out for the size" in told
    assert "At most 5 examples" in told and "100 characters" in told
    assert "The first 5 of 12 questions" in embedded.runs[0]["about"]
    place = next(n for n, run in enumerate(embedded.runs) if run["baseline"] is not None)
    answers = Parsed(embedded.html).data(f"examples-{place}")
    assert len(answers["prediction"]) == 5
    kept = "".join(p if isinstance(p, str) else p[0] for p in answers["passages"][0])
    assert len(kept) == 100 and answers["cut"][0] > 0


def test_the_runs_to_browse_can_be_chosen(runs: Path):
    chosen = embed(records(runs), Limits(conditions=("task=lamp3", "k=4")))
    assert len(chosen.runs) == 7 and all("lamp3" in run["label"] for run in chosen.runs)
    assert sum("-k4-" in run["label"] for run in chosen.runs) == 6  # and their baseline
    bare = embed(records(runs), Limits(conditions=("k=0",)))
    assert [run["task"] for run in bare.runs] == ["lamp3", "lamp4"]
    with pytest.raises(InputError, match="there is no run to browse with k=99"):
        embed(records(runs), Limits(conditions=("k=99",)))


def test_predictions_made_elsewhere_are_shown(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(20))
    make_run(tmp_path, k=4, **asked(20))
    common = {name: value for name, value in asked(20).items() if name not in ("mode", "model")}
    theirs = make_import(tmp_path, "theirs", **common)
    text = made(tmp_path)
    labels = [run["label"] for run in Parsed(text).data("example-runs")]
    assert len(labels) == 3 and any(theirs.name in label for label in labels)
    assert text.count(f">{theirs.name}<") == 1  # in the table of runs


def test_a_run_alone_and_without_prompts_is_shown(tmp_path: Path):
    run = make_run(tmp_path, k=4, **asked(3))
    (run / "prompts.jsonl").unlink()
    change_record(run)  # which names the files that are there
    text = made(tmp_path)
    assert "<b>Gain by user</b>: no run with scores of its examples has its baseline" in text
    assert "no baseline here: run the same with k=0" in text
    assert "Its baseline, the same run without a profile, is not here." in text
    assert Parsed(text).data("examples-0")["passages"] == [[], [], []]


def test_scores_that_json_lacks_are_none(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(2))
    run = make_run(tmp_path, k=1, **asked(2))
    import pyarrow as pa
    import pyarrow.parquet

    path = run / "examples.parquet"
    table = pyarrow.parquet.read_table(path)
    column = table.column_names.index("item_scores")
    values = pa.array([[float("inf")], [float("nan")]], pa.list_(pa.float64()))
    pyarrow.parquet.write_table(table.set_column(column, "item_scores", values), path)
    answers = Parsed(embed(records(tmp_path), Limits(conditions=("k=1",))).html).data("examples-0")
    assert answers["itemScores"] == [[None], [None]]


# ---- the command ----


def test_the_command_writes_one_file(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["html", "--runs", str(runs), "--out", "new/page.html"]) == 0
    assert capsys.readouterr().out.strip() == "new/page.html"
    assert [path.name for path in Path("new").iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--examples", "-1"], "--examples must not be negative"),
        (["--where", "task=lamp9"], "there is no run with metrics, of those with task=lamp9"),
        (["--browse", "colour=red"], "colour is no property"),
        (["--browse", "k"], "is no condition"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
):
    assert main(["html", "--runs", str(runs), *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not Path("page.html").exists()


def test_runs_that_cannot_be_read_are_told_on_the_page(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(20))
    make_run(tmp_path, k=4, **asked(20))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("{")
    assert main(["html", "--runs", str(tmp_path)]) == 0
    assert "left out, its result.json was damaged" in Path("page.html").read_text("utf-8")


def test_unfinished_runs_are_a_count_at_the_top(tmp_path: Path):
    make_run(tmp_path, k=4, **asked(20))
    for number in range(3):
        RunFolder(tmp_path / f"lamp4-user-dev-zeroshot-bm25-k{number}-s0-abcdef1{number}").start(
            {"task": "lamp4"}, {}
        )
    assert main(["html", "--runs", str(tmp_path)]) == 0
    text = Path("page.html").read_text("utf-8")
    assert "1 finished run of lamp4; newest begun 2026-11-25 12:00 UTC; 3 not finished." in text
    assert "abcdef1" not in text


# ---- nothing of the machine ----


def test_no_path_of_the_machine_is_on_the_page(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(20))
    weights = {"model": {"name": str(tmp_path / "some-run" / "checkpoint")}}
    for n, settings in enumerate(({}, weights)):
        make_run(tmp_path, k=4, settings=settings, retriever=f"r{n}", **asked(20))
    damaged = make_run(tmp_path, k=1, **asked(20))
    (damaged / "examples.parquet").write_text("damaged")
    assert main(["html", "--runs", str(tmp_path), "--browse", "k=0"]) == 0
    text = Path("page.html").read_text("utf-8")
    assert f"{damaged.name}/examples.parquet is damaged: rerun=true makes it" in text
    (damaged / "examples.parquet").unlink()
    assert main(["html", "--runs", str(tmp_path)]) == 0
    whole = Path("page.html").read_text("utf-8")
    assert "some-run" in whole and not any(str(tmp_path) in found for found in (text, whole))


# ---- panels ----


def only(folder: Path) -> Panel:
    (panel,) = panels(records(folder))
    return panel


def test_runs_of_other_questions_or_decoding_are_panels_of_one_matrix(tmp_path: Path):
    free, labels = ({"model": {"name": "google/tiny", "decoding": d}} for d in ("free", "labels"))
    make_grid(tmp_path, ["lamp4"], ks=(1,), settings=free, **asked(6))
    make_run(tmp_path, "lamp4", part="test", settings=free, **asked(6))
    make_run(tmp_path, "lamp4", limit=6, settings=free, **asked(6))
    make_run(tmp_path, "lamp4", settings=labels, **asked(6))
    found = panels(records(tmp_path))
    assert [panel.words for panel in found] == [
        "lamp4, dev, decoding=free", "lamp4, dev, decoding=labels", "lamp4, dev, limit=6",
        "lamp4, test",
    ]  # fmt: skip
    assert [len(panel.groups) for panel in found] == [6, 1, 1, 1]
    assert found[0].shared == "made-up, user split, zeroshot, tiny"
    drawn = matrix(found)
    assert [len(own) for _, _, own in drawn.columns] == [1, 1, 1, 1]
    assert len(drawn.rows) == 6 and all(len(cells) == 4 for _, cells in drawn.rows)


def test_what_only_matters_with_a_profile_makes_methods(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(12))
    make_run(tmp_path, k=4, **asked(12))
    make_run(tmp_path, k=4, profile={"max_items": 3}, **asked(12))
    panel = only(tmp_path)
    labels = {method.label: method.style for method in panel.methods.values()}
    assert labels.keys() == {"bm25 ipa", "bm25 ipa max_items=3"}
    assert len(set(labels.values())) == 2
    assert panel.baseline and len(panel.gains) == 2  # both against the same run


def test_a_method_has_one_colour_on_the_whole_page(tmp_path: Path):
    for task in ("lamp3", "lamp4"):
        make_run(tmp_path, task, k=0, **asked(6))
    for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i"):
        for task in ("lamp3", "lamp4") if name > "c" else ("lamp4",):
            for way in ("ipa", "fid"):
                make_run(tmp_path, task, retriever=name, augmentation=way, **asked(6))
    looks: dict[str, set[tuple[int, bool]]] = {}
    for panel in panels(records(tmp_path)):
        for method in panel.methods.values():
            looks.setdefault(method.label, set()).add((method.style, method.dashed))
    assert len(looks) == 18 and all(len(found) == 1 for found in looks.values())
    drawn = {(s % SERIES, plots.marker(s), dashed) for ((s, dashed),) in looks.values()}
    assert len(drawn) == 18  # more than there are colours
    assert all(style % SERIES != SERIES - 1 for ((style, _),) in looks.values())  # the baseline's


def test_a_run_with_other_users_profiles_is_never_the_best(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.2, **asked(30))
    make_run(tmp_path, k=4, skill=0.5, **asked(30))
    make_run(tmp_path, k=4, skill=1.0, profile={"control": "shuffled_user"}, **asked(30))
    panel = only(tmp_path)
    assert [group.shown("control") for group in panel.candidates] == ["none"]
    assert panel.best.shown("control") == "none" and card(panel).of == 1
    labels = [method.label for method, _ in matrix([panel]).rows]
    assert labels == ["bm25 ipa", "bm25 ipa (control)"]


def test_a_page_is_html_only(tmp_path: Path, capsys):
    make_run(tmp_path / "runs", k=4, **asked(6))
    assert main(["html", "--runs", str(tmp_path / "runs"), "--out", "page.pdf"]) == 2
    assert (
        "--out page.pdf: a page is HTML: give a name that ends in .html" in capsys.readouterr().err
    )


@pytest.mark.parametrize("aside", [{"bound": True}, {"profile": {"control": "shuffled_user"}}])
def test_a_page_of_bounds_or_controls_alone_is_made(tmp_path: Path, aside):
    for k in (1, 4):
        make_run(tmp_path / "runs", k=k, **aside, **asked(6))
    out = tmp_path / "page.html"
    assert main(["html", "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "2 runs." in out.read_text(encoding="utf-8")


def test_what_is_run_with_one_k_alone_does_not_cut_the_curve_over_k(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(6))
    for k in (1, 4, 16):
        make_run(tmp_path, k=k, **asked(6))
    make_run(tmp_path, k=4, profile={"control": "shuffled_user"}, **asked(6))
    lines = {line.label: line for line in curves(only(tmp_path))}
    assert [point.x for point in lines["bm25 ipa"].points] == [1, 4, 16]
    assert [point.x for point in lines["bm25 ipa (control)"].points] == [4]
    assert len({line.style for line in lines.values()}) == 2
    make_run(tmp_path, k=4, profile={"max_items": 8}, **asked(6))
    lines = {line.label: line for line in curves(only(tmp_path))}
    assert [point.x for point in lines["bm25 ipa max_items=8"].points] == [4]
    assert max(len(line.points) for line in lines.values()) == 3
    assert len({line.style for line in lines.values()}) == len(lines) == 3


def test_runs_with_other_options_at_another_k_are_not_one_curve(tmp_path: Path):
    make_run(tmp_path, k=0, **asked(6))
    for k, k1, b in ((1, 1.0, 0.9), (4, 2.0, 0.9), (4, 2.0, 0.5)):
        make_run(tmp_path, k=k, settings={"retriever": {"k1": k1, "b": b}}, **asked(6))
    lines = curves(only(tmp_path))
    assert len(lines) == 3 and all("k1=" in line.label and "b=" in line.label for line in lines)


def test_runs_that_others_learn_from_have_no_panel_of_their_own(tmp_path: Path):
    for part in ("train", "dev"):
        make_run(tmp_path, k=0, part=part, **asked(12))
        make_run(tmp_path, k=4, part=part, **asked(12))
    panel = only(tmp_path)
    assert panel.groups[0].shown("part") == "dev"
    assert any("1 run on train" in note for note in answer([panel], records(tmp_path)).notes)


def test_a_bound_is_marked_and_never_the_best(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.2, **asked(30))
    make_run(tmp_path, k=4, skill=0.5, **asked(30))
    for k in (1, 4):
        make_run(tmp_path, k=k, retriever="oracle", skill=1.0, bound=True, **asked(30))
    panel = only(tmp_path)
    assert panel.best.shown("retriever") == "bm25" and card(panel).of == 1
    assert [method.label for method, _ in matrix([panel]).rows] == [
        "bm25 ipa", "oracle ipa (bound)",
    ]  # fmt: skip
    content = k_curves([panel])
    assert "bm25 ipa with k=4" in content.plots[0].description
    alone = [r for r in records(tmp_path) if r.result.bound or not r.personal]
    text = page(alone, Limits(), "Title")
    assert "lamp4: only controls or bounds, of which none is the best." in text


# ---- the answer ----


def test_the_answer_is_the_gain_with_interval_verdict_and_users(tmp_path: Path):
    make_grid(tmp_path, ["lamp3"], ks=(4,), **asked(60))
    panel = only(tmp_path)
    best, without = panel.best, panel.baseline
    assert not panel.higher and without is not None
    assert best.mean("mae") == min(group.mean("mae") for group in panel.groups)
    answer = card(panel)
    assert answer.gain == pytest.approx(without.mean("mae") - best.mean("mae"))
    assert (answer.value, answer.baseline) == (best.mean("mae"), without.mean("mae"))
    gains = best_user_gains(panel)
    ours, theirs = best.first.column("mae"), without.first.column("mae")
    assert len(gains) == 20  # users, of three questions each
    assert gains[0] == pytest.approx(sum(theirs[:3]) / 3 - sum(ours[:3]) / 3)
    users = answer.users
    assert users and (users.helped, users.hurt) == (
        sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains),
    )  # fmt: skip
    low, high = re.findall(r"[+-][\d.]+", answer.interval)
    assert float(low) < answer.gain < float(high)
    text = made(tmp_path)
    assert f"{users.helped} helped, {users.unchanged} unchanged, {users.hurt} hurt" in text
    assert f"{answer.gain:+.3f}</b> mae" in text and answer.verdict_words in text


def test_the_verdict_corrects_for_the_number_of_runs(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.4, **asked(90))
    for n in range(12):
        make_run(tmp_path, k=4, retriever=f"r{n:02}", skill=0.42 + 0.02 * n, **asked(90))
    gains = only(tmp_path).gains
    raw = [one.decisive.p for one in gains["comparison"]]
    assert all(p >= before for p, before in zip(gains["p"], raw, strict=True))
    assert list(gains["gain"]) == sorted(gains["gain"], reverse=True)
    softened = [
        one.comparison.verdict for one in gains.itertuples()
        if one.verdict == "inconclusive" and one.comparison.verdict != "inconclusive"
    ]  # fmt: skip
    assert softened and all(
        (one.verdict in ("better", "worse")) <= (one.p < 0.05) for one in gains.itertuples()
    )


def test_real_data_come_before_made_up_ones(tmp_path: Path):
    for k in (0, 4):
        make_run(tmp_path, "lamp1", k=k, **asked(12))
        make_run(tmp_path, "lamp4", k=k, **(asked(12) | {"made_up": False}))
    assert [panel.task for panel in panels(records(tmp_path))] == ["lamp4", "lamp1"]
    text = made(tmp_path)
    assert text.index("Real data") < text.index("Made-up sample: no result of LaMP")
    assert Parsed(text).data("example-runs")[0]["task"] == "lamp4"


def test_tasks_without_a_profile_are_said(tmp_path: Path):
    make_run(tmp_path, "lamp3", k=0, **asked(12))
    make_run(tmp_path, "lamp4", k=4, **asked(12))
    assert "lamp3: only runs without a profile, so nothing to compare yet." in made(tmp_path)
    alone = made_of(tmp_path, "lamp3")
    assert "<b>Best runs, gains and plots</b>: no run that reads profiles is among these" in alone


def made_of(folder: Path, task: str) -> str:
    chosen = [record for record in records(folder) if record.task == task]
    return page(chosen, Limits(), "Title")


def test_colours_follow_the_gain_and_the_best_of_a_column_is_bold(tmp_path: Path):
    make_run(tmp_path, "lamp3", k=0, skill=0.5, **asked(150))
    for name, skill in (("good", 1.0), ("bad", 0.0), ("same", 0.5)):
        make_run(tmp_path, "lamp3", retriever=name, k=4, skill=skill, **asked(150))
    cells = {method.label: cells[0] for method, cells in matrix(panels(records(tmp_path))).rows}
    good, bad, same = (cells[f"{name} ipa"] for name in ("good", "bad", "same"))
    assert good and good.best and good.significant and good.gain > 0  # of an error, which fell
    assert bad and not bad.best and bad.gain < 0 and same
    assert SHADES >= good.shade > abs(same.shade) and bad.shade < 0
    assert (good.colour[:4], bad.colour[:4]) == ("gain", "loss")
    assert next(iter(cells)) == "good ipa"


# ---- plots of runs ----


def test_cold_start_is_in_quarters_by_profile_size(tmp_path: Path):
    make_grid(tmp_path, ["lamp3"], ks=(4,), **asked(40))
    panel = only(tmp_path)
    bins = cold_start_bins(panel)
    assert [one.n for one in bins] == [10, 10, 10, 10]
    sizes = panel.best.first.column("profile_size")
    rows = [n for n, size in enumerate(sizes) if size <= sorted(sizes)[9]]
    assert bins[0].label == f"{min(sizes)} to {sorted(sizes)[9]}"
    ours, theirs = (g.first.column("mae") for g in (panel.best, panel.baseline) if g)
    assert bins[0].value.value == pytest.approx(sum(ours[n] for n in rows) / 10)
    assert bins[0].gain and bins[0].gain.value == pytest.approx(
        sum(theirs[n] - ours[n] for n in rows) / 10  # lower is better
    )
    assert bins[0].gain.low < bins[0].gain.value


def test_curves_have_intervals_of_one_seed_and_mark_a_tuned_k(tmp_path: Path):
    for k in (0, 1, 4):
        make_run(tmp_path, k=k, **asked(40))
    tuned = make_run(tmp_path / "tuned", k=4, **asked(40))
    change_record(tuned, tuned=TunedK(4, ({"k": 1, "value": 0.1}, {"k": 4, "value": 0.2}), "x"))
    found = find([tmp_path, tmp_path / "tuned"]).records
    (panel,) = panels(found)
    (line,) = curves(panel)
    assert [(point.x, point.chosen) for point in line.points] == [
        (1, False), (4, False), (4, True),
    ]  # fmt: skip
    assert all(point.low < point.y < point.high for point in line.points)
    text = page(found, Limits(), "Title")
    assert "k tuned on dev" in text and "k tuned on dev" not in made(tmp_path)


def test_training_curves_are_of_runs_that_were_fine_tuned(tmp_path: Path):
    history = {
        "epochs": [{"train_loss": 2.0, "rouge_1": 0.1}, {"train_loss": 1.0, "rouge_1": 0.3},
                   {"train_loss": 0.5, "rouge_1": 0.2}],
        "best_epoch": 2,
    }  # fmt: skip
    common = asked(20) | {"mode": "finetune"}
    for k in (0, 4):
        change_record(make_run(tmp_path, k=k, **common), training=history)
    make_run(tmp_path, "lamp3", k=4, **asked(20))
    content = training(panels(records(tmp_path)))
    (plot,) = content.plots
    rows = {row.head[0]: row.cells for row in plot.numbers.rows}
    assert rows.keys() == {"bm25 ipa", "no profile"}
    assert rows["bm25 ipa"]["kept"].value == 2 and rows["bm25 ipa"]["rouge_1"].value == 0.3
    assert content.notes == ("1 more learned nothing: no curves.",)


def test_components_that_learn_have_curves_once(tmp_path: Path):
    curve = [{"epoch": 0, "reward_of_first": 0.1, "expected_reward": 0.1},
             {"epoch": 1, "loss": 0.7, "reward_of_first": 0.3, "expected_reward": 0.2}]  # fmt: skip
    facts = {"kind": "retriever", "artefact": "abc", "curve": curve, "chosen_epoch": 1}
    feedback = {"kind": "feedback", "artefact": "def", "questions": 12}
    for k in (1, 4):
        run = make_run(tmp_path, retriever="ropg_kd", k=k, **asked(20))
        change_record(run, learned=(feedback, facts))
    (plot,) = training(panels(records(tmp_path))).plots
    ((head, cells, _),) = plot.numbers.rows
    assert head[0] == "ropg_kd ipa" and cells["kept"].value == 1
    assert (cells["loss"].value, cells["reward_of_first"].value) == (0.7, 0.3)
    assert "reward of first (higher is better)" in plots.inline(plot.draw, "x", "", "")


def test_intervals_stand_in_the_cells_of_their_numbers(tmp_path: Path):
    make_grid(tmp_path, ["lamp4"], ks=(1,), **asked(12))
    (table,) = all_numbers(records(tmp_path)).tables
    rows = page_rows(table)
    assert len(rows) == sum(row.kind == "value" for row in table.rows) < len(table.rows)
    (label, value), (_, interval) = rows[0].cells["k=1"][:2]
    assert label == "" and value.value is not None and interval.text.startswith("[")
    assert text_columns(table) == set()


def test_heat_follows_the_metrics_direction():
    assert plots.steps([0.1, 0.9, None, 0.5], higher=True) == [0, STEPS - 1, None, STEPS // 2]
    assert plots.steps([0.1, 0.9, None, 0.5], higher=False) == [STEPS - 1, 0, None, STEPS // 2]
    assert plots.steps([0.4, 0.4], higher=True) == [STEPS // 2] * 2


def test_exactly_the_best_of_a_row_is_bold():
    row = [0.1, 0.48, None, 0.5]
    assert plots.best(row, higher=True) == [False, False, False, True]
    assert plots.best(row, higher=False) == [True, False, False, False]
    assert plots.best([0.5, 0.1, 0.5], higher=True) == [True, False, True]
    assert plots.best([0.5, None], higher=True) == [False, False]  # nothing to compare
    drawn = plots.inline(plots.heat_map(["lamp4"], list("abcd"), [row], [True]), "x", "", "")
    bold = re.findall(r'<text style="font-weight: 700[^>]*>([^<]*)</text>', drawn)
    assert bold == ["0.500"]


def test_the_frontier_keeps_what_none_beats():
    points = [Point(1, 0.2), Point(2, 0.1), Point(3, 0.5), Point(3, 0.6), Point(9, 0.6)]
    assert plots.frontier(points, higher=True) == [Point(1, 0.2), Point(3, 0.6)]
    assert plots.frontier(points, higher=False) == [Point(1, 0.2), Point(2, 0.1)]


# ---- plots ----

CURVES = [Series("bm25 ipa", (Point(1, 0.3, 0.2, 0.4), Point(4, 0.5)), 0)]


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value, low, high, 0.95, "t")


BINS = [
    Bin(1, 9, 5, interval(0.5, 0.4, 0.6), interval(0.4, nan, nan), interval(0.1, 0.0, 0.2), ""),
    Bin(10, 99, 7, interval(0.6, nan, nan), None, None, ""),
]
DRAWN = {
    "k": plots.k_curves(CURVES, "rouge_1", True, 0.25),
    "heat": plots.heat_map(["lamp4"], ["bm25", "random"], [[0.5, None]], [True]),
    "gain": plots.gain_distribution([0.1, -0.2, 0.0, 0.2], "mae"),
    "cold": plots.cold_start(BINS, "mae", False, "profile size"),
    "cost": plots.cost_quality(CURVES, "tokens", "rouge_1", True),
    "forest": plots.forest([Series("bm25 ipa", (Point(0, 0.3, 0.2, nan),))], "mae"),
    "training": plots.training_curves(CURVES, CURVES, "rouge_1", True),
    "nothing": plots.gain_distribution([], "mae"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_is_named_for_those_who_cannot_see_it(name: str):
    drawn = plots.inline(DRAWN[name], name, "A <b> title", "What it shows")
    assert drawn == plots.inline(DRAWN[name], name, "A <b> title", "What it shows")
    parsed = Parsed(drawn)
    tag, attributes = parsed.elements[0]
    assert tag == "svg" and attributes["role"] == "img"
    assert f'<title id="{name}-t">A &lt;b&gt; title</title>' in drawn
    assert all(value.startswith(f"{name}-") for value in parsed.values("id"))
    assert "var(--text)" in drawn and "#a1b2" not in drawn and "<style" not in drawn


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_plot_is_written_as_a_file(kind: str):
    for place in (Path(f"one.{kind}"), Path(f"two.{kind}")):
        plots.save(DRAWN["k"], place)
    assert Path(f"one.{kind}").read_bytes() == Path(f"two.{kind}").read_bytes()
    assert Path(f"one.{kind}").stat().st_size > 1000


def test_a_kind_of_file_that_is_not_known_is_named():
    with pytest.raises(InputError, match=r"plot\.bmp: plots are written as \.svg, \.png, \.pdf"):
        plots.save(DRAWN["k"], Path("plot.bmp"))


# ---- colours and code ----


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours, from 1 to 21; text needs 4.5, what is drawn 3."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_and_drawings_seen(colours: dict[str, str]):
    for ground in ("ground", "surface"):
        for name in ("text", "muted", "accent", "good", "bad"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["control"], colours[ground]) >= 3
    assert len(plots.MARKERS) == SERIES
    for number in range(SERIES):
        assert contrast(colours[f"series{number}"], colours["ground"]) >= 3, number
    for step in range(STEPS):
        assert contrast(colours[f"onheat{step}"], colours[f"heat{step}"]) >= 4.5, step
    for name in ("mark", "even", *(f"{side}{n}" for side in ("gain", "loss") for n in (1, 2, 3))):
        assert contrast(colours["text"], colours[name]) >= 4.5, name
    assert contrast(colours["muted"], colours["even"]) >= 4.5


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_modes_have_all_colours_that_are_used():
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", (TEMPLATES / "page.css").read_text("utf-8")))
    assert used - {"font", "mono", "width", "side"} <= LIGHT.keys()


def test_the_script_makes_no_markup_of_text_and_asks_for_nothing():
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "Function(", "fetch(", "XMLHttpRequest", "import(", "localStorage"):  # fmt: skip
        assert word not in script, word


def test_many_scores_are_rounded_as_one_is():
    chance = Random(0)
    values = [chance.gauss(0, 1) * 10.0 ** chance.randint(-9, 9) for _ in range(3000)]
    values += [0.0, -0.0, 1.0, 1e15]
    rows = [[*values[:7], None], [], [nan, inf, -inf], values]
    assert rounded_rows(rows) == [[rounded(value) for value in row] for row in rows]
    assert rounded_rows([[123456.789, 0.1234567, -2e-7]]) == [[123457.0, 0.123457, -2e-7]]
