"""What stands on the page, one line a section. To add one: a function from records to Content."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.report.build import Look, tables
from lamp_exp.report.layouts import LAYOUTS
from lamp_exp.report.page import figures
from lamp_exp.report.page.content import Content, Section
from lamp_exp.report.records import Record
from lamp_exp.report.selection import facet, order, shown
from lamp_exp.report.table import Cell, Row, Table, number

HEADS = ("task", "split", "part", "mode", "model", "retriever", "augmentation", "k", "seed")


def runs(records: Sequence[Record]) -> Content:
    """Every run, with its metrics and what it took."""
    metrics = tuple(sorted({name for record in records for name in record.metrics}))
    by_heads = sorted(records, key=lambda record: [order(facet(record, key)) for key in HEADS])
    columns = (*metrics, "questions", "seconds", "run")
    rows = tuple(_row(record, metrics) for record in by_heads)
    return Content(tables=(Table("All runs", HEADS, columns, rows),))


def _row(record: Record, metrics: Sequence[str]) -> Row:
    head = tuple(shown(facet(record, key)) for key in HEADS)
    values = (number(record.metrics.get(name)) for name in metrics)
    seconds = sum(float(value) for value in record.result["seconds"].values())
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
    Section("cost", "Cost", figures.costs),
    Section("runs", "Runs", runs),
)
