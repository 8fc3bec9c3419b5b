"""What a grid costs besides its model: five k × two augmentations of zero-shot prompts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.sweeps import command

# The sweep, with seconds of CPU taken at the end of each job and around all calls of a model.
SCRIPT = """
import json, sys, time
import lamp_exp.__main__ as program
from lamp_exp.sweeps import jobs
from lamp_exp.models.prediction import PredictionModel

ends, inside = [], []
answer, run_job = PredictionModel.answers, jobs.run_job

def answered(model, batch):
    start = time.process_time()
    try:
        return answer(model, batch)
    finally:
        inside.append((start, time.process_time() - start))

def run(cfg):
    run_job(cfg)
    ends.append(time.process_time())

PredictionModel.answers, jobs.run_job = answered, run
try:
    program.main()
finally:
    whole = time.process_time() - ends[0]
    model = sum(seconds for start, seconds in inside if start > ends[0])
    open(sys.argv[0] + ".json", "w").write(json.dumps([len(ends), whole, model]))
"""


def test_a_grid_costs_what_its_model_calls_cost(benchmark: Any, tmp_path: Path):
    def run(*words: str) -> None:
        made = subprocess.run(words, cwd=tmp_path, env=os.environ, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr.decode()[-2000:]

    (tmp_path / "timed.py").write_text(SCRIPT)
    # A checkpoint, of which fid may be asked, but as good as untrained: it writes to the limit.
    fit = ["experiment=first", "k=2", "limit=4", "trainer.max_epochs=1", "training.lr=1e-9"]
    run(*command(*fit))
    (learned,) = tmp_path.glob("outputs/*/checkpoint")
    grid = ["model=tiny", f"model.name={learned}", "mode=zeroshot", "trainer=cpu"]
    grid += ["augmentation=ipa,fid", "k=1,2,4,8,16", "trainer.enable_progress_bar=false"]
    sweep = [sys.executable, str(tmp_path / "timed.py"), "-m", *grid]
    benchmark.pedantic(run, args=sweep, rounds=1)
    jobs, whole, model = json.loads((tmp_path / "timed.py.json").read_text())
    assert jobs == 10
    benchmark.extra_info.update(seconds=whole, model=model, besides=round(1 - model / whole, 3))
    assert model / whole >= 0.9
