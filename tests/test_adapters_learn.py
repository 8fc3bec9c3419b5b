"""Adapters truly learn a user: measured on the made-up sample, with another user's as control."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_learning import metrics

STRONG = ["adapter=user_lora", "adapter.lr=1e-2", "adapter.dropout=0"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("task", "metric"), [("lamp4", "rouge_1"), ("lamp2", "accuracy")])
def test_an_adapter_brings_half_of_what_retrieval_brings(tmp_path: Path, task, metric, seed):
    """On weights that were fine-tuned without a profile; the same 40 users throughout."""

    def value(*words: str) -> float:
        found: float = metrics(tmp_path, f"task={task}", f"seed={seed}", *words)[metric]
        return found

    def checkpoint(k: int) -> list[str]:
        value(f"k={k}")
        (run,) = tmp_path.glob(f"{task}-*-finetune-*-k{k}-*")
        return ["mode=zeroshot", "limit=40", f"k={k}", f"model.name={run / 'checkpoint'}"]

    plain = checkpoint(0)
    none, retrieval = value(*plain), value(*checkpoint(4))
    lora = value(*plain, *STRONG)
    other = value(*plain, *STRONG, "profile.control=shuffled_user")
    print(f"{task} seed {seed}: none {none:.3f}, k=4 {retrieval:.3f}, lora {lora:.3f}, "
          f"another user's {other:.3f}")  # fmt: skip
    half = (retrieval - none) / 2
    assert half > 0.05
    assert lora - none >= half
    assert other - none < half
