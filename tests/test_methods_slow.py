"""The field in one command, on few questions: all of it runs, and interrupted, it ends alike."""

from __future__ import annotations

import pytest

from lamp_exp.report.methods import methods_tables
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.artefacts import ArtefactStore
from tests.test_report_science import records
from tests.test_sweep import summary_of

pytestmark = pytest.mark.slow
FEW = [
    "-m", "+sweep=methods", "experiment=methods_tiny", "task=lamp4", "limit=60",
    "hydra.sweeper.reader={mode:finetune,split:user,selection:holdout,trainer.max_epochs:2}",
    "feedback.items=3", "trainer.enable_progress_bar=false",
    *(f"++hydra.sweeper.changed_rows.{name}.adapter.epochs=1"
      for name in ("user_lora", "user_lora_with_retrieval")),
]  # fmt: skip
NOT_RUN = {"contriever", "summary_llm"}


def table(summary: dict) -> list:
    return [[row["keys"], row["metrics"]] for row in summary["rows"]]


def test_the_field_runs_and_interrupted_it_ends_alike(lamp_exp, tmp_path, monkeypatch):
    made = iter(range(1000))
    real = ArtefactStore._make

    def interrupted(self, *given):
        if next(made) == 2:
            raise KeyboardInterrupt
        return real(self, *given)

    broken = [*FEW, f"output_dir={tmp_path / 'broken'}"]
    with monkeypatch.context() as patch:
        patch.setattr(ArtefactStore, "_make", interrupted)
        code, out, _ = lamp_exp(*broken)
    assert code == 130 and summary_of(out)["counts"]["stopped"] > 0
    code, out, err = lamp_exp(*broken)
    assert code == 0, err
    ended = summary_of(out)
    assert ended["counts"]["there"] > 0 and not ended["failures"]
    assert {line.split("row=")[1].split(":")[0] for line in ended["not_run"]} == NOT_RUN
    code, out, err = lamp_exp(*FEW, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    assert table(summary_of(out)) == table(ended)
    assert len(ended["rows"]) == 17  # 16 methods and their reader

    results = [RunFolder(path.parent).read() for path in tmp_path.glob("whole/*/result.json")]
    readers = {one.settings["model"]["name"] for one in results if one.mode == "zeroshot"}
    assert len(readers) == 1
    values = {one.run: one.main_value for one in results if one.split == "time"}
    (oracle,) = [one for one in results if one.choices["router"] == "oracle"]
    assert all(oracle.main_value >= values[one.run] for one in oracle.routing.candidates)
    metrics, *_ = methods_tables(records(tmp_path / "whole"))
    names = {row.head[1] for row in metrics.rows if row.kind == "value"}
    assert {"none", "rspg_pre", "rspg_post", "ropg_kd_fresh", "bm25 user_lora"} <= names
    assert {row.head[0] for row in metrics.rows} >= {"bound", "router", "adapter", "summary"}
