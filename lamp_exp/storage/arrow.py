"""Arrow arrays from Python and numpy values and back.

Those of pyarrow itself import pandas or pyarrow.compute, which takes longer than most work here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


def number_array(values: NDArray[Any]) -> pa.Array:
    """Numbers, in the memory of `values`."""
    arrow_type = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(arrow_type, len(values), [None, pa.py_buffer(values)])


def string_array(texts: Sequence[str]) -> pa.StringArray:
    """Texts, none of them null."""
    content = [text.encode("utf-8") for text in texts]
    buffers = [None, pa.py_buffer(_offsets(content)), pa.py_buffer(b"".join(content))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def list_array(lists: Sequence[Sequence[float]], dtype: DTypeLike) -> pa.ListArray:
    """Lists of numbers, none of them null."""
    offsets = _offsets(lists)
    values = np.fromiter(chain.from_iterable(lists), dtype, int(offsets[-1]))
    return pa.ListArray.from_arrays(number_array(offsets), number_array(values))


def numbers(array: pa.Array, dtype: DTypeLike) -> NDArray[Any]:
    """The values of an array of numbers that has no nulls, in its memory."""
    if not len(array):
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[-1], dtype)[array.offset : array.offset + len(array)]


def times(array: pa.TimestampArray) -> NDArray[np.datetime64]:
    """Times in microseconds; NaT for null."""
    if array.null_count == len(array):
        return np.full(len(array), "NaT", "datetime64[us]")
    values = numbers(array, "datetime64[us]")
    if not array.null_count:
        return values
    valid = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    valid = valid[array.offset : array.offset + len(array)]
    return np.where(valid, values, np.datetime64("NaT", "us"))


def lengths(lists: pa.ListArray) -> NDArray[np.int64]:
    return np.diff(numbers(lists.offsets, np.int32)).astype(np.int64)


def flattened(lists: pa.ListArray) -> pa.Array:
    """The values of all lists, one after the other."""
    offsets = numbers(lists.offsets, np.int32)
    return lists.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def strings(array: pa.StringArray) -> list[Any]:
    """Texts, None for null."""
    if array.null_count == len(array):
        return [None] * len(array)
    if array.null_count:
        values: list[Any] = array.to_pylist()
        return values
    _, ends, content = array.buffers()
    offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
    raw = memoryview(content or b"")[offsets[0] : offsets[-1]]
    places = pairwise((offsets - offsets[0]).tolist())
    text = str(raw, "utf-8")
    if text.isascii():  # so that places in bytes are places in the text
        return [text[first:last] for first, last in places]
    return [str(raw[first:last], "utf-8") for first, last in places]


def _offsets(values: Sequence[Sequence[Any]]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, values)], dtype=np.int32)
