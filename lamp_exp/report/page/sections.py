"""The sections of the page. To add one, write a function from records to Content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamp_exp.report.agreement import agreement_tables
from lamp_exp.report.coldstart import coldstart_tables
from lamp_exp.report.cost import cost_table, read_prices
from lamp_exp.report.layouts import LAYOUTS
from lamp_exp.report.loading import Record
from lamp_exp.report.metric_tables import TableOptions, metric_tables
from lamp_exp.report.page import cold_start_section as coldstart
from lamp_exp.report.page import figures
from lamp_exp.report.page.content import Content, Section
from lamp_exp.report.personal import personal_tables
from lamp_exp.report.selection import facet, order, shown
from lamp_exp.report.table import Cell, Row, Table, number

RUN_COLUMNS = ("task", "split", "part", "mode", "model", "retriever", "augmentation", "k", "seed")
ALWAYS_SHOWN = {"task", "retriever", "augmentation", "k"}


def runs(records: Sequence[Record]) -> Content:
    """Every run, with its metrics and its seconds."""
    metrics = tuple(sorted({name for record in records for name in record.metrics}))
    values = {key: {shown(facet(record, key)) for record in records} for key in RUN_COLUMNS}
    heads = tuple(key for key in RUN_COLUMNS if key in ALWAYS_SHOWN or len(values[key]) > 1)
    shared = [f"{key} {values[key].pop()}" for key in RUN_COLUMNS if key not in heads]
    by_heads = sorted(records, key=lambda record: [order(facet(record, key)) for key in heads])
    columns = (*metrics, "questions", "seconds", "run")
    rows = tuple(_row(record, heads, metrics) for record in by_heads)
    notes = (f"All: {', '.join(shared)}.",) if shared else ()
    return Content(notes, tables=(Table("All runs", heads, columns, rows),))


def _row(record: Record, heads: Sequence[str], metrics: Sequence[str]) -> Row:
    head = tuple(shown(facet(record, key)) for key in heads)
    values = (number(record.metrics.get(name)) for name in metrics)
    stages = record.result.seconds.values()  # none of imported predictions
    seconds = sum(map(float, stages)) if stages else None
    questions = Cell(str(record.questions), float(record.questions))
    return Row(head, (*values, questions, number(seconds, 1), Cell(record.name)))


def results(records: Sequence[Record]) -> Content:
    """Means over seeds, with intervals, tests against no profile, and published numbers."""
    return Content(tables=tuple(metric_tables(records, LAYOUTS["ablation"], TableOptions())))


def gain(records: Sequence[Record]) -> Content:
    """What the profile brings, and to whom."""
    return with_tables(figures.gains(records), personal_tables(records))


def cold_start(records: Sequence[Record]) -> Content:
    """By the size of the profile."""
    return with_tables(coldstart.cold_starts(records), coldstart_tables(records, "size", 5, ()))


def cost(records: Sequence[Record]) -> Content:
    """Quality against cost."""
    return with_tables(figures.costs(records), [cost_table(records, read_prices())])


def agreement(records: Sequence[Record]) -> Content:
    """How far retrievers show the same items."""
    return Content(tables=tuple(agreement_tables(records)))


def with_tables(content: Content, tables: Sequence[Table]) -> Content:
    """The content with tables below its plots."""
    return replace(content, tables=(*content.tables, *tables))


SECTIONS = (
    Section("results", "Results", results),
    Section("retrievers", "Tasks and retrievers", figures.heat_maps),
    Section("k", "Over k", figures.k_curves),
    Section("gain", "Gain by user", gain),
    Section("coldstart", "Cold start", cold_start),
    Section("cost", "Cost", cost),
    Section("agreement", "Agreement of retrievers", agreement),
    Section("runs", "Runs", runs),
)
