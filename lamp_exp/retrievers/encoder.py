"""Loads sentence encoders from the hub or a folder."""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from lamp_exp.errors import InputError
from lamp_exp.hub import LOAD_ERRORS, check_vocabulary, load_error, only_local_files


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


def _longest_input(encoder: SentenceTransformer) -> int | None:
    """The number of positions, if they are learned; some families count from the padding's on."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None
