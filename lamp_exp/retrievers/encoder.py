"""Loads sentence encoders from the hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lamp_exp.errors import InputError
from lamp_exp.hub import (
    LOAD_ERRORS,
    check_vocabulary,
    check_weight_files,
    load_error,
    only_local_files,
    refuse_missing_weights,
)

SAMPLE_TOKENIZER = Path(__file__).parent.parent / "models" / "tiny"


def load_encoder(name: str, max_length: int, device: str | None) -> SentenceTransformer:
    """The encoder from a hub id or a folder, which truncates texts at `max_length` tokens.

    Raises InputError if it cannot be loaded, lacks weights or its tokenizer, or reads fewer tokens.
    """
    transformers_logging.disable_progress_bar()  # of loading; encoding has one
    local = only_local_files(name)
    try:
        for folder in _folders_of(name):
            check_weight_files(folder)
        with _collect_missing_weights() as missing:
            encoder = SentenceTransformer(name, device=device, local_files_only=local)
    except LOAD_ERRORS as error:
        raise load_error("retriever.name", name, "sentence encoder", error) from error
    # A pooler reads the last states, and no vector is made of what it returns.
    refuse_missing_weights(f"retriever.name={name}", [n for n in missing if "pooler." not in n])
    if hasattr(encoder[0], "auto_model"):  # a transformer
        embeddings = encoder[0].auto_model.get_input_embeddings().num_embeddings
        check_vocabulary(encoder.tokenizer, f"retriever.name={name}", embeddings)
        if encoder.tokenizer.pad_token is None:
            raise InputError(
                f"retriever.name={name}: its tokenizer has no pad_token: name one in its "
                "tokenizer_config.json"
            )
    longest = longest_input(encoder)
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
    tokenizer, config = fresh_bert(sizes, max_length)
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load_encoder(folder, max_length, device)


def _folders_of(name: str) -> list[Path]:
    """The folder of an encoder, and those of its modules, which may hold weights, too."""
    folder = Path(name)
    return [folder, *filter(Path.is_dir, folder.iterdir())] if folder.is_dir() else []


@contextmanager
def _collect_missing_weights() -> Iterator[list[str]]:
    """Collects the parameters that no file of a network has, while one is loaded.

    Transformers fills them with random numbers; sentence-transformers does not return which.
    """
    missing: list[str] = []
    original = vars(PreTrainedModel)["from_pretrained"]  # the class method itself, not bound

    def load(cls: type[PreTrainedModel], *args: Any, **options: Any) -> PreTrainedModel:
        network, info = original.__func__(cls, *args, **{**options, "output_loading_info": True})
        missing.extend(info["missing_keys"])
        return network

    PreTrainedModel.from_pretrained = classmethod(load)
    try:
        yield missing
    finally:
        PreTrainedModel.from_pretrained = original


def fresh_bert(
    sizes: Mapping[str, Any], max_length: int, **fields: Any
) -> tuple[PreTrainedTokenizerBase, BertConfig]:
    """The tokenizer of the made-up sample, and a BERT's configuration for its vocabulary.

    `sizes` and `fields` are fields of BertConfig.
    """
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE_TOKENIZER)
    own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return tokenizer, BertConfig(
        **{**own, "max_position_embeddings": max_length, **sizes, **fields}
    )


def longest_input(network: torch.nn.Module) -> int | None:
    """The number of positions, if they are learned; some families count from the padding's on."""
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None
