"""The likelihood of golds, against generating answers: what feedback costs by either reward."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from lamp_exp.experiment.ranking import rank_part
from lamp_exp.experiment.stages import load_parts, make_prompt
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import Prompt
from tests.benchmarks.models import SMALL, seq2seq, side_by_side
from tests.conftest import build, trainer

FOUR_LAYERS = {**SMALL, "num_layers": 4}
ITEMS = 16
QUESTIONS = 24


def single_item_prompts(
    shared: Path, tokenizer: Path, task: str, questions: int
) -> list[tuple[list[Prompt], str]]:
    """Real questions: the prompts with one of BM25's best items each, and the gold."""
    made, _ = build(
        f"task={task}", f"data_dir={shared / 'data'}", f"limit={questions}", "max_length=512",
        "mode=prompts", "part=dev", "k=1", "model=tiny", f"model.name={tokenizer}",
    )  # fmt: skip
    part = load_parts(made).asked
    cache = RankingCache(made.data.cache_dir / "rankings")
    rankings = rank_part(made.retrieval.retriever, made.task, part, cache, {"of": "benchmark"})
    return [
        (
            [make_prompt(made, example, [hit]) for hit in rankings.hits(row, example)[:ITEMS]],
            str(example.target),
        )
        for row, example in enumerate(part.examples)
    ]


@torch.no_grad()
@pytest.mark.parametrize(("against", "least"), [("transformers", 4.0), ("own", 2.0)])
def test_likelihoods_against_generation(
    benchmark, shared: Path, t5_tokenizer: Path, against: str, least: float
):
    """LaMP-5, a T5 of 4 layers and width 256; answers have 4 beams and the golds' lengths.

    A batch of 16 prompts is generated until the longest of its golds would end, as a batch lasts as
    long as its longest answer; ours are of similar length, those of transformers in their order.
    Most of the likelihood pass is the encoder, which generation needs as well.
    """
    groups = single_item_prompts(shared, t5_tokenizer, "lamp5", QUESTIONS)
    tokenizer = load_tokenizer(str(t5_tokenizer))
    golds = [len(tokenizer(gold)["input_ids"]) for _, gold in groups]
    model = seq2seq(
        str(t5_tokenizer), FOUR_LAYERS, max_new_tokens=max(golds), predict_batch_size=ITEMS
    )
    model.generation["suppress_tokens"] = [tokenizer.eos_token_id]
    numbered = [
        Prompt(f"{question}:{item}", prompt.passages, tokens=prompt.tokens)
        for question, (prompts, _) in enumerate(groups)
        for item, prompt in enumerate(prompts)
    ]
    generate = model.generate

    def longest(ids: Iterable[str]) -> int:
        return max(golds[int(id.partition(":")[0])] for id in ids)

    def generate_to_the_longest(batch: dict[str, Any]) -> torch.Tensor:
        return generate(batch, max_new_tokens=longest(batch["ids"]))

    def ours() -> object:
        return model.log_likelihoods(groups, trainer)

    def generated() -> object:
        if against == "own":
            with patch.object(model, "generate", generate_to_the_longest):
                return model.predict(numbered, trainer)
        limit = {"max_length": 512, "truncation": True, "padding": True}
        for start in range(0, len(numbered), ITEMS):
            prompts = numbered[start : start + ITEMS]
            texts = [prompt.passages[0] for prompt in prompts]
            options = {"num_beams": 4, "max_new_tokens": longest(prompt.id for prompt in prompts)}
            batch = model.tokenizer(texts, return_tensors="pt", **limit)
            model.net.generate(**batch, **options, suppress_tokens=[1])
        return None

    model.eval()
    benchmark.extra_info["tokens of a gold"] = round(sum(golds) / len(golds), 1)
    assert side_by_side(benchmark, ours, generated) >= least


@pytest.mark.parametrize("task", ["lamp1", "lamp5"])
def test_what_the_prompts_of_a_question_share(benchmark, shared: Path, t5_tokenizer: Path, task):
    """The share of their tokens that is a common beginning, which could be read once."""
    tokenizer = load_tokenizer(str(t5_tokenizer))

    def share() -> float:
        common = total = 0
        for prompts, _ in single_item_prompts(shared, t5_tokenizer, task, 20):
            rows = [tokenizer(prompt.passages[0])["input_ids"] for prompt in prompts]
            together = enumerate(zip(*rows, strict=False))
            begin = next((n for n, tokens in together if len(set(tokens)) > 1), 0)
            common += begin * len(rows)
            total += sum(map(len, rows))
        return common / total

    benchmark.extra_info["share"] = round(benchmark.pedantic(share, rounds=1), 3)
    assert 0 <= benchmark.extra_info["share"] < 1
