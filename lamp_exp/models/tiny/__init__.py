"""A small encoder-decoder with a vocabulary of its own, for first runs and tests.

The tokenizer beside this file knows the words of the made-up sample and of LaMP's prompts whole,
other words by their characters. `tests/make_tiny_tokenizer.py` wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamp_exp.models.prediction import FREE
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.values import ModelSettings


class Tiny(Seq2Seq):
    """A T5 of the described size; without a `name`, with this folder's tokenizer."""

    def __init__(
        self,
        name: str | None,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        dtype: str = "float32",
        fresh: Mapping[str, Any] | None = None,
        decoding: str = FREE,
    ) -> None:
        """`fresh` holds the sizes (T5Config's fields) of a network that has no weights yet."""
        name = name or str(Path(__file__).parent)
        super().__init__(name, settings, generation, dtype, fresh, decoding)
