"""The words of many texts as numbers, made by a few passes over their bytes.

A word of up to eight bytes is its own number, mixed; the bytes of a longer one are mixed into 64
bits. A sort of these numbers replaces the dictionaries of words, which took most of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Fingerprints = NDArray[np.uint64]
_SPACE, _BLOCK = 32, 8
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no two numbers are mixed into one
_HALF = np.uint64(32)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(_BLOCK + 1)], np.uint64)


def fingerprints(texts: Sequence[str], separators: bytes) -> tuple[Fingerprints, Numbers]:
    """The words of texts, text after text in reading order, and how many each text has.

    `separators` says what becomes of each byte: spaces are between words.
    """
    content = [text.encode("utf-8", "surrogatepass") for text in texts]
    joined = b" ".join([b"", *content, b" " * _BLOCK]).translate(separators)
    spaces = np.flatnonzero(np.frombuffer(joined, np.uint8) == _SPACE)
    lengths = np.diff(spaces) - 1
    real = np.flatnonzero(lengths)  # two spaces in a row have no word between them
    starts = spaces[real] + 1
    text_ends = np.cumsum([len(text) + 1 for text in content])
    words = np.diff(np.searchsorted(starts, text_ends), prepend=0)
    return _mixed(joined, starts, lengths[real]), words


def _mixed(content: bytes, starts: Numbers, lengths: Numbers) -> Fingerprints:
    """One number for each word of `content`, eight bytes at a time."""
    blocks = np.ndarray((len(content) - _BLOCK + 1,), "<u8", content, strides=(1,))
    made = blocks[starts] & _FIRST_BYTES[np.minimum(lengths, _BLOCK)]
    longer, done = np.flatnonzero(lengths > _BLOCK), _BLOCK
    while len(longer):
        left = np.minimum(lengths[longer] - done, _BLOCK)
        more = blocks[starts[longer] + done] & _FIRST_BYTES[left]
        mixed = made[longer] * _MIX
        made[longer] = mixed ^ (mixed >> _HALF) ^ more
        done += _BLOCK
        longer = longer[lengths[longer] > done]
    return made * _MIX
