"""Loads sentence encoders from the hub or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from lamp_exp.errors import InputError
from lamp_exp.hub import LOAD_ERRORS, check_vocabulary, load_error, only_local_files

SAMPLE_TOKENIZER = Path(__file__).parent.parent / "models" / "tiny"


def load_encoder(name: str, max_length: int, device: str | None) -> SentenceTransformer:
    """The encoder from a hub id or a folder, which truncates texts at `max_length` tokens.

    Raises InputError if it cannot be loaded, lacks its tokenizer, or reads fewer tokens.
    """
    transformers_logging.disable_progress_bar()  # of loading; encoding has one
    local = only_local_files(name)
    try:
        encoder = SentenceTransformer(name, device=device, local_files_only=local)
    except LOAD_ERRORS as error:
        raise load_error("retriever.name", name, "sentence encoder", error) from error
    if hasattr(encoder[0], "auto_model"):  # a transformer
        embeddings = encoder[0].auto_model.get_input_embeddings().num_embeddings
        check_vocabulary(encoder.tokenizer, f"retriever.name={name}", embeddings)
        if encoder.tokenizer.pad_token is None:
            raise InputError(
                f"retriever.name={name}: its tokenizer has no pad_token: name one in its "
                "tokenizer_config.json"
            )
    longest = _longest_input(encoder)
    if longest is not None and max_length > longest:
        raise InputError(
            f"retriever.max_length={max_length}: {name} reads at most {longest} tokens"
        )
    encoder.max_seq_length = max_length
    return encoder


def fresh_encoder(
    sizes: Mapping[str, Any], max_length: int, device: str | None, seed: int
) -> SentenceTransformer:
    """A BERT with random weights and the vocabulary of the made-up sample; the tokens' mean.

    `sizes` are fields of BertConfig. The weights depend on the seed alone.
    """
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE_TOKENIZER)
    config = BertConfig(
        **{
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": max_length,
            **sizes,
        }
    )
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load_encoder(folder, max_length, device)


def _longest_input(encoder: SentenceTransformer) -> int | None:
    """The number of positions, if they are learned; some families count from the padding's on."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None
