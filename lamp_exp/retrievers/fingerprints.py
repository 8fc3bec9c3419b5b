"""Splits many texts into words and hashes each to 64 bits.

A word of up to eight bytes is its own number, mixed; the bytes of a longer one are mixed into 64
bits. Sorting these numbers replaces dictionaries of words, which took most of the time.
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
    """The hashes of all words, text after text in reading order, and how many each text has.

    `separators` is a translation table of bytes (`bytes.translate`); spaces separate words.
    """
    text = " ".join(texts)
    if text.isascii():
        sizes = list(map(len, texts))
        content = text.encode("ascii")
    else:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        sizes = list(map(len, encoded))
        content = b" ".join(encoded)
    content = b"".join([b" ", content, b" " * _BLOCK]).translate(separators)
    spaces = np.flatnonzero(np.frombuffer(content, np.uint8) == _SPACE)
    starts, ends = spaces[:-_BLOCK] + 1, spaces[1 : 1 - _BLOCK]
    if (starts == ends).any():  # two spaces in a row have no word between them
        words = np.flatnonzero(starts < ends)
        starts, ends = starts[words], ends[words]
    text_ends = np.cumsum(np.array(sizes) + 1)
    counts = np.diff(np.searchsorted(starts, text_ends), prepend=0)
    return _hashes(content, starts, ends - starts), counts


def _hashes(content: bytes, starts: Numbers, lengths: Numbers) -> Fingerprints:
    """One number for each word of `content`, eight bytes at a time."""
    blocks = np.ndarray((len(content) - _BLOCK + 1,), "<u8", content, strides=(1,))
    hashes = blocks[starts] & _FIRST_BYTES.take(lengths, mode="clip")
    longer, done = np.flatnonzero(lengths > _BLOCK), _BLOCK
    while len(longer):
        mask = _FIRST_BYTES.take(lengths[longer] - done, mode="clip")
        block = blocks[starts[longer] + done] & mask
        mixed = hashes[longer] * _MIX
        hashes[longer] = mixed ^ (mixed >> _HALF) ^ block
        done += _BLOCK
        longer = longer[lengths[longer] > done]
    return hashes * _MIX
