"""Reads the answers of candidates' runs; writes a run that takes each answer from one of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.results.folder import EXAMPLES, PREDICTIONS, PROMPTS, RunFolder
from lamp_exp.storage import atomic
from lamp_exp.values import Choice, Prediction

CHOSEN, PROBABILITY, SCORE = "chosen_candidate", "probability", "score_of_"  # columns of examples
SUMS = {  # counts of a run, and the columns of its examples that they are the sums of
    "prompt_tokens": "prompt_tokens",
    "items_lost": "items_lost",
    "texts_cut": "texts_cut",
    "passages_cut": "passages_cut",
}


@dataclass(frozen=True)
class CandidateAnswers:
    """The answers of a candidate's finished run, question by question in the part's order.

    The run may be one on each fold of the part: then the questions of `ids` are looked up in all.
    """

    folders: tuple[RunFolder, ...]
    ids: Sequence[str]

    @cached_property
    def _rows(self) -> list[tuple[int, int]]:
        """Which run has each question, and its row there."""
        place = {
            id: (number, row)
            for number, table in enumerate(self._tables)
            for row, id in enumerate(table.column("id").to_pylist())
        }
        try:
            return [place[id] for id in self.ids]
        except KeyError as error:
            names = ", ".join(folder.name for folder in self.folders)
            raise InputError(f"{names}: question {error} is missing: rerun=true") from error

    @cached_property
    def _tables(self) -> list[Any]:
        import pyarrow.parquet

        return [pyarrow.parquet.read_table(folder.path / EXAMPLES) for folder in self.folders]

    def column(self, name: str) -> list[Any]:
        """A column of the questions' examples."""
        columns = [table.column(name).to_pylist() for table in self._tables]
        return [columns[number][row] for number, row in self._rows]

    @cached_property
    def prompts(self) -> list[dict[str, Any]]:
        """The lines of the prompts: passages and items."""
        lines = [_json_lines(folder) for folder in self.folders]
        return [lines[number][row] for number, row in self._rows]

    @cached_property
    def official(self) -> list[dict[str, Any]]:
        """The answers as the official format has them."""
        found = [atomic.read_json(folder.path / PREDICTIONS)["golds"] for folder in self.folders]
        return [found[number][row] for number, row in self._rows]

    @cached_property
    def table(self) -> Any:
        """All columns of the examples."""
        import pyarrow as pa

        starts = [0]
        for table in self._tables:
            starts.append(starts[-1] + table.num_rows)
        whole = pa.concat_tables(self._tables, promote_options="permissive")
        return whole.take([starts[number] + row for number, row in self._rows])


def _json_lines(folder: RunFolder) -> list[dict[str, Any]]:
    with (folder.path / PROMPTS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_chosen(
    folder: RunFolder,
    task: str,
    candidates: Mapping[str, CandidateAnswers],
    choices: Sequence[Choice],
    score_column: str | None,
) -> None:
    """Writes predictions, prompts and examples of the chosen candidates.

    `examples.parquet` also has the chosen candidate and its probability, and what each candidate
    scored (`score_column`), if the golds are known.
    """
    import pyarrow as pa
    import pyarrow.parquet

    names, answers = list(candidates), list(candidates.values())
    places = [(choice.candidate, row) for row, choice in enumerate(choices)]
    official = [answers[number].official[row] for number, row in places]
    atomic.write_json(folder.path / PREDICTIONS, {"task": task, "golds": official})
    with (folder.path / PROMPTS).open("w", encoding="utf-8") as file:
        for number, row in places:
            file.write(json.dumps(answers[number].prompts[row], ensure_ascii=False) + "\n")
    whole = pa.concat_tables([one.table for one in answers], promote_options="permissive")
    table = whole.take([number * len(choices) + row for number, row in places])
    columns = {
        CHOSEN: pa.array([names[number] for number, _ in places], pa.string()),
        PROBABILITY: pa.array(
            [None if c.probabilities is None else c.probabilities[c.candidate] for c in choices],
            pa.float64(),
        ),
    }
    if score_column is not None:
        for name, one in candidates.items():
            columns[f"{SCORE}{name}"] = pa.array(one.column(score_column), pa.float64())
    for name, values in columns.items():
        table = table.append_column(name, values)
    pyarrow.parquet.write_table(table, folder.path / EXAMPLES)


def chosen_predictions(folder: RunFolder) -> list[Prediction]:
    """The answers in a run's examples."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(folder.path / EXAMPLES).to_pylist()
    return [
        Prediction(
            row["id"], row["prediction"], row["output_tokens"], row["output_capped"],
            row.get("raw_output"),
        )
        for row in rows
    ]  # fmt: skip


def prompt_counts(folder: RunFolder) -> dict[str, int]:
    """What the prompts of a run hold, and what was cut or did not fit."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder.path / EXAMPLES)
    lost = table.column("items_lost").to_pylist()
    prompts = _json_lines(folder)
    counts = Counter({name: sum(table.column(column).to_pylist()) for name, column in SUMS.items()})
    counts["prompts_that_lost_items"] = sum(number > 0 for number in lost)
    counts["items_shown"] = sum(len(prompt["items"]) for prompt in prompts)
    counts["passages"] = sum(len(prompt["passages"]) for prompt in prompts)
    return dict(counts)
