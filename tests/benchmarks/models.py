"""What the benchmarks of models share: real prompts, random networks, and ratios side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from lamp_exp.experiment.stages import load_parts, make_prompts, rank
from lamp_exp.models.causal import Causal
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.models.token_counter import load_tokenizer
from lamp_exp.models.training import IGNORED, TrainableModel
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import Prompt
from tests.conftest import build, settings

SMALL = {  # FLAN-T5-small's kind, at half its width and with two of its eight layers
    "d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 6,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip


def side_by_side(
    benchmark: Any, fast: Callable[[], Any], slow: Callable[[], Any], rounds: int = 2
) -> float:
    """How many times as fast `fast` is: the median over rounds in which both run in turn.

    In seconds of the processor, which others' work on the machine does not lengthen.
    """
    fast(), slow()
    ratios = []
    for _ in range(rounds):
        start = time.process_time()
        slow()
        between = time.process_time()
        fast()
        ratios.append((between - start) / (time.process_time() - between))
    benchmark.pedantic(fast, rounds=1)
    ratio = statistics.median(ratios)
    benchmark.extra_info["ratio"] = round(ratio, 2)
    benchmark.extra_info["ratios"] = [round(one, 2) for one in ratios]
    return ratio


def prompts_of(*overrides: str, part: str = "train") -> list[tuple[Prompt, str]]:
    """Prompts as a run makes them, with their golds."""
    made, configuration = build("mode=prompts", f"part={part}", "retriever=bm25", *overrides)
    asked = load_parts(made).asked
    cache = RankingCache(made.data.cache_dir / "rankings")
    prompts = make_prompts(made, asked, rank(made, configuration, cache, asked)).prompts
    return list(zip(prompts, asked.examples.column("target"), strict=True))


def real_prompts(
    shared: Path, tokenizer: Path, augmentation: str, k: int, limit: int
) -> list[tuple[Prompt, str]]:
    """Of LaMP-5's real text, with FLAN-T5's tokenizer."""
    words = ["task=lamp5", f"data_dir={shared / 'data'}", "max_length=512", f"limit={limit}"]
    model = ["model=tiny", f"model.name={tokenizer}"]
    return prompts_of(*words, *model, f"augmentation={augmentation}", f"k={k}")


def seq2seq(tokenizer: str | None, sizes: dict[str, Any] = SMALL, **changes: Any) -> Seq2Seq:
    """A T5 with random weights."""
    torch.manual_seed(0)
    given = settings(**{"max_length": 512, "max_new_tokens": 32, **changes})
    made = Seq2Seq(tokenizer, given, {"num_beams": 4}, fresh=sizes)
    made.configure_model()
    return made


def causal(tokenizer_folder: str, folder: Path) -> Causal:
    """Llama's shape, small, with random weights, saved in `folder`."""
    tokenizer = load_tokenizer(tokenizer_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    config = LlamaConfig(**sizes, **heads, **ends, vocab_size=len(tokenizer))
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    suppressed = {"do_sample": False, "suppress_tokens": [tokenizer.eos_token_id]}
    made = Causal(str(folder), settings(max_length=512, max_new_tokens=4), suppressed)
    made.configure_model()
    return made.eval()


def padded_as_they_come(model: Seq2Seq, pairs: Sequence[tuple[Prompt, str]]) -> torch.Tensor:
    """The loss of a batch the straightforward way: every passage as long as the longest one."""
    most = max(len(prompt.passages) for prompt, _ in pairs)
    texts = [[*prompt.passages, *[""] * (most - len(prompt.passages))] for prompt, _ in pairs]
    limit = {"max_length": 512, "truncation": True, "padding": True, "return_tensors": "pt"}
    read = model.tokenizer([text for row in texts for text in row], **limit).to(model.device)
    present = torch.tensor([[n < len(p.passages) for n in range(most)] for p, _ in pairs])
    mask = read["attention_mask"] * present.view(-1, 1).to(model.device)
    golds = model.tokenizer([gold for _, gold in pairs], padding=True, return_tensors="pt")
    labels = golds["input_ids"].masked_fill(golds["attention_mask"] == 0, IGNORED)
    encoder = model.net.get_encoder()
    states = encoder(input_ids=read["input_ids"], attention_mask=mask).last_hidden_state
    loss: torch.Tensor = model.net(
        encoder_outputs=BaseModelOutput(
            last_hidden_state=states.view(len(pairs), -1, states.shape[-1])
        ),
        attention_mask=mask.view(len(pairs), -1),
        labels=labels.to(model.device),
    ).loss
    return loss


def step(model: TrainableModel, loss: torch.Tensor) -> float:
    """Gradients of a loss, and the loss."""
    model.zero_grad()
    loss.backward()
    return loss.item()


def own_loss(model: TrainableModel, pairs: Sequence[tuple[Prompt, str]]) -> torch.Tensor:
    """The loss of a batch as training computes it."""
    prompts, golds = zip(*pairs, strict=True)
    batch = model.collate(prompts, golds)
    summed, tokens = model.loss(model.transfer_batch_to_device(batch, model.device, 0))
    return summed / tokens
