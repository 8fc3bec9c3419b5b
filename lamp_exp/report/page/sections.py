"""What stands on the page, one line a section. To add one: a function from records to Content."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.report.build import Look, tables
from lamp_exp.report.layouts import LAYOUTS
from lamp_exp.report.page import coldstart, figures
from lamp_exp.report.page.content import Content, Section
from lamp_exp.report.records import Record
from lamp_exp.report.selection import facet, order, shown
from lamp_exp.report.table import Cell, Row, Table, number

HEADS = ("task", "split", "part", "mode", "model", "retriever", "augmentation", "k", "seed")
ALWAYS = {"task", "retriever", "augmentation", "k"}


def runs(records: Sequence[Record]) -> Content:
    """Every run, with its metrics and what it took."""
    metrics = tuple(sorted({name for record in records for name in record.metrics}))
    values = {key: {shown(facet(record, key)) for record in records} for key in HEADS}
    heads = tuple(key for key in HEADS if key in ALWAYS or len(values[key]) > 1)
    shared = [f"{key} {values[key].pop()}" for key in HEADS if key not in heads]
    by_heads = sorted(records, key=lambda record: [order(facet(record, key)) for key in heads])
    columns = (*metrics, "questions", "seconds", "run")
    rows = tuple(_row(record, heads, metrics) for record in by_heads)
    words = (f"All: {', '.join(shared)}.",) if shared else ()
    return Content(words, tables=(Table("All runs", heads, columns, rows),))


def _row(record: Record, heads: Sequence[str], metrics: Sequence[str]) -> Row:
    head = tuple(shown(facet(record, key)) for key in heads)
    values = (number(record.metrics.get(name)) for name in metrics)
    taken = record.result["seconds"].values()  # none of predictions made elsewhere
    seconds = sum(map(float, taken)) if taken else None
    questions = Cell(str(record.questions), float(record.questions))
    return Row(head, (*values, questions, number(seconds, 1), Cell(record.name)))


def results(records: Sequence[Record]) -> Content:
    """Means over seeds, with intervals, tests against no profile, and published numbers."""
    return Content(tables=tuple(tables(records, LAYOUTS["ablation"], Look())))


SECTIONS = (
    Section("results", "Results", results),
    Section("retrievers", "Tasks and retrievers", figures.heat_maps),
    Section("k", "Over k", figures.k_curves),
    Section("gain", "Gain by user", figures.gains),
    Section("coldstart", "Cold start", coldstart.cold_starts),
    Section("cost", "Cost", figures.costs),
    Section("runs", "Runs", runs),
)
