"""Loads sentence encoders from the hub or a folder."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from lamp_exp.errors import InputError, first_line
from lamp_exp.hub import only_local_files, why_missing


def load_encoder(name: str, max_length: int, device: str | None) -> SentenceTransformer:
    """The encoder from a hub id or a folder, which truncates texts at `max_length` tokens.

    Raises InputError if it cannot be loaded, lacks its tokenizer, or reads fewer tokens.
    """
    transformers_logging.disable_progress_bar()  # of loading; encoding has one
    local = only_local_files(name)
    try:
        encoder = SentenceTransformer(name, device=device, local_files_only=local)
    except (OSError, ValueError) as error:
        reason = first_line(error) if not local else why_missing(name)
        raise InputError(f"retriever.name={name}: no sentence encoder: {reason}") from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise InputError(
            f"retriever.name={name}: its weights cannot be loaded ({first_line(error)}): "
            "was the file cut off? Download it again"
        ) from error
    if hasattr(encoder[0], "auto_model"):  # a transformer
        _check_tokenizer(encoder, name)
    longest = _longest_input(encoder)
    if longest is not None and max_length > longest:
        raise InputError(
            f"retriever.max_length={max_length}: {name} reads at most {longest} tokens"
        )
    encoder.max_seq_length = max_length
    return encoder


def _check_tokenizer(encoder: SentenceTransformer, name: str) -> None:
    """Transformers makes an empty tokenizer for a folder without one: all words are unknown."""
    tokenizer = encoder.tokenizer
    words = len(tokenizer) - len(set(tokenizer.all_special_ids))
    if words <= 0:
        raise InputError(f"retriever.name={name}: it has weights, but no tokenizer's files")
    embeddings = encoder[0].auto_model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embeddings:
        raise InputError(
            f"retriever.name={name}: its tokenizer has {len(tokenizer)} tokens, but its weights "
            f"only {embeddings}: they belong to different encoders"
        )


def _longest_input(encoder: SentenceTransformer) -> int | None:
    """The number of positions, if they are learned; some families count from the padding's on."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None
