"""A metric of one's own, lower is better, is right in every report without an edit there."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from lamp_exp import metrics
from lamp_exp.contracts import Metric
from lamp_exp.report.__main__ import main
from lamp_exp.report.loading import find
from lamp_exp.report.page.gains import best_user_gains
from lamp_exp.report.page.panels import panels
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Scores
from tests.records import make_run

QUESTIONS = 80


class WordDistance(Metric):
    """The number of words by which an output is longer or shorter than its target."""

    name = column = "distance"
    higher_is_better = False
    description = "words too many or too few"

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        pairs = zip(outputs, targets, strict=True)
        return [float(abs(len(o.split()) - len(t.split()))) for o, t in pairs]

    def value(self, per_example, outputs, targets) -> float:
        return metrics.mean(per_example[self.column])


class RootWordDistance(WordDistance):
    """The root mean square of the same."""

    name = "root_distance"
    column = "distance"
    aggregate = "root_mean_square"

    def value(self, per_example, outputs, targets) -> float:
        return metrics.mean([error**2 for error in per_example[self.column]]) ** 0.5


class Squared(WordDistance):
    """Its own column, and it comes first: the aggregate is the main metric's."""

    name = column = "spread"
    aggregate = "root_mean_square"

    def value(self, per_example, outputs, targets) -> float:
        return metrics.mean([error**2 for error in per_example[self.column]]) ** 0.5


class Lengths(Lamp4):
    """Titles of the right length."""

    name = "Lengths"
    metrics = (WordDistance(), RootWordDistance())

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        return metrics.score(self.metrics, outputs, targets)


class Spread(Lengths):
    """The same, chosen by the root mean square."""

    name = "Spread"
    metrics = (Squared(), WordDistance())


def answers(wrong: Sequence[int]) -> list[str]:
    """Titles of four words, as the targets are, but for those that are `wrong`."""
    return ["one" if n in wrong else "a b c d" for n in range(QUESTIONS)]


@pytest.fixture(params=[Lengths, Spread])
def task(request, tmp_path: Path) -> Lengths:
    """Without a profile half of the answers are wrong; with one, fewer and fewer."""
    made = request.param()
    common = {"questions": QUESTIONS, "per_user": 2}
    half, few, one = range(40), range(30, 44), range(43, 44)
    make_run(tmp_path, made, k=0, outputs=answers(half), **common)
    make_run(tmp_path, made, k=1, outputs=answers(few), **common)
    make_run(tmp_path, made, k=4, outputs=answers(one), **common)
    make_run(tmp_path, made, retriever="random", k=4, outputs=answers(half), **common)
    return made


def rows(capsys, *words: str) -> list[dict[str, str]]:
    assert main([*words, "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_the_table_has_the_lowest_in_bold_and_a_star(task, tmp_path, capsys):
    found = rows(capsys, "ablation", "--runs", str(tmp_path))
    for metric in task.metrics:
        mine = [
            row
            for row in found
            if (row["metric"], row["what"]) == (metric.name, "value") and row["value"]
        ]
        best = {r["column"] for r in mine if r["note"] == "best"}
        assert best == {"k=4"}
        lowest = min(mine, key=lambda row: float(row["value"]))
        assert lowest["note"] == "best"
        (p,) = (
            float(r["value"])
            for r in found
            if r["metric"] == metric.name and r["column"] == "k=4" and r["what"] == "p (Holm)"
            and r["retriever"] == "bm25"
        )  # fmt: skip
        assert p < 0.05
    notes = [row["note"] for row in found if row["what"] == "note"]
    assert any("words too many or too few" in note for note in notes)


def test_every_comparison_calls_it_better_where_it_fell(task, tmp_path, capsys):
    against = ["tests", "--runs", str(tmp_path), "--against", "k=0", "--where", "k=0,4"]
    tested = rows(capsys, *against, "retriever=none,bm25")
    verdicts = [row["value"] for row in tested if row["column"] == "verdict"]
    assert verdicts == ["better"]
    (raw,) = [row for row in tested if row["column"] == "second - first" and row["what"] == "value"]
    assert float(raw["value"]) < 0
    runs = {(r.result.k, r.result.choices["retriever"]): r for r in find([tmp_path]).records}
    a, b = (str(runs[key].folder) for key in ((0, "bm25"), (4, "bm25")))
    compared = rows(capsys, "compare", a, b)
    verdicts = [row["value"] for row in compared if row["column"] == "verdict"]
    assert verdicts == ["better"] * len(task.metrics)
    changed = {r[""]: r["value"] for r in compared if r["table"].startswith("Questions")}
    assert (changed["B better"], changed["A better"]) == ("40.0", "1.0")


def test_gains_are_positive(task, tmp_path, capsys):
    found = rows(capsys, "personal", "--runs", str(tmp_path), "--where", "retriever=none,bm25")
    gains = [row for row in found if row["column"] == "gain" and row["what"] == "value"]
    assert [row["k"] for row in gains] == ["1", "4"] and all(float(r["value"]) > 0 for r in gains)
    helped = [float(row["value"]) for row in found if row["column"] == "helped"]
    hurt = [float(row["value"]) for row in found if row["column"] == "hurt"]
    assert all(more > less for more, less in zip(helped, hurt, strict=True))
    both = rows(capsys, "personal", "--runs", str(tmp_path), "--where", "k=4")
    (left,) = [row for row in both if row["column"] == "left to gain"]
    assert float(left["value"]) > 0
    cold = rows(capsys, "coldstart", "--runs", str(tmp_path), "--where", "k=4", "retriever=bm25")
    gains = [row for row in cold if row["column"] == "gain" and row["what"] == "value"]
    assert gains and all(float(row["value"]) > 0 for row in gains)


def test_plots_and_page_follow_its_direction(task, tmp_path, capsys):
    records = find([tmp_path]).records
    (runs,) = panels(records)
    assert not runs.higher and runs.best.facet("k") == 4
    assert sum(best_user_gains(runs)) > 0
    assert main(["html", "--runs", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    metric = task.main_metric.name
    assert f"{metric} (lower is better)" in text
    assert f"Best {metric}: " in text and "bm25 ipa with k=4" in text
    assert f'"higher":{{"{metric}":false' in text
