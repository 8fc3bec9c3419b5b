"""Users' vectors truly tell the user: measured on the made-up sample, with two controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_learning import metrics

LEARNS = ["mode=zeroshot", "k=0", "adapter.train_reader=true"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_user_vector_tells_what_a_prompt_for_all_users_cannot(tmp_path: Path, seed: int):
    """The reader learns along from random weights, as it does for k=0 without an adapter."""

    def value(*words: str) -> float:
        return metrics(tmp_path, "task=lamp4", f"seed={seed}", *words)["rouge_1"]

    none = value("k=0")
    prompt = value(*LEARNS, "adapter=soft_prompt")
    vector = value(*LEARNS, "adapter=user_vector_fresh")
    other = value(*LEARNS, "adapter=user_vector_fresh", "profile.control=shuffled_user")
    print(f"seed {seed}: k=0 {none:.3f}, soft prompt {prompt:.3f}, user vector {vector:.3f}, "
          f"another user's {other:.3f}")  # fmt: skip
    assert vector >= 0.85
    assert vector >= prompt + 0.40
    assert abs(other - none) <= 0.05
