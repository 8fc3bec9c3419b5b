"""Which options of transformers' GenerationConfig answers obey; needs no library to check names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lamp_exp.errors import InputError, did_you_mean

GENERATION_OPTIONS = frozenset({  # of GenerationConfig: those that answers obey
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff",
    "eta_cutoff", "num_beams", "early_stopping", "length_penalty", "min_length", "min_new_tokens",
    "guidance_scale", "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
    "exponential_decay_length_penalty", "renormalize_logits", "remove_invalid_values",
    "decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache",
    "cache_implementation", "cache_config", "disable_compile",
})  # fmt: skip
FIXED_GENERATION = {
    "max_new_tokens": "use max_new_tokens",
    "max_length": "use max_new_tokens",
    "max_time": "answers would depend on the machine: use max_new_tokens",
    "num_return_sequences": "each question has one answer",
}
COUNTS = {  # generation ignores them where they are negative
    "top_k", "min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
}  # fmt: skip


def check_generation(options: Mapping[str, Any]) -> None:
    """Raises InputError for an option that is unknown, would have no effect, or is out of range.

    What remains only transformers can check.
    """
    for name, value in options.items():
        if name not in GENERATION_OPTIONS:
            hint = did_you_mean(name, GENERATION_OPTIONS) or ": answers here do not obey it"
            reason = FIXED_GENERATION.get(name)
            fault = f"cannot be set: {reason}" if reason else f"is no generation option{hint}"
            raise InputError(f"model.generation.{name} {fault}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"model.generation.{name}={value} must be a finite number")
        if name in COUNTS and isinstance(value, int) and value < 0:
            raise InputError(f"model.generation.{name}={value} must be at least 0")
        if name == "do_sample" and value not in (None, True, False):
            raise InputError(f"model.generation.{name}={value} must be true or false")
