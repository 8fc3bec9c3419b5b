"""One learned prompt for all users: prompt tuning (Lester et al., arXiv 2104.08691), as in peft.

It reads no profile, and is the control of what vectors of users gain (`user_vector`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PromptEmbedding, PromptTuningConfig
from safetensors.torch import load_file, save_file

from lamp_exp.adapters.learned_tokens import LearnedTokens, Shown, TokenNetwork
from lamp_exp.models.batches import derived_seed
from lamp_exp.models.training import TrainableModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
NAME = "prompt_embeddings"  # of the weights in peft's file


class SoftPrompt(LearnedTokens):
    """Learns `soft_tokens` vectors that stand in front of every prompt.

    They start as the embeddings of words drawn from the vocabulary.
    """

    uses_profile = False

    def new_network(self, model: TrainableModel) -> TokenNetwork:
        return PromptNetwork(self.number, model, derived_seed(self.recipe.seed, "soft prompt"))

    def save(self, network: TokenNetwork, folder: Path) -> None:
        """Writes a folder of peft, which `PeftModel.from_pretrained` loads."""
        assert isinstance(network, PromptNetwork), "`new_network` makes it"
        weight = network.prompt.embedding.weight.detach().cpu().contiguous()
        save_file({NAME: weight}, folder / WEIGHTS, metadata={"format": "pt"})
        content = {**network.config.to_dict(), "inference_mode": True}
        text = json.dumps(content, indent=2, sort_keys=True, default=str)
        (folder / CONFIG).write_text(text, encoding="utf-8")

    def read(self, network: TokenNetwork, folder: Path) -> None:
        assert isinstance(network, PromptNetwork), "`new_network` makes it"
        weight = network.prompt.embedding.weight
        with torch.no_grad():
            weight.copy_(load_file(folder / WEIGHTS)[NAME])


class PromptNetwork(TokenNetwork):
    """Peft's embeddings of virtual tokens, alike for all questions."""

    def __init__(self, number: int, model: TrainableModel, seed: int) -> None:
        super().__init__()
        words = model.net.get_input_embeddings()
        self.config = PromptTuningConfig(
            task_type="SEQ_2_SEQ_LM" if model.net.config.is_encoder_decoder else "CAUSAL_LM",
            num_virtual_tokens=number,
            token_dim=words.weight.shape[1],
            num_transformer_submodules=1,
            prompt_tuning_init="SAMPLE_VOCAB",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prompt = PromptEmbedding(self.config, words)
        self.register_buffer("places", torch.arange(number), persistent=False)

    def tokens(self, questions: Sequence[Shown]) -> torch.Tensor:
        vectors: torch.Tensor = self.prompt(self.places)
        return vectors.expand(len(questions), -1, -1)
